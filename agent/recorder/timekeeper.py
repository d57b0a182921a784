"""When the clock becomes right, everything of this boot is put where it belongs.

Times in the ledger are monotonic; one offset per boot makes wall time of them (DESIGN §4). The recorder repairs that
offset when the kernel says that its clock is synchronised; before, the courier may have done so from the store's
clock, which the kernel's word replaces.
"""

from __future__ import annotations

import logging
from typing import Final

from agent.ledger import Boot, Ledger
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

STEP_NS: Final = NS_PER_S
"""A synchronised clock is slewed, which moves the monotonic clock along; only a step of it changes the offset."""


def better_offset(known: Boot, *, wall_ns: int, monotonic_ns: int, synchronised: bool) -> Boot | None:
    """What is to be entered about a boot, or None when the ledger already knows it as well."""
    if not synchronised:
        return None
    offset_ns = wall_ns - monotonic_ns
    if known.clock == "synchronised" and abs(offset_ns - known.offset_ns) < STEP_NS:
        return None
    return Boot(known.boot, offset_ns, "synchronised")


class Timekeeper:
    """Looks at the clock now and then; belongs to the thread that owns `ledger`."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def check(self) -> Boot:
        """Enter a better offset of this boot if there is one. Returns what the ledger now knows."""
        known = next(boot for boot in self._ledger.boots() if boot.boot == self._clock.boot)
        better = better_offset(
            known,
            wall_ns=self._clock.wall_ns(),
            monotonic_ns=self._clock.monotonic_ns(),
            synchronised=self._clock.synchronised(),
        )
        if better is None:
            return known
        log.info("clock is right: this boot's times move by %.1f s", (better.offset_ns - known.offset_ns) / NS_PER_S)
        self._ledger.retime(better)
        return better
