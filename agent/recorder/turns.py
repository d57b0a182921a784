"""What the thread of either writer does: turn after turn, and what goes with a turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.recorder.encryption import Recipients
from agent.recorder.erasing import Erasures
from agent.recorder.ring import Ring
from agent.recorder.root import Root
from agent.recorder.succession import CARD_ERRORS, Succession
from agent.recorder.timekeeper import Timekeeper
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.units import NS_PER_S
from hw.clock import Clock

_CLOCK_CHECK_NS: Final = 5 * NS_PER_S


class Turns:
    """Makes writers for one ring and has them write; both paths' threads share it."""

    def __init__(
        self,
        ring: Ring,
        clock: Clock,
        vitals: Vitals,
        recipients: Recipients,
        erasures: Erasures,
        turned: Callable[[], None],
    ) -> None:
        """`turned` is called after each turn, and when another writer has begun."""
        self._erasures = erasures
        self._ring = ring
        self._clock = clock
        self._vitals = vitals
        self._recipients = recipients
        self._turned = turned

    def writer(self, root: Root, succession: Succession | None) -> Writer:
        """One that holds the ring from now on and goes on where `succession` says."""
        return Writer(root, self._ring, self._clock, self._vitals, self._recipients, succession)

    def take(self, root: Root, writer: Writer, between: Callable[[], None] = lambda: None) -> None:
        """Until the ring is closed, or the writer was asked to leave. `between` is work on the same spool.

        Raises CardFailed, and TakenOver when another writer holds the ring.
        """
        timekeeper, checked_ns = Timekeeper(root.ledger, self._clock), 0
        self._turned()
        while writer.step():
            now_ns = self._clock.monotonic_ns()
            try:
                if now_ns - checked_ns >= _CLOCK_CHECK_NS:
                    checked_ns = now_ns
                    self._vitals.boot = timekeeper.check()
                between()
                self._erasures.step(root, writer)
            except CARD_ERRORS as error:
                raise writer.failed(error) from error
            self._turned()
