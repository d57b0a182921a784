"""What was found about one thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, KioskError

Verdict = Literal["green", "yellow", "red", "grey"]
"""Good; works, but look at it; don't leave it like this; couldn't be told here."""

VERDICTS: Final[tuple[Verdict, ...]] = ("red", "yellow", "green", "grey")
"""Most pressing first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    subject: str
    """What was looked at, such as "noise floor"; docs/CHECK.md explains each."""
    verdict: Verdict
    text: str
    way_out: str = ""
    """What to do about it; empty where there is nothing to do."""
    facts: Mapping[str, float | int | str | None] = field(default_factory=dict)
    """The figures in the text, for programs."""


@dataclass(frozen=True, slots=True)
class Section:
    """What was found in one area."""

    area: str
    findings: tuple[Finding, ...]


def of_error(subject: str, error: KioskError, verdict: Verdict = "red") -> Finding:
    """What stopped a trial, as a finding."""
    place = f"{error.operation} {error.place}".rstrip()
    return Finding(subject, verdict, f"{place}: {error.cause}" if error.cause else place, error.hint)


def counts(sections: Iterable[Section]) -> dict[Verdict, int]:
    """How many findings there are of each verdict, most pressing first."""
    found = [finding.verdict for section in sections for finding in section.findings]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def exit_status(sections: Iterable[Section]) -> int:
    """1 when anything is red."""
    return EXIT_FOUND_WRONG if counts(sections)["red"] else EXIT_GOOD
