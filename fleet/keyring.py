"""The admins' signing keys: one file each, readable by its owner alone.

A key is 32 random bytes (an Ed25519 seed), kept as one line of base64 in `{name}.key` with mode 0600. Its public half
is what kiosks list in `commands.admin_keys` and `flags.keys`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.contract import seeds
from agent.contract.names import is_name
from agent.contract.signed import public_key
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
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Key(name, seeds.make(where / f"{name}.key"))


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
