"""The recorder process, living in a simulated room's time: `python -m tests.end_to_end.room_recorder FD STATE SPEED`.

The same service as `python -m agent.recorder`, with the room's clock instead of the machine's, so that hours of a
room can pass in minutes and every gap can still be measured.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import agent.recorder.service
from agent.handover import take_over
from agent.log import log_to_stderr
from agent.recorder.ring import Break, Ring
from agent.recorder.service import RecorderService
from hw.alsa import Block
from hw.simulated import RoomClock


class WaitingRing(Ring):
    """Makes the capture thread wait for the writer: where the room waits for its reader, nothing may overflow."""

    def put(self, block: Block) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._frames + block.frames <= self._capacity)
        super().put(block)

    def take(self, frames: int, timeout_s: float, holder: object = None) -> list[Block | Break] | None:
        taken = super().take(frames, timeout_s, holder)
        with self._changed:
            self._changed.notify_all()
        return taken


if __name__ == "__main__":
    _, descriptor, state, speed = sys.argv
    log_to_stderr("info")
    ring = Ring if float(speed) else WaitingRing
    with patch.object(agent.recorder.service, "Ring", ring):
        service = RecorderService(take_over(int(descriptor)), RoomClock(Path(state), float(speed)))
    sys.exit(service.run())
