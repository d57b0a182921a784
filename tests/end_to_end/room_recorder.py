"""The recorder process, living in a simulated room's time: `python -m tests.end_to_end.room_recorder FD STATE SPEED`.

The same service as `python -m agent.recorder`, with the room's clock instead of the machine's, so that hours of a
room can pass in minutes and every gap can still be measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent.handover import take_over
from agent.log import log_to_stderr
from agent.recorder.service import RecorderService
from hw.simulated import RoomClock

if __name__ == "__main__":
    _, descriptor, state, speed = sys.argv
    log_to_stderr("info")
    sys.exit(RecorderService(take_over(int(descriptor)), RoomClock(Path(state), float(speed))).run())
