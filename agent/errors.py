"""Errors that a person can act on.

Every error that leaves the program says what was being done, where, what went wrong, what to do about it, and
whether trying again by itself can help. The command line prints them in that form and exits with `EXIT_UNUSABLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXIT_GOOD = 0
EXIT_FOUND_WRONG = 1
EXIT_UNUSABLE = 2
EXIT_AGAIN = 75
"""A process that was told to restart: whoever looks after it starts it again (EX_TEMPFAIL of sysexits.h)."""


_WAY_OUT = "\n  → "


class KioskError(Exception):
    """One failure, told to a person.

    `operation` is what was attempted ("open microphone"), `place` where (a path, a key, a URL), `cause` what the
    system answered, `hint` the way out. `retryable` says whether the same call can succeed later unchanged.
    """

    def __init__(
        self, operation: str, *, place: str = "", cause: str = "", hint: str = "", retryable: bool = False
    ) -> None:
        super().__init__(operation, place, cause, hint)
        self.operation = operation
        self.place = place
        self.cause = cause
        self.hint = hint
        self.retryable = retryable

    def __str__(self) -> str:
        subject = f"{self.operation} {self.place}".rstrip()
        text = f"{subject}: {self.cause}" if self.cause else subject
        return with_hint(text, self.hint)


def with_hint(text: str, hint: str) -> str:
    """What is wrong, and below it the way out, if there is one."""
    return f"{text}{_WAY_OUT}{hint}" if hint else text


def without_hint(told: str) -> tuple[str, str]:
    """What is wrong, and the way out apart; "" where none was told."""
    what, _, hint = told.partition(_WAY_OUT)
    return what, hint


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong with a configuration file."""

    key: str
    """Dotted, such as "spool.cap"; a section's name; or "" for the file as a whole."""
    cause: str
    hint: str = ""
    line: int | None = None
    """Counted from 1; None for what isn't written in the file."""
    column: int | None = None
    """Counted from 1, where it's known."""

    def __str__(self) -> str:
        position = f"line {self.line}" if self.line else ""
        if self.column:
            position += f" column {self.column}"
        place = ", ".join(part for part in (position, self.key) if part)
        return f"{place}: {self.cause}" if place else self.cause


class ConfigError(KioskError):
    """The configuration can't be used. One instance carries every mistake found, in the order of the file."""

    def __init__(self, file: str, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        if len(self.mistakes) == 1:
            cause, hint = str(self.mistakes[0]), self.mistakes[0].hint
        else:
            cause, hint = f"{len(self.mistakes)} mistakes", ""
            for mistake in self.mistakes:
                cause += f"\n  {mistake}" + (f"\n    → {mistake.hint}" if mistake.hint else "")
        super().__init__("read configuration", place=file, cause=cause, hint=hint)
