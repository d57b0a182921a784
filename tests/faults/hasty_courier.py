"""The courier process, living so many times faster: `python -m tests.faults.hasty_courier FD SPEED [ROOT]`.

The same service as `python -m agent.courier` with a clock in a hurry, on the machine whose /proc and /sys lie below
ROOT. Sockets and paho keep real time.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from agent.courier.service import CourierService
from agent.handover import take_over
from agent.log import log_to_stderr
from agent.units import Nanoseconds
from hw.clock import SystemClock


class HastyClock(SystemClock):
    """Right when it is made, from then on `speed` times too fast."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed
        self._wall_ns = super().wall_ns()
        self._monotonic_ns = super().monotonic_ns()

    def wall_ns(self) -> int:
        return self._wall_ns + self._passed_ns()

    def monotonic_ns(self) -> Nanoseconds:
        return Nanoseconds(self._monotonic_ns + self._passed_ns())

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return super().wait(event, seconds / self._speed)

    def _passed_ns(self) -> int:
        return round((super().monotonic_ns() - self._monotonic_ns) * self._speed)


if __name__ == "__main__":
    _, descriptor, speed, *root = sys.argv
    log_to_stderr("info")
    service = CourierService(take_over(int(descriptor)), HastyClock(float(speed)), Path(root[0] if root else "/"))
    sys.exit(service.run())
