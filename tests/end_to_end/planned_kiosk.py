"""A recorder or courier whose clock goes wrong by plan.

    python -m tests.end_to_end.planned_kiosk WHO FD PLAN [STATE SPEED]

The same services as `python -m agent.recorder` and `agent.courier`, with a clock whose wall time is stepped at exact
moments and which is synchronised when the plan says so: both processes of a kiosk live by the same plan. With STATE and
SPEED time passes as in that simulated room, else as on this machine.

In a room that waits for its reader nobody makes time pass while the microphone is closed: there the wait of the capture
thread itself does.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

import agent.recorder.service
from agent.courier.service import CourierService
from agent.handover import take_over
from agent.log import log_to_stderr
from agent.recorder.ring import Ring
from agent.recorder.service import RecorderService
from agent.units import NS_PER_S, Nanoseconds
from hw.simulated import RoomClock
from tests.end_to_end.plan import Plan
from tests.end_to_end.room_recorder import WaitingRing


class PlannedClock:
    """A `hw.clock.Clock` that follows a plan."""

    def __init__(self, plan: Plan, room: RoomClock | None, *, waits: bool) -> None:
        """`waits`: the room stands still while nobody listens."""
        self._plan = plan
        self._room = room
        self._waits = waits
        self._skipped_ns = 0

    @property
    def boot(self) -> str:
        return self._plan.boot

    def wall_ns(self) -> int:
        now_ns = self.monotonic_ns()
        return self._plan.offset_ns(now_ns / NS_PER_S) + now_ns

    def monotonic_ns(self) -> Nanoseconds:
        passed_ns = time.monotonic_ns() if self._room is None else self._room.monotonic_ns()
        return Nanoseconds(passed_ns + self._skipped_ns - round(self._plan.began_s * NS_PER_S))

    def synchronised(self) -> bool:
        now_s = self.monotonic_ns() / NS_PER_S
        return [turn.synchronised for turn in self._plan.turns if turn.at_s <= now_s][-1]

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if self._room is None:
            return event.wait(seconds)
        if not self._waits:
            return self._room.wait(event, seconds)
        if threading.current_thread().name == "capture":
            self._skipped_ns += round(seconds * NS_PER_S)
            return event.is_set()
        return event.wait(min(seconds, 0.1))


def main() -> int:
    who, descriptor, plan, *room = sys.argv[1:]
    log_to_stderr("info")
    settings = take_over(int(descriptor))
    speed = float(room[1]) if room else 1.0
    clock = PlannedClock(Plan.read(plan), RoomClock(Path(room[0]), speed) if room else None, waits=speed == 0)
    if who == "courier":
        return CourierService(settings, clock).run()
    with patch.object(agent.recorder.service, "Ring", Ring if speed else WaitingRing):
        service = RecorderService(settings, clock)
    return service.run()


if __name__ == "__main__":
    sys.exit(main())
