"""What a process tells systemd about itself: that it is ready, that it gets on, and how it is (sd_notify(3)).

Without systemd (`NOTIFY_SOCKET` isn't set) nothing is said. Nobody waits for an answer: a datagram that can't be sent
now is lost, and the next one counts.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Supervisor:
    """Whoever started this process and looks after it. For one thread."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._ready = False
        self._status = ""

    def getting_on(self, status: str) -> None:
        """Progress was made: feed the watchdog; the first time also say that the start is done.

        `status` is one line for a person, as `systemctl status` shows it.
        """
        lines = ["WATCHDOG=1"]
        if not self._ready:
            lines.append("READY=1")
        self._send(lines, status)
        self._ready = True

    def stuck(self, status: str) -> None:
        """No progress: say why, and leave the watchdog unfed."""
        self._send([], status)

    def stopping(self) -> None:
        """The end has begun, on purpose."""
        self._send(["STOPPING=1"], "ending")

    def _send(self, lines: list[str], status: str) -> None:
        status = status.partition("\n")[0]
        if status != self._status:
            lines.append(f"STATUS={status}")
        if not (self._address and lines):
            return
        # A leading "@" stands for the NUL of Linux's abstract sockets.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(lines).encode(), address)
            self._status = status
        except OSError as error:
            log.debug("the supervisor isn't told: %s", error)
