"""Feature flags: what can be chosen from afar without an update, and what is chosen on this kiosk.

The courier judges what the fleet decided and writes the outcome twice: to `variants.json` in the runtime directory
(RAM), where the recorder notices it by a `stat`, and durably to `state/`, for the next start. What holds, flag by flag:
the environment (the technician's switch), the picture in RAM, the card's, the flag's default. Neither file is trusted:
what can't be understood is passed over.

    {"offline_recording": "off"}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent.contract.flags import FLAGS, OFFLINE_RECORDING, VARIABLE_PREFIX, Flag
from agent.errors import KioskError
from agent.spool import replace_file

__all__ = [
    "FILE_NAME",
    "FLAGS",
    "OFFLINE_RECORDING",
    "Choice",
    "Flag",
    "InForce",
    "Variant",
    "judged",
    "keep_variants",
    "overrides",
    "read_variants",
    "show_variants",
]

FILE_NAME: Final = "variants.json"

_MOST_BYTES: Final = 64 * 1024

Source = Literal["environment", "flags", "default"]
"""Who chose: this kiosk's technician, the fleet, or nobody."""


@dataclass(frozen=True, slots=True)
class Variant:
    """What is chosen."""

    name: str
    source: Source


@dataclass(frozen=True, slots=True)
class InForce:
    """What holds on this kiosk, as the courier tells the fleet."""

    variants: Mapping[str, Variant]
    """By flag, for every flag there is."""
    version: int | None
    """Of the flag document that counts; None without one."""


def overrides(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variants that the environment chooses, by flag. An empty value chooses nothing.

    Raises KioskError for a value that is no variant and for a flag that doesn't exist: a technician relies on it.
    """
    flags = {flag.variable: flag for flag in FLAGS.values()}
    chosen: dict[str, str] = {}
    for variable in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        flag, value = flags.get(variable), environ[variable]
        if flag is None:
            import difflib

            near = difflib.get_close_matches(variable, flags, n=1) or sorted(flags)
            raise _refused(variable, "there is no such flag", f"did you mean {near[0]}? Else remove it")
        if value and value not in flag.variants:
            quoted = " or ".join(f'"{variant}"' for variant in flag.variants)
            raise _refused(variable, f'"{value[:40]}" is no variant of {flag.name}', f"use {quoted}, or remove it")
        if value:
            chosen[flag.name] = value
    return chosen


def read_variants(runtime: Path, state: Path, environ: Mapping[str, str] = os.environ) -> dict[str, Variant]:
    """What is chosen for every flag. Raises KioskError as `overrides`."""
    return judged(overrides(environ), [_read(runtime) or {}, _read(state) or {}])


class Choice:
    """What is chosen now, for whoever asks every second: one `stat` of a file in RAM as long as nothing changes."""

    def __init__(self, runtime: Path, state: Path, environ: Mapping[str, str] = os.environ) -> None:
        """Looks at the card, and never again. Raises KioskError as `overrides`."""
        self._runtime = runtime
        self._file = str(runtime / FILE_NAME)
        self._overrides = overrides(environ)
        self._seen = self._look()
        self._variants = judged(self._overrides, [_read(runtime) or {}, _read(state) or {}])

    def variants(self) -> Mapping[str, Variant]:
        """By flag. A picture that can't be understood changes nothing."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            picture = _read(self._runtime)
            if picture is not None:
                self._variants = judged(self._overrides, [picture])
        return self._variants

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._file)  # noqa: PTH116 (every second for ever: no pathlib in between)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def show_variants(runtime: Path, variants: Mapping[str, str]) -> None:
    """Let the recorder know, in RAM. What stands there already isn't written again. Raises OSError.

    A flag that `variants` doesn't name is nobody's choice any more.
    """
    runtime.mkdir(parents=True, exist_ok=True)
    _replace(runtime / FILE_NAME, variants, durable=False)


def keep_variants(state: Path, variants: Mapping[str, str]) -> None:
    """The same on the card, durably, for the recorder's next start. Waits for the card. Raises OSError."""
    _replace(state / FILE_NAME, variants, durable=True)


def judged(chosen: Mapping[str, str], pictures: Sequence[Mapping[str, str]]) -> dict[str, Variant]:
    """What holds when the environment has `chosen`; of `pictures` the first that names a flag counts."""
    found: dict[str, Variant] = {}
    for name, flag in FLAGS.items():
        told = next((picture[name] for picture in pictures if name in picture), None)
        if name in chosen:
            found[name] = Variant(chosen[name], "environment")
        elif told is not None:
            found[name] = Variant(told, "flags")
        else:
            found[name] = Variant(flag.default, "default")
    return found


def _read(directory: Path) -> dict[str, str] | None:
    """What the picture in `directory` says about flags that exist; None where there is none that can be understood."""
    try:
        with (directory / FILE_NAME).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        found = json.loads(data) if len(data) <= _MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    told = {name: found[name] for name in FLAGS if name in found}
    return told if all(each in FLAGS[name].variants for name, each in told.items()) else None


def _replace(path: Path, variants: Mapping[str, str], *, durable: bool) -> None:
    content = json.dumps(dict(sorted(variants.items()))).encode()
    with suppress(OSError):
        if path.stat().st_size == len(content) and path.read_bytes() == content:
            return
    replace_file(path, content, durable=durable)


def _refused(variable: str, cause: str, hint: str) -> KioskError:
    return KioskError("read environment", place=variable, cause=cause, hint=f"{hint}; it may stand in {_ENVIRONMENT}")


_ENVIRONMENT: Final = "/etc/kiosk-recorder/environment"
