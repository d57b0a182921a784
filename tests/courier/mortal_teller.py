"""Tellers that are killed (kill -9) one after the other: `python -m tests.courier.mortal_teller ROOT PORT LIVES SEED`.

Each life notes events, brings them to the card and tells them, as fast as it can, on a clock that is too fast. It says
"noting N" before an event is noted and "kept N" when the card has it. The last life isn't killed: it tells the rest.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from agent.courier.broker import Broker
from agent.settings import Mqtt
from agent.units import Nanoseconds
from hw.clock import SystemClock
from tests.courier.teller import Teller, line

_HASTE = 20
_REST_S = 30


class _HastyClock(SystemClock):
    def monotonic_ns(self) -> Nanoseconds:
        return Nanoseconds(super().monotonic_ns() * _HASTE)


def _live(root: Path, port: int, first: int, *, for_ever: bool) -> None:
    teller = Teller(root, _HastyClock())
    broker = Broker(Mqtt(url=f"mqtt://127.0.0.1:{port}"), "room-12", None, lambda: None)
    broker.start()
    number, dice = first, random.Random(first)
    deadline = time.monotonic() + _REST_S
    while for_ever or time.monotonic() < deadline:
        if for_ever:
            noted = range(number, number + dice.randint(1, 5))
            for number in noted:
                _say(f"noting {number}")
                teller.note(number)
            number = noted[-1] + 1
        teller.keeper.step()
        if for_ever:
            _say(f"kept {noted[-1]}")
        rest_s = teller.events.step(line(broker))
        if not for_ever and broker.session and rest_s > 1 and teller.tray.room() > 0 and not teller.tray.noted():
            teller.keeper.step()
            if teller.events.step(line(broker)) > 1:
                break
        time.sleep(0.005)
    teller.keeper.step(last=True)
    broker.stop(None, 1)


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def main() -> None:
    """The lives in a row; each is a fork of this process, which has no threads."""
    root, port, lives, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
    dice = random.Random(seed)
    for life in range(lives + 1):
        child = os.fork()
        if child == 0:
            _live(root, port, (life + 1) * 100_000, for_ever=life < lives)
            os._exit(0)
        if life < lives:
            time.sleep(dice.uniform(0.03, 0.3))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
