"""`kiosk-fleet` that is killed right after the broker took its n-th publication: `killed_admin N WORD…`."""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

from agent.contract.messages import Message
from fleet.broker import Line
from fleet.cli import main

left = int(sys.argv.pop(1))
publish = Line.publish


def counting(line: Line, message: Message) -> None:
    global left  # noqa: PLW0603 (this program's only state)
    publish(line, message)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)


with mock.patch.object(Line, "publish", counting):
    main()
