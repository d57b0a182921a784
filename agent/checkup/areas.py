"""Every area of the check, and the walk through them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from agent.checkup import broker, card, clock, machine, microphone, recording, software, store
from agent.checkup.finding import Finding, Section, of_error
from agent.checkup.visit import Visit
from agent.errors import KioskError

AREAS: Final[dict[str, Callable[[Visit], Iterator[Finding]]]] = {
    "microphone": microphone.look,
    "recording": recording.look,
    "store": store.look,
    "broker": broker.look,
    "clock": clock.look,
    "card": card.look,
    "machine": machine.look,
    "software": software.look,
}
"""In the order in which they are looked at: the sample is heard first, the store tells the time to the clock."""


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[str]:
    """The areas to look at. Raises KioskError for one that there isn't."""
    for name in (*only, *skip):
        if name not in AREAS:
            near = difflib.get_close_matches(name, AREAS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(AREAS)}"
            raise KioskError("check", place=name, cause="there is no such area", hint=hint)
    return [name for name in AREAS if (not only or name in only) and name not in skip]


def walk(visit: Visit, areas: Sequence[str]) -> Iterator[Section]:
    """One area after the other. What stops one is its finding."""
    for name in areas:
        findings: list[Finding] = []
        visit.progress(name)
        try:
            findings.extend(AREAS[name](visit))
        except KioskError as error:
            findings.append(of_error(name, error))
        except OSError as error:
            findings.append(Finding(name, "red", str(error)))
        yield Section(name, tuple(findings))
