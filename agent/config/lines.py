"""On which line of a TOML document each key and section stands; tomllib doesn't tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

KeyPath = tuple[str, ...]

_CLOSERS = ("]", "}", '"""', "'''")
"""A statement of several lines ends on a line with one of these."""


def key_lines(text: str) -> dict[KeyPath, int]:
    """The first line, from 1, of every key and section of `text`, which must be valid TOML.

    A statement ends at the first line up to which it parses on its own: no proper beginning of a statement does.
    """
    found: dict[KeyPath, int] = {}
    section: KeyPath = ()
    statement, start = "", 1
    for number, line in enumerate(text.split("\n"), 1):
        goes_on = bool(statement)
        statement += line + "\n"
        if goes_on and not any(closer in line for closer in _CLOSERS):
            continue
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        paths = list(_paths(content))
        if statement.lstrip().startswith("["):
            section = max(paths, key=len)
        else:
            paths = [section + path for path in paths]
        for path in paths:
            found.setdefault(path, start)
        statement, start = "", number + 1
    return found


def _paths(content: object, depth: int = 4) -> Iterator[KeyPath]:
    """Every path of keys in `content`, outer ones first; tables in lists count as their list's."""
    if isinstance(content, list):
        for element in content:
            yield from _paths(element, depth - 1) if depth else ()
    elif isinstance(content, dict):
        for key, value in content.items():
            yield (key,)
            yield from ((key, *path) for path in _paths(value, depth - 1)) if depth else ()
