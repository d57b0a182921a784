"""The admins' signing keys: one file each, readable by its owner alone.

A key is 32 random bytes (an Ed25519 seed), kept as one line of base64 in `{name}.key` with mode 0600. Its public half
is what kiosks list in `commands.admin_keys` and `flags.keys`. The public halves of colleagues lie beside, in
`{name}.pub`: what they signed counts here, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.contract import new_file, seeds
from agent.contract.names import is_name
from agent.contract.signed import is_public_key, public_key
from agent.errors import KioskError


@dataclass(frozen=True, slots=True)
class Key:
    """One signing key."""

    name: str
    seed: bytes
    """Secret."""

    def __repr__(self) -> str:
        return f"Key({self.name})"

    @property
    def public(self) -> str:
        """What kiosks are told: "ed25519:…"."""
        return public_key(self.seed)


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where keys lie: $KIOSK_FLEET_KEYS, else below the user's own configuration."""
    chosen = environ.get("KIOSK_FLEET_KEYS")
    if chosen:
        return Path(chosen)
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kiosk-fleet" / "keys"


def make(where: Path, name: str) -> Key:
    """A new key. Never replaces one. Durable when it returns. Raises KioskError."""
    if not is_name(name):
        raise KioskError(
            "make key", place=name, cause="can't be a name", hint="use lower-case letters, digits, hyphens"
        )
    _directory("make key", where)
    return Key(name, seeds.make(where / f"{name}.key"))


def trust(where: Path, name: str, public: str) -> Path:
    """Remember a colleague's public half. Never replaces one. Durable when it returns. Raises KioskError."""
    if not is_name(name):
        raise KioskError(
            "trust key", place=name, cause="can't be a name", hint="use lower-case letters, digits, hyphens"
        )
    if not is_public_key(public):
        raise KioskError(
            "trust key",
            place=public[:60],
            cause="isn't a public key",
            hint="`kiosk-fleet keys list` shows your colleague theirs: ed25519:…",
        )
    path = where / f"{name}.pub"
    _directory("trust key", where)
    try:
        new_file.make(path, public.encode() + b"\n", mode=0o644)
    except FileExistsError as error:
        raise KioskError("trust key", place=str(path), cause="it exists", hint="choose another name") from error
    except OSError as error:
        raise _unwritable("trust key", path, error) from error
    return path


def trusted(where: Path) -> dict[str, str]:
    """Whose word counts on this machine: names by public half, own keys and colleagues'. Raises KioskError."""
    found = {key.public: key.name for key in every(where)}
    for path in sorted(where.glob("*.pub")):
        try:
            public = path.read_text("ascii", errors="replace").strip()
        except OSError as error:
            raise KioskError("read key", place=str(path), cause=error.strerror or str(error)) from error
        if not is_public_key(public):
            raise KioskError("read key", place=str(path), cause="it holds no public key", hint=f"remove {path}")
        found.setdefault(public, path.stem)
    return found


def load(path: Path) -> Key:
    """The key in a file. Raises KioskError when it isn't one, or others may read it."""
    hint = "`kiosk-fleet keys list` shows what there is, `kiosk-fleet keys make NAME` makes one"
    return Key(path.stem, seeds.load(path, hint))


def every(where: Path) -> Iterator[Key]:
    """All keys there, by name. Raises KioskError for one that can't be used."""
    for path in sorted(where.glob("*.key")):
        yield load(path)


def chosen(name: str | None, environ: Mapping[str, str] = os.environ) -> Key:
    """The key of that name or file, else $KIOSK_FLEET_KEY, else the only one there is. Raises KioskError."""
    where = directory(environ)
    wanted = name or environ.get("KIOSK_FLEET_KEY")
    if wanted:
        return load(Path(wanted) if "/" in wanted else where / f"{wanted}.key")
    found = list(every(where))
    if len(found) == 1:
        return found[0]
    raise KioskError(
        "sign",
        place=str(where),
        cause="there is no key" if not found else f"there are {len(found)} keys",
        hint="`kiosk-fleet keys make NAME` makes one" if not found else "say which with --key NAME",
    )


def _directory(operation: str, where: Path) -> None:
    try:
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unwritable(operation, where, error) from error


def _unwritable(operation: str, path: Path, error: OSError) -> KioskError:
    hint = "KIOSK_FLEET_KEYS names a directory where you may write"
    return KioskError(operation, place=str(path), cause=error.strerror or str(error), hint=hint)
