"""The configuration for reading: what is in force, what could be said, and an example to start from."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from agent.config.keys import Key, choices, known_keys, masked, quoted
from agent.config.load import validator
from agent.settings import Device, Settings


@dataclass(frozen=True, slots=True)
class Row:
    """One key as it stands. Values are plain (text, numbers, lists), secrets masked."""

    section: str
    key: str
    value: Any
    default: Any
    """None where there is none."""
    meaning: str

    @property
    def overridden(self) -> bool:
        """Whether the file says something else than the default."""
        return bool(self.value != self.default)


def rows(settings: Settings) -> tuple[Row, ...]:
    """Every key in the order of the sections."""
    values, defaults, meanings = _plain(settings), _defaults(), _meanings()
    return tuple(
        Row(
            section,
            name,
            masked(str(key), value) if isinstance(value := _of(values, section)[name], str) else value,
            None if key.required else _of(defaults, section)[name],
            meanings[section][name],
        )
        for section, keys in known_keys().items()
        for name, key in keys.items()
    )


def as_toml(settings: Settings) -> str:
    """What is in force, as a configuration file that says the same; each key is marked with its default."""
    sections = groupby(rows(settings), key=lambda row: row.section)
    return "\n".join(f"[{section}]\n" + "".join(map(_line, keys)) for section, keys in sections)


def as_json(settings: Settings) -> dict[str, dict[str, dict[str, Any]]]:
    """What is in force, for programs: section → key → value, default, overridden."""
    document: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows(settings):
        document.setdefault(row.section, {})[row.key] = {
            "value": row.value,
            "default": row.default,
            "overridden": row.overridden,
        }
    return document


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of `config.toml`, for editors and for tools that write one."""
    described = validator().json_schema()
    for definition in (described, *described["$defs"].values()):
        _tidy(definition)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kiosk-recorder configuration",
        **described,
    }


def _tidy(definition: dict[str, Any]) -> None:
    definition.pop("title", None)
    for key in definition["properties"].values():
        key.pop("title", None)
        if "properties" in key:
            key.pop("default", None)
            _tidy(key)
        elif key.get("default", "") is None:
            key["default"] = ""  # TOML has no null; "" is how a file leaves such a key out


_PREAMBLE = """\
# The configuration of a kiosk, by default in /etc/kiosk-recorder/config.toml. Only [device] must be filled in; every
# other key is shown with its default and takes effect once the # before it is removed.
#
# Sizes: "500MB", "8GiB"; times: "250ms", "60s", "10m", "12h", "30d"; hours: "08:00-13:00".
# `kiosk-recorder config check` finds every mistake in the file, `kiosk-recorder config show` tells what is in force.
"""


def example() -> str:
    """The text of config.example.toml."""
    device = Device(site="north", id="room-12")
    described, text, told = schema(), _PREAMBLE, set[str]()
    for section, keys in known_keys().items():
        definition = _definition(described, section)
        outer, _, inner = section.partition(".")
        if inner and outer not in told:
            text += f"\n# {_definition(described, outer)['description']}\n" + _described(definition, keys)
            told.add(outer)
        head = "".join(f"# {line}\n" for line in textwrap.wrap(definition["description"], 118))
        text += f"\n{head}[{section}]\n"
        for name, key in keys.items():
            value = getattr(device, name) if key.required else _of(_defaults(), section)[name]
            text += "" if inner else _described(definition, {name: key}, named=False)
            text += f"{'' if key.required else '#'}{name} = {_toml(value)}\n"
    return text


def _described(definition: dict[str, Any], keys: Mapping[str, Key], *, named: bool = True) -> str:
    """The meaning of keys, as comments."""
    text = ""
    for name, key in keys.items():
        allowed = choices(key.annotation)
        text += f"# {f'{name}: ' if named else ''}{definition['properties'][name]['description']}\n"
        text += f"# Allowed: {allowed}.\n" if allowed and not named else ""
    return text


def _of(document: Mapping[str, Any], section: str) -> Any:  # noqa: ANN401 (a document of JSON)
    """A section of a document, by its name as TOML writes it."""
    for name in section.split("."):
        document = document[name]
    return document


def _definition(described: dict[str, Any], section: str) -> dict[str, Any]:
    """What a schema says of a section."""
    outer, _, inner = section.partition(".")
    definition: dict[str, Any] = described["$defs"][outer.capitalize()]
    return definition["properties"][inner] if inner else definition


def _plain(settings: Settings) -> dict[str, Any]:
    plain: dict[str, Any] = validator().dump_python(settings, mode="json")
    return plain


def _defaults() -> dict[str, Any]:
    return _plain(Settings(device=Device(site="", id="")))


def _meanings() -> dict[str, dict[str, str]]:
    described = schema()
    return {
        section: {name: _definition(described, section)["properties"][name]["description"] for name in keys}
        for section, keys in known_keys().items()
    }


def _line(row: Row) -> str:
    if row.default is None:
        mark = "required"
    elif row.overridden:
        mark = f"default: {_toml(row.default)}"
    else:
        mark = "default"
    return f"{row.key} = {_toml(row.value)}  # {mark}\n"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return quoted(value) if isinstance(value, str) else str(value)
