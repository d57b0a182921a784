"""From `config.toml` to `Settings`, or to every mistake in it at once.

Steps: read the file, parse the TOML, validate each key by its type, and check what must hold between keys. The last
step also runs on a file whose keys are partly wrong, on those that are right, so that one reading tells it all.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.config.checks import CHECKS
from agent.config.keys import Place, dotted
from agent.config.lines import key_lines
from agent.config.words import meant, syntax_mistake, type_mistake
from agent.errors import ConfigError, Mistake
from agent.settings import Settings
from agent.units import Size

if TYPE_CHECKING:
    from pydantic import TypeAdapter

DEFAULT_PATH: Final = Path("/etc/kiosk-recorder/config.toml")
PATH_VARIABLE: Final = "KIOSK_RECORDER_CONFIG"

_MOST_FILE_BYTES = 256 * 1024

_DEEPEST = 4
"""The document, a section, a key, an element of its list: no key takes what lies below."""

_BEYOND = 2**63
"""Beyond every bound; Python refuses to print much longer numbers."""


def locate(path: Path | None, environ: Mapping[str, str]) -> Path:
    """The file that counts: `path`, else the one `KIOSK_RECORDER_CONFIG` names, else the default."""
    return path or Path(environ.get(PATH_VARIABLE) or DEFAULT_PATH)


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read and validate the file `locate` names. Raises ConfigError with every mistake in it."""
    file = locate(path, environ)
    return parse(_text(file), str(file))


def parse(text: str, file: str) -> Settings:
    """Validate the text of a configuration; `file` is what mistakes call it. Raises ConfigError with every mistake."""
    settings, mistakes = _validate(_document(text, file))
    if mistakes:
        lines = {dotted(path): line for path, line in key_lines(text).items()}
        placed = (replace(mistake, line=_line(mistake.key, lines)) for mistake in mistakes)
        raise ConfigError(file, sorted(placed, key=lambda mistake: mistake.line or 0))
    return settings


@cache
def validator() -> TypeAdapter[Settings]:
    """Pydantic's view of the settings, built once: building it costs more than reading any file."""
    from pydantic import TypeAdapter

    return TypeAdapter(Settings)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        hint = f"copy config.example.toml there, or name another file with --config or {PATH_VARIABLE}"
        raise ConfigError(str(file), [Mistake("", "no such file", hint)]) from None
    except IsADirectoryError:
        raise ConfigError(
            str(file), [Mistake("", "is a directory", f"name the file: {file / 'config.toml'}")]
        ) from None
    except PermissionError:
        hint = "run as a user who may read it (root, or the kiosk's own)"
        raise ConfigError(str(file), [Mistake("", "may not be read by this user", hint)]) from None
    except (OSError, ValueError) as error:
        raise ConfigError(str(file), [Mistake("", getattr(error, "strerror", None) or str(error))]) from error
    if len(data) > _MOST_FILE_BYTES:
        raise ConfigError(str(file), [Mistake("", "is far too large for a configuration", "is this the right file?")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        mistake = Mistake("", "isn't UTF-8 text", "save it as UTF-8, the encoding of TOML", line)
        raise ConfigError(str(file), [mistake]) from None


def _document(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text + "\n")
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [syntax_mistake(str(error), text)]) from None
    except (RecursionError, ValueError):
        # Beyond its own errors, tomllib ends where Python does: depth of nesting, digits of a number.
        raise ConfigError(file, [Mistake("", "is nested too deeply, or has a number too long to read")]) from None


def _validate(document: dict[str, Any]) -> tuple[Settings, list[Mistake]]:
    """The settings as far as they go, and every mistake, not yet with its line."""
    from pydantic import ValidationError

    plain = _json_like(document, _DEEPEST)
    mistakes: list[Mistake] = []
    wrong: list[Place] = []
    try:
        # Pydantic takes lists for tuples, and yet is strict about types, when it reads JSON.
        settings = validator().validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        mistakes = [type_mistake(detail, document) for detail in details]
        wrong = [detail["loc"] for detail in details]
        plain = _without(plain, wrong)
        settings = validator().validate_json(json.dumps(plain), strict=True)
    if "quarantine_cap" not in plain.get("spool", ()):
        settings = _settled(settings)
    unclear = {key for place in wrong for key in (dotted(place[:2]), meant(place)) if key}
    for check, keys in CHECKS:
        if not any(_related(key, other) for key in keys for other in unclear):
            mistakes += check(settings)
    return settings, mistakes


def _json_like(value: object, depth: int) -> Any:  # noqa: ANN401 (a document of JSON)
    """`value` as JSON can hold it. What it can't hold no key takes, and neither does any take null."""
    if depth == 0 or isinstance(value, datetime | date | time):
        return None
    if isinstance(value, dict):
        return {key: _json_like(element, depth - 1) for key, element in value.items()}
    if isinstance(value, list):
        return [_json_like(element, depth - 1) for element in value]
    if isinstance(value, int):
        return max(-_BEYOND, min(value, _BEYOND))
    return value


def _without(plain: Any, wrong: list[Place]) -> dict[str, Any]:  # noqa: ANN401 (a document of JSON)
    """The right part of a document; what is required is filled in with anything."""
    rest: dict[str, Any] = {
        section: dict(keys) if isinstance(keys, dict) else keys for section, keys in dict(plain).items()
    }
    for place in wrong:
        if len(place) == 1:
            rest.pop(str(place[0]), None)
        elif isinstance(rest.get(str(place[0])), dict):
            rest[str(place[0])].pop(place[1], None)
    rest["device"] = {"site": "unknown", "id": "unknown"} | rest.get("device", {})
    return rest


def _settled(settings: Settings) -> Settings:
    """Fit the quarantine nobody wrote to the cap: who only lowers `spool.cap` has made no mistake."""
    spool = settings.spool
    room = max(0, spool.cap - 2 * settings.segment_reserve_bytes)
    cap = min(spool.quarantine_cap, Size(spool.cap // 8), Size(room))
    return replace(settings, spool=replace(spool, quarantine_cap=cap))


def _line(key: str, lines: Mapping[str, int]) -> int | None:
    """Where `key` (dotted) stands, or else the section around it."""
    key = re.sub(r"\[\d+\]", "", key)
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return lines.get(key)


def _related(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")
