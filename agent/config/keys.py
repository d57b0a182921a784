"""Every key of `config.toml`, taken from `agent.settings`, and the words in which people are told about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import date, datetime, time
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeGuard, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le

from agent.limits import Off
from agent.settings import Settings
from agent.units import Written

_URL_KEYS = frozenset({"upload.target", "upload.endpoint_url", "mqtt.url"})
"""May hold a name and password by mistake; those are masked wherever the value is shown."""

_SECRET_KEYS = frozenset({"mqtt.password_file", "mqtt.key", "seal.recipients", "custody.key"})
"""May hold the secret itself by mistake, not the file it's in; a mistake about them doesn't show the value."""

_LONGEST_SHOWN = 60

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


Place = tuple[str | int, ...]
"""Where in a document a value stands: keys, and indexes of lists."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one section."""

    section: str
    name: str
    annotation: object
    required: bool

    def __str__(self) -> str:
        return f"{self.section}.{self.name}"


@cache
def known_keys() -> Mapping[str, Mapping[str, Key]]:
    """Every section in order, with every key of it in order. A section within one is called as TOML writes it."""
    known: dict[str, dict[str, Key]] = {}
    for section, kind in get_type_hints(Settings).items():
        if is_dataclass(kind):
            hints = get_type_hints(kind)
            inner = [(f"{section}.{name}", hints[name]) for name in hints if is_dataclass(hints[name])]
            # A section within one is completed by defaults of its own: nothing in it is required.
            known |= {name: _keys(name, within, frozenset()) for name, within in inner}
            if not inner:
                known[section] = _keys(section, kind, {key.name for key in fields(kind) if key.default is MISSING})
    return known


def _keys(section: str, kind: Any, required: AbstractSet[str]) -> dict[str, Key]:  # noqa: ANN401 (a dataclass)
    hints = get_type_hints(kind, include_extras=True)
    return {key.name: Key(section, key.name, hints[key.name], key.name in required) for key in fields(kind)}


@cache
def outer_sections() -> Mapping[str, tuple[str, ...]]:
    """Sections that hold nothing but sections, with the names of these."""
    found: dict[str, tuple[str, ...]] = {}
    for section in known_keys():
        outer, _, inner = section.partition(".")
        if inner:
            found[outer] = (*found.get(outer, ()), inner)
    return found


def split(place: Place) -> tuple[str, tuple[str, ...]]:
    """The section that a place is in (dotted), and what comes below it."""
    names = tuple(str(part) for part in place)
    depth = 2 if names[0] in outer_sections() and len(names) > 1 else 1
    return dotted(names[:depth]), names[depth:]


def dotted(place: Place) -> str:
    """A place in the document for reading: "spool.cap", "device.groups[1]". Odd keys are quoted."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else quoted(part))
    return text


def quoted(text: str) -> str:
    """`text` as TOML writes it on one line; nothing in it can move a terminal's cursor."""
    written = json.dumps(text, ensure_ascii=False)
    return "".join(
        char if char.isprintable() else f"\\u{ord(char):04x}" if char <= "\uffff" else f"\\U{ord(char):08x}"
        for char in written
    )


def masked(key: str, value: str) -> str:
    """`value` of `key` (dotted) without what an address may carry besides: user, password, query."""
    if key not in _URL_KEYS:
        return value
    without_user = re.sub(r"^([A-Za-z0-9+.-]*://)?.*@", r"\1***@", value, flags=re.DOTALL)
    return re.sub(r"([?#]).*", r"\1***", without_user, flags=re.DOTALL)


def shown(key: str, value: object) -> str:
    """`value` of `key` (dotted) as a mistake tells it: masked, short, no control characters."""
    if key in _SECRET_KEYS:
        return "the value"
    if isinstance(value, str):
        text = masked(key, value)
        return quoted(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) > 10**_LONGEST_SHOWN:
        return "this number"
    return str(value) if isinstance(value, int | float) else "this"


def kind(value: object) -> str:
    """What a value of TOML is, in plain words."""
    if isinstance(value, bool):
        return "a truth value"
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return "something else"


_KINDS: tuple[tuple[type | UnionType, str], ...] = (
    (str, "text"),
    (int, "a whole number"),
    (float, "a decimal number"),
    (list, "a list"),
    (dict, "a section"),
    (datetime | date | time, "a date or time"),
)


def wanted(annotation: object) -> tuple[str, str]:
    """What a key of this type takes, and how to write it."""
    if _may_be_off(annotation):
        what, hint = _wanted(get_args(get_args(annotation)[0])[0])
        return what, f'{hint}, or "off"'
    return _wanted(annotation)


def _wanted(annotation: object) -> tuple[str, str]:
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(bare) is Literal:
        *first, last = (quoted(word) for word in get_args(bare))
        return "one of its choices", f"write {', '.join(first)} or {last}"
    if get_origin(bare) is tuple:
        element = get_args(bare)[0]
        example = element.example if _is_written(element) else "internal"
        return "a list", f'write a list, such as ["{example}"]'
    if _is_written(bare):
        return "text", f'write it in quotes, such as "{bare.example}"'
    if bare in (int, float):
        what = "a whole number" if bare is int else "a number"
        return what, f"write {what}{_between(annotation)} without quotes"
    if bare is str:
        return "text", "write it in quotes"
    return "a path", 'write it in quotes, such as "/etc/kiosk-recorder/file"'


def choices(annotation: object) -> str:
    """The values a key may take, for its description; "" when its type says it all."""
    if get_origin(annotation) is Literal:
        return ", ".join(quoted(word) for word in get_args(annotation))
    return _between(annotation).strip()


def _may_be_off(annotation: object) -> bool:
    return any(isinstance(mark, Off) for mark in getattr(annotation, "__metadata__", ()))


def _is_written(annotation: object) -> TypeGuard[type[Written]]:
    return isinstance(annotation, type) and issubclass(annotation, Written)


def _between(annotation: object) -> str:
    marks = getattr(annotation, "__metadata__", ())
    low = next((mark.ge for mark in marks if isinstance(mark, Ge)), None)
    high = next((mark.le for mark in marks if isinstance(mark, Le)), None)
    return f" from {low} to {high}" if low is not None and high is not None else ""
