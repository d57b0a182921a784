"""Text and JSON on standard output: colour only where a person looks, JSON only where a program reads."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TextIO

Style = Literal["bold", "dim", "red", "green", "yellow"]

_CODES: Final[dict[Style, str]] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def painter(stream: TextIO | None = None) -> Callable[[str, Style], str]:
    """A function that gives text a style, or leaves it plain unless `stream` (standard output) is a terminal.

    NO_COLOR (https://no-color.org) and TERM=dumb turn it off.
    """
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return lambda text, _style: text
    return lambda text, style: f"\033[{_CODES[style]}m{text}\033[0m"


def say(text: str) -> None:
    """A line of what was asked for, on standard output."""
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    """A line about how it went, on standard error."""
    sys.stderr.write(f"{text}\n")


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 segment", "3 segments"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def say_json(document: Any) -> None:  # noqa: ANN401 (whatever JSON can hold)
    """One JSON document."""
    say(json.dumps(document, indent=2, ensure_ascii=False))


def say_json_list(elements: Iterable[Any]) -> None:
    """A JSON list, an element a line, however long it gets."""
    separator = "[\n"
    for element in elements:
        sys.stdout.write(separator + json.dumps(element, ensure_ascii=False))
        separator = ",\n"
    say("[]" if separator == "[\n" else "\n]")
