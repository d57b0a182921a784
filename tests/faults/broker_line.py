"""The way to an MQTT broker: bytes, carried both ways, until they are not."""

from __future__ import annotations

import select
import socket
import threading

from tests.faults.line import Line

_BLOCK = 16 * 1024
_LOOK_MS = 50


class BrokerLine(Line):
    """The line before a broker."""

    def __init__(self, upstream: int) -> None:
        super().__init__(upstream)
        self._still = threading.Event()

    def vanish(self) -> None:
        """Who is connected, or connects, hears nothing any more; both ends believe that they are connected."""
        self._still.set()

    def come_back(self) -> None:
        """New connections work. Those that hung go on hanging."""
        self._still.clear()

    def carry(self, client: socket.socket) -> None:
        with self.to_server() as server:
            ways = {client: server, server: client}
            poll = select.poll()
            for each in ways:
                poll.register(each, select.POLLIN)
            by_number = {each.fileno(): each for each in ways}
            while not self.closing:
                ready = poll.poll(_LOOK_MS)
                if self._still.is_set():
                    self.hang(client)
                for number, _ in ready:
                    source = by_number[number]
                    received = source.recv(_BLOCK)
                    if not received:
                        return
                    ways[source].sendall(received)
