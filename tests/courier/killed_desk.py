"""A flag desk that is killed (kill -9) on its way: `python -m tests.courier.killed_desk ROOT PAYLOAD-FILE N`.

N counts what it asks the file system to do: the process dies just before the N-th fsync or rename.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.contract.evaluation import Target
from agent.contract.messages import FLAGS, Heard
from agent.courier.flags import FlagDesk
from agent.spool import Layout
from hw.clock import SystemClock
from tests.courier.admin import KEY


def main() -> None:
    """Hear one payload, and die of it; the exit status is 0 when it was survived."""
    root, payload, left = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), [int(sys.argv[3])]

    def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:  # noqa: ANN401
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return called

    os.fsync, os.rename = mortal(os.fsync), mortal(os.rename)
    target = Target(device="room-12", site="north")
    desk = FlagDesk((KEY,), target, Layout(root), root / "run", SystemClock(), threading.Event(), {})
    desk.begin()
    desk.hear(Heard(FLAGS, payload, retained=True))
    desk.work()


if __name__ == "__main__":
    main()
