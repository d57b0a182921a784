"""When uploads may run: in the hours of the file, or those that were ordered, or now because somebody is in a hurry."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from agent.contract.keys import utc
from agent.hours import ALWAYS, Hours, is_open
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Hurry:
    """What waits now is to go, whatever the hours say. Times are monotonic."""

    since_ns: int
    until_ns: int
    """Then it's over in any case."""


class Openings:
    """Asked by every thread, set by one; what is set is replaced as a whole."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.upload.hours
        self._zone = ZoneInfo(settings.device.timezone)
        self.ordered: tuple[Hours, ...] | None = None
        """What was ordered by command; None: what the file says."""
        self.hurry: Hurry | None = None

    @property
    def hours(self) -> tuple[Hours, ...]:
        """Those in force; none of them is always."""
        return self._file if self.ordered is None else self.ordered

    def regular(self, wall_ns: int) -> bool:
        """Whether a wall time lies in the hours."""
        week = (self.hours,) * 7 if self.hours else ALWAYS
        return is_open(week, self._zone, utc(wall_ns))
