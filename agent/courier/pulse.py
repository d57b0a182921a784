"""Whether a loop turns, for the watchdog (DESIGN §1): no network is no fault, a loop that hangs is."""

from __future__ import annotations

from typing import Final

from agent.units import NS_PER_S
from hw.clock import Clock

_GRACE_S: Final = 30.0
"""What a turn may take beside the rest before it: a slow name server, a picture of a large spool."""


class Pulse:
    """Beaten by one thread, felt by another."""

    def __init__(self, name: str, rest_s: float, clock: Clock) -> None:
        """`rest_s` is how long the loop rests at most between two turns."""
        self._name = name
        self._clock = clock
        self._limit_ns = round((rest_s + _GRACE_S) * NS_PER_S)
        self._beat_ns = clock.monotonic_ns()

    def beat(self) -> None:
        """A turn begins."""
        self._beat_ns = self._clock.monotonic_ns()

    @property
    def missed(self) -> str:
        """What is wrong, for a person; "" while the loop turns."""
        silent_ns = self._clock.monotonic_ns() - self._beat_ns
        return "" if silent_ns <= self._limit_ns else f"{self._name} hangs since {silent_ns // NS_PER_S} s"
