"""Every area of the check, and the walk through them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from agent.checkup import broker, card, clock, machine, microphone, recording, software, store
from agent.checkup.finding import Finding, Section, of_error
from agent.checkup.stead import in_stead_of
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

_SERVICES: Final = {"microphone": "kiosk-recorder", "store": "kiosk-courier", "broker": "kiosk-courier"}
"""As whom an area is looked at: what only root may do helps no service."""


def chosen(only: Sequence[str], skip: Sequence[str]) -> list[str]:
    """The areas to look at. Raises KioskError for one that there isn't."""
    for name in (*only, *skip):
        if name not in AREAS:
            near = difflib.get_close_matches(name, AREAS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(AREAS)}"
            raise KioskError("check", place=name, cause="there is no such area", hint=hint)
    return [name for name in AREAS if (not only or name in only) and name not in skip]


def walk(visit: Visit, areas: Sequence[str]) -> Iterator[Section]:
    """One area after the other. What stops one is its finding, and keeps no other from being looked at."""
    for name in areas:
        visit.progress(name)
        look = partial(_findings, name)
        user = _SERVICES.get(name)
        try:
            findings = look(visit) if user is None else in_stead_of(user, look, visit)
        except Exception as error:  # noqa: BLE001 (told)
            findings = [_stopped(name, error)]
        yield Section(name, tuple(findings))


def _findings(name: str, visit: Visit) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(AREAS[name](visit))
    except Exception as error:  # noqa: BLE001 (told)
        findings.append(_stopped(name, error))
    return findings


def _stopped(name: str, error: Exception) -> Finding:
    """Why an area wasn't looked at to its end."""
    if isinstance(error, KioskError):
        return of_error(name, error)
    text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return Finding(name, "red", text, "`kiosk-recorder support-bundle` collects what may tell why")
