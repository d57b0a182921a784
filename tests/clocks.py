"""A clock that a test owns."""

from __future__ import annotations

import threading

from agent.units import NS_PER_S, Nanoseconds

BOOT = "b" * 32


class FakeClock:
    """Stands still until it's told to advance; waiting advances it."""

    def __init__(self, *, boot: str = BOOT, monotonic_s: float = 100.0, wall_s: float = 1_800_000_000.0) -> None:
        self.boot = boot
        self.is_synchronised = True
        self._monotonic_ns = round(monotonic_s * NS_PER_S)
        self._wall_ns = round(wall_s * NS_PER_S)

    def wall_ns(self) -> int:
        return self._wall_ns

    def monotonic_ns(self) -> Nanoseconds:
        return Nanoseconds(self._monotonic_ns)

    def synchronised(self) -> bool:
        return self.is_synchronised

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if not event.is_set():
            self.advance(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Both clocks go on."""
        self._monotonic_ns += round(seconds * NS_PER_S)
        self._wall_ns += round(seconds * NS_PER_S)

    def step(self, seconds: float) -> None:
        """Only wall time jumps, as when the clock is set."""
        self._wall_ns += round(seconds * NS_PER_S)

    def reboot(self, boot: str, *, off_s: float) -> None:
        """The machine was off for `off_s` and has just come up."""
        self._wall_ns += round(off_s * NS_PER_S)
        self._monotonic_ns = 10 * NS_PER_S
        self.boot = boot
