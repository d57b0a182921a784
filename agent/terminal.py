"""How both command lines speak: colour only where a person looks, JSON only where a program reads."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, NoReturn, TextIO

from agent.errors import EXIT_FOUND_WRONG, EXIT_UNUSABLE, KioskError

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


def in_utc(timestamp: str) -> str:
    """A time as documents write it (agent.contract.keys), for people: "2026-03-02 08:00:05 UTC"."""
    return f"{timestamp[:19].replace('T', ' ')} UTC"


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


@contextmanager
def progress(what: str, total: int, *, in_bytes: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on standard error where a person looks on; it's told how much more of `total` is done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    count = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (what, BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)


def lead(run: Callable[[], None], debug: str) -> NoReturn:
    """Run one command and exit with its status.

    With the environment variable `debug` set, errors say where they came from.
    """
    try:
        try:
            run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has gone; the interpreter would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FOUND_WRONG)  # as typer does when it notices first
    except KioskError as error:
        complain(str(error))
        if os.environ.get(debug):
            traceback.print_exc()
    except Exception as error:  # noqa: BLE001 (the last place that can tell a person)
        _tell_unexpected(error, debug)
    sys.exit(EXIT_UNUSABLE)


def _tell_unexpected(error: Exception, debug: str) -> None:
    if os.environ.get(debug):
        traceback.print_exc()
        return
    complain(f"unexpected: {type(error).__name__}: {error}")
    complain("  → this is a fault of the program: run it again with --debug and report what it prints")
