"""Whether a stream's frames follow each other without a hole, told by when they were heard.

A driver counts what it loses and says so (an overrun), but a microphone that stalls for a moment, or a bus that drops
packets, loses frames that nobody counts: the stream just goes on later. Only the clock tells. When a block was heard is
known between two readings of the clock, and a thread that had to wait between them must not look like a hole: a block
is late only if even the earliest time it can have been heard is later than the latest that the ones before allow.

A crystal may be slow all the time. What it can be slow by is forgiven as it grows; holes that are each too small to be
told from the jitter of a driver add up until they are a hole together. Where in a block a hole lies nobody can tell: it
counts as lying before it.
"""

from __future__ import annotations

from typing import Final

from agent.units import NS_PER_S, Nanoseconds

_SLOWEST_PPM: Final = 1000
"""Sound cards keep within 300 ppm; a tenth of a per cent is no crystal any more."""


class Continuity:
    """Follows one stream from block to block."""

    def __init__(self, rate: int, tolerance_ns: int) -> None:
        """Holes up to `tolerance_ns` in all pass for jitter."""
        self._rate = rate
        self._tolerance_ns = tolerance_ns
        self._ended_ns: int | None = None

    def broken(self) -> None:
        """The stream is known to be broken: what comes next needn't follow."""
        self._ended_ns = None

    def heard(self, frames: int, earliest_ns: int | None, latest_ns: int) -> tuple[Nanoseconds, bool]:
        """When a block of `frames` ended, and whether it follows the one before.

        Its last frame was heard between the two times; `earliest_ns` is None when only the later one is known. The
        answer is the latest end that agrees with every block so far, which is steadier than a single reading.
        """
        ended_ns, whole = latest_ns, True
        if self._ended_ns is not None:
            length_ns = frames * NS_PER_S // self._rate
            expected_ns = self._ended_ns + length_ns + length_ns * _SLOWEST_PPM // 10**6
            whole = earliest_ns is None or earliest_ns - expected_ns <= self._tolerance_ns
            if whole:
                ended_ns = min(latest_ns, expected_ns)
        self._ended_ns = ended_ns
        return Nanoseconds(ended_ns), whole
