"""When a recording may get its key: keys carry the time and are never changed afterwards.

A boot's monotonic times are exact, what hangs in the air until the clock is right is where that boot lies in real time:

- `synchronised`, or repaired from the store's clock before: at once.
- This boot, not synchronised yet: the recorder may repair it any moment, so wait `clock_wait`; then take the store's
  own clock; then, with a store that has none, go as `unsynchronised`. While the store doesn't answer nothing could be
  uploaded anyway, so nothing is decided.
- An earlier boot that never was synchronised: nobody can repair it any more. Go as `unsynchronised`, at once.

A provisional recording, made because the clock couldn't tell the schedule's hours, gets none when a trusted clock puts
it outside of them: the recorder is about to erase it.
"""

from __future__ import annotations

import logging
from zoneinfo import ZoneInfo

from agent.contract.keys import timestamp, utc
from agent.courier.targets import Target, TargetError
from agent.errors import KioskError
from agent.hours import closed_throughout
from agent.ledger import Boot, Ledger, Segment
from agent.settings import Settings
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

_ASK_AGAIN_NS = 15 * NS_PER_S


class Dating:
    """Says which boots' recordings may get keys, and repairs this boot from the store's clock when it comes to that."""

    def __init__(self, ledger: Ledger, target: Target, settings: Settings, clock: Clock) -> None:
        """The wait for the clock begins now."""
        self._ledger = ledger
        self._target = target
        self._clock = clock
        self._due_ns = clock.monotonic_ns() + settings.upload.clock_wait.ns
        self._week = settings.recording_week
        self._zone = ZoneInfo(settings.device.timezone)
        self._settled = False

    def may_date(self, segment: Segment, boot: Boot) -> bool:
        """Whether a recording, made in `boot`, may get its key now."""
        if boot.clock == "unsynchronised":
            return not self._may_be_repaired(boot)
        begin, end = utc(boot.offset_ns + segment.begin_ns), utc(boot.offset_ns + segment.end_ns)
        return not (segment.provisional and closed_throughout(self._week, self._zone, begin, end))

    def is_due(self) -> bool:
        """Whether the wait is over and nobody has dated this boot yet. Cheap once that is settled."""
        if self._settled or self._clock.monotonic_ns() < self._due_ns:
            return False
        here = self._here()
        self._settled = here is not None and here.clock != "unsynchronised"
        return here is not None and not self._settled

    def repair(self) -> KioskError | None:
        """Ask the store what time it is, if that is due. The error of a store that doesn't answer."""
        here = self._here()
        if here is None or not self.is_due():
            return None
        before_ns = self._clock.monotonic_ns()
        try:
            server_ns = self._target.server_time()
        except TargetError as error:
            self._due_ns = before_ns + _ASK_AGAIN_NS
            return error
        self._settled = True
        if server_ns is None:
            log.warning("the clock isn't synchronised: recordings are uploaded under times that may be wrong")
            return None
        # The answer was given some time between question and arrival.
        middle_ns = (before_ns + self._clock.monotonic_ns()) // 2
        self._ledger.retime(Boot(here.boot, server_ns - middle_ns, "server"))
        log.warning("the clock isn't synchronised: recordings go by the store's clock, %s", timestamp(server_ns))
        return None

    def _here(self) -> Boot | None:
        return next((boot for boot in self._ledger.boots() if boot.boot == self._clock.boot), None)

    def _may_be_repaired(self, boot: Boot) -> bool:
        return boot.clock == "unsynchronised" and boot.boot == self._clock.boot and not self._settled
