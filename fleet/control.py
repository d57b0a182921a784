"""What an admin steers by: a line to the broker, whose word counts, and what this machine remembers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent.contract.messages import FLAGS, ROLLOUT
from agent.contract.signed import Refused
from agent.errors import KioskError
from fleet import keyring, pictures, roster
from fleet.broker import Address, Line
from fleet.noticeboard import Noticeboard
from fleet.pictures import Picture
from fleet.sightings import Sightings


@dataclass(frozen=True, slots=True)
class Control:
    """For one command."""

    line: Line
    trusted: dict[str, str]
    """Names by public key."""
    sightings: Sightings
    now_ns: Callable[[], int] = field(default=time.time_ns)
    """Wall time."""

    def board(self) -> Noticeboard:
        """The two documents as they are now, without asking for kiosks: fast. Raises KioskError."""
        return Noticeboard(self.line, self.line.retained(FLAGS, ROLLOUT), self.trusted, self.sightings)

    def fleet(self) -> tuple[Noticeboard, list[Picture]]:
        """The two documents and all kiosks. Raises KioskError."""
        kiosks = pictures.read(roster.gathered(self.line, pictures.TOPICS))
        return self.board(), kiosks

    def name_of(self, key: str) -> str:
        """Whose key it is, as far as this machine knows."""
        return self.trusted.get(key, key)


@contextmanager
def control(address: Address) -> Iterator[Control]:
    """Raises KioskError, also for what was refused as it was read or written."""
    where = keyring.directory()
    trusted = keyring.trusted(where)
    sightings = Sightings(where / "seen.json", address.url)
    try:
        with Line(address) as line:
            yield Control(line, trusted, sightings)
    except Refused as refused:
        raise KioskError("steer fleet", cause=str(refused)) from refused
