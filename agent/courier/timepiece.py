"""What time it is, if that can be told: by the kernel when its clock is disciplined, else by what a ledger knows."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from agent.errors import KioskError
from agent.ledger import Ledger
from agent.spool import Layout
from agent.status import read_status
from hw.clock import Clock, SystemClock

log = logging.getLogger(__name__)


class ToldClock(SystemClock):
    """The machine's clocks where the kernel may not be asked how far to trust them: the recorder tells.

    systemd's filters know no difference between reading and setting the clock (adjtimex(2)); a process with a network
    gets neither.
    """

    def __init__(self, runtime: Path) -> None:
        super().__init__()
        self._runtime = runtime

    def synchronised(self) -> bool:
        if super().synchronised():
            return True
        recorder = read_status(self._runtime)
        return recorder is not None and recorder.boot == self.boot and bool(recorder.clock_synchronised)


def trusted_wall_ns(clock: Clock, layouts: Sequence[Layout]) -> int | None:
    """Nanoseconds since 1970; None while nobody has vouched for this boot's time. May wait for the card."""
    if clock.synchronised():
        return clock.wall_ns()
    for layout in layouts:
        try:
            with Ledger(layout.ledger, clock, read_only=True) as ledger:
                here = next((boot for boot in ledger.boots() if boot.boot == clock.boot), None)
        except (KioskError, OSError, sqlite3.DatabaseError) as error:
            log.debug("no time from %s: %s", layout.root, error)
            continue
        if here is not None and here.clock != "unsynchronised":
            return here.offset_ns + clock.monotonic_ns()
    return None
