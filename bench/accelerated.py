"""The recorder living in a room's time: `python -m bench.accelerated --settings-fd N STATE SPEED`.

The same service as `python -m agent.recorder`; hours of the room pass in minutes, and with them every sync, sealing and
status picture that belongs to those hours.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from agent.handover import take_over
from agent.log import log_to_stderr
from agent.recorder.service import RecorderService
from hw.simulated import RoomClock


class RoomFromNow(RoomClock):
    """A room's clock that begins today, because the courier lives by the machine's clock."""

    def __init__(self, state: Path, speed: float) -> None:
        super().__init__(state, speed)
        self._ahead_ns = time.time_ns() - super().wall_ns()

    def wall_ns(self) -> int:
        """As the room's own, moved to today."""
        return super().wall_ns() + self._ahead_ns


if __name__ == "__main__":
    _, _, descriptor, state, speed = sys.argv
    log_to_stderr("info")
    sys.exit(RecorderService(take_over(int(descriptor)), RoomFromNow(Path(state), float(speed))).run())
