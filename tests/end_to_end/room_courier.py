"""The courier process, living in a simulated room's time: `python -m tests.end_to_end.room_courier FD STATE SPEED`.

The same service as `python -m agent.courier`, with the room's clock instead of the machine's: its waits pass as fast
as the room's time does. What the operating system and its libraries time themselves stays real: sockets, and paho.
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent.courier.service import CourierService
from agent.handover import take_over
from agent.log import log_to_stderr
from hw.simulated import RoomClock

if __name__ == "__main__":
    _, descriptor, state, speed = sys.argv
    log_to_stderr("info")
    sys.exit(CourierService(take_over(int(descriptor)), RoomClock(Path(state), float(speed))).run())
