"""The time between runs: from when, until when, and why nothing was recorded.

Intervals tile (invariant 6): a gap begins exactly where the last interval ended and ends exactly where the next one
begins, however many reasons follow each other in between.
"""

from __future__ import annotations

from agent.ledger import Gap, GapReason
from agent.recorder.succession import Accounted
from agent.units import NS_PER_S

CHECKPOINT_NS = 600 * NS_PER_S
"""A gap that lasts is entered in pieces of this length: a power cut must not hide more than that of its reason."""


class Silence:
    """Turns breaks and new beginnings into gaps that tile."""

    def __init__(self, boot: str, accounted: Accounted | None) -> None:
        """`accounted` is how far the account goes before this writer began; None on the very first start."""
        self._boot = boot
        self._previous: str | None = None
        self._from_ns: int | None = None
        self._reason: GapReason | None = "restart"
        if accounted is not None:
            self._from_ns, self._reason = accounted.end_ns, accounted.reason
            if accounted.boot != boot:
                self._previous = accounted.boot
                self._reason = "power_off"

    @property
    def silent(self) -> bool:
        """Whether a gap is open."""
        return self._from_ns is not None

    @property
    def accounted(self) -> Accounted | None:
        """Where the open gap begins, and why it's there."""
        if self._from_ns is None:
            return None
        return Accounted(self._previous or self._boot, self._from_ns, self._reason)

    def begin(self, reason: GapReason, end_ns: int) -> None:
        """Recording ended at `end_ns`."""
        self._from_ns, self._reason = end_ns, reason

    def change(self, reason: GapReason, at_ns: int) -> list[Gap]:
        """While silent: another reason took over at `at_ns`. Returns the piece that is over."""
        if self._from_ns is None:
            self.begin(reason, at_ns)
            return []
        if reason == self._reason:
            return []
        if self._reason is None:
            # Another writer's run ended here, and it didn't know yet that it would.
            self._reason = reason
            return []
        over = self._piece(at_ns)
        self._reason = reason
        return over

    def end(self, at_ns: int) -> list[Gap]:
        """Recording begins at `at_ns`. Returns the last piece."""
        over = self._piece(at_ns)
        self._from_ns = None
        return over

    def checkpoint(self, now_ns: int, *, force: bool = False) -> list[Gap]:
        """The piece so far, once it's long enough, or at once when the process ends (`force`)."""
        if self._from_ns is None or self._previous is not None:
            return []
        return self._piece(now_ns) if force or now_ns - self._from_ns >= CHECKPOINT_NS else []

    def earliest_begin(self, begin_ns: int) -> int:
        """`begin_ns`, unless it lies before the end of what is already accounted for, or follows it without a gap."""
        if self._from_ns is None or self._previous is not None:
            return begin_ns
        if self._reason is None:
            return self._from_ns
        return max(begin_ns, self._from_ns)

    def _piece(self, end_ns: int) -> list[Gap]:
        if self._from_ns is None or self._reason is None:
            return []
        end_ns = end_ns if self._previous else max(end_ns, self._from_ns)
        gap = Gap(self._boot, self._from_ns, end_ns, self._reason, self._previous)
        self._from_ns, self._previous = end_ns, None
        return [gap] if gap.previous_boot or gap.end_ns > gap.begin_ns else []
