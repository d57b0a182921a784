"""A port in front of another, on which a test lets a network go wrong.

A line accepts what a client sends to `port` and carries it to the real server behind it, one thread a connection. What
can go wrong before a byte is exchanged is here: nobody listens, a handshake that never ends, a certificate that has
expired. What happens after is the business of its two kinds, `tests.faults.store_line` and `tests.faults.broker_line`.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_LOOK_S = 0.1
_NOBODY = struct.pack("@H14x", socket.AF_UNSPEC)
_libc = ctypes.CDLL(None)

_SEGMENT_BYTES = 1400
_WINDOW_BYTES = 16 * 1024
"""As over an Ethernet, where loopback alone would swallow a whole recording at once."""


class Broken(Exception):
    """This connection is over."""


class Line:
    """Carries connections while the block runs."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.certificate: ssl.SSLContext | None = None
        """With one, clients have to speak TLS; changes count for new connections."""
        self.shakes_hands = True
        """Whether somebody answers a TLS handshake."""
        self.accepted: list[float] = []
        """When connections came, on the monotonic clock."""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._keeper = _bound(0)
        self.port: int = self._keeper.getsockname()[1]
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.refuse()
        for thread in self._threads:
            thread.join()
        self._keeper.close()

    def refuse(self) -> None:
        """Nobody listens any more, and who was connected is cut off. The port stays this line's own."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def listen(self) -> None:
        """Take connections, again."""
        self._listener = _bound(self.port)
        self._listener.listen(64)
        self._run(self._accept, self._listener)

    def cut(self) -> None:
        """Cut every connection off."""
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            reset(each)

    @property
    def closing(self) -> bool:
        """Whether the test is over."""
        return self._closing.is_set()

    def carry(self, client: socket.socket) -> None:
        """Look after one connection until it is over. Raises OSError or Broken when it breaks."""
        raise NotImplementedError

    @contextlib.contextmanager
    def to_server(self) -> Iterator[socket.socket]:
        """A connection to the server behind the line."""
        with socket.create_connection(("127.0.0.1", self.upstream), 30) as server, self._known(server):
            yield server

    def hang(self, client: socket.socket) -> None:
        """Neither read nor write nor close, until the client gives up."""
        poll = select.poll()
        poll.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while not self._closing.is_set() and not poll.poll(_LOOK_S * 1000):
            pass
        raise Broken

    def wait(self, seconds: float) -> None:
        """Let time pass on this connection."""
        if self._closing.wait(seconds):
            raise Broken

    def _accept(self, listener: socket.socket) -> None:
        # Ends by an error when the listener is shut.
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.accepted.append(time.monotonic())
                self._run(self._look_after, client)

    def _look_after(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, Broken), client, self._known(client):
            if self.certificate is None:
                self.carry(client)
                return
            if not self.shakes_hands:
                self.hang(client)
            with self.certificate.wrap_socket(client, server_side=True) as secret, self._known(secret):
                self.carry(secret)

    @contextlib.contextmanager
    def _known(self, each: socket.socket) -> Iterator[None]:
        with self._lock:
            self._sockets.add(each)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(each)

    def _run(self, body: object, *arguments: object) -> None:
        thread = threading.Thread(target=body, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()


def _bound(port: int) -> socket.socket:
    """A socket with that port, which may be another one's as long as only one of them listens."""
    each = socket.socket()
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW_BYTES)
    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT_BYTES)
    each.bind(("127.0.0.1", port))
    return each


def reset(each: socket.socket) -> None:
    """End a connection by RST, as a machine does that knows nothing of it any more. Who waits for it is woken.

    `close` would do it too, but not wake; `shutdown` would say goodbye. Python knows no other way to dissolve an
    association (connect(2)).
    """
    _libc.connect(each.fileno(), _NOBODY, len(_NOBODY))


def certified(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """What a server needs to show a certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context
