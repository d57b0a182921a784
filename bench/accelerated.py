"""A process of the kiosk living in a room's time: `python -m bench.accelerated --settings-fd N ROLE STATE SPEED BEGAN`.

The same service as `python -m agent.recorder` or `python -m agent.courier`; hours of the room pass in minutes, and with
them every sync, sealing, status picture, telemetry and retry that belongs to those hours. What the network and boto3
time by themselves stays real.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent.handover import take_over
from agent.log import log_to_stderr
from hw.simulated import RoomClock


class RoomFromNow(RoomClock):
    """A room's clock whose wall time began at `began_ns`: today, because servers live by the machine's clock."""

    def __init__(self, state: Path, speed: float, began_ns: int) -> None:
        super().__init__(state, speed)
        self._ahead_ns = began_ns - self._WALL_NS

    def wall_ns(self) -> int:
        """As the room's own, moved to today."""
        return super().wall_ns() + self._ahead_ns


def main() -> int:
    """Run one role until it is told to stop."""
    _, _, descriptor, role, state, speed, began_ns = sys.argv
    log_to_stderr("info")
    settings = take_over(int(descriptor))
    clock = RoomFromNow(Path(state), float(speed), int(began_ns))
    # Neither process loads what only the other one needs.
    if role == "recorder":
        from agent.recorder.service import RecorderService

        return RecorderService(settings, clock).run()
    from agent.courier.service import CourierService

    return CourierService(settings, clock).run()


if __name__ == "__main__":
    sys.exit(main())
