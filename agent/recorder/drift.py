"""How fast the sound card's crystal runs, against the monotonic clock (which NTP slews along with wall time)."""

from __future__ import annotations

from typing import Final

from agent.units import NS_PER_S

_SETTLED_NS: Final = 60 * NS_PER_S
"""Over a shorter time the jitter of one reading (milliseconds) would drown a crystal's drift (parts per million)."""


class Drift:
    """Compares frames with time over one unbroken stream."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._began_ns: int | None = None
        self._frames = 0

    def broken(self) -> None:
        """Frames are missing: begin anew with the next block."""
        self._began_ns = None

    def heard(self, frames: int, ended_ns: int) -> float | None:
        """Count a block; parts per million by which the card is fast, None until that can be told."""
        if self._began_ns is None:
            self._began_ns, self._frames = ended_ns, 0
            return None
        self._frames += frames
        elapsed_ns = ended_ns - self._began_ns
        if elapsed_ns < _SETTLED_NS:
            return None
        return (self._frames * NS_PER_S / self._rate / elapsed_ns - 1) * 1e6
