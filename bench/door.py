"""A door between a client and a server, to be slammed: a TCP relay on a port of its own.

Open, it passes bytes both ways. Shut, nobody listens: connections are refused. Refusing, it answers every request with
an HTTP error, as a load balancer or a revoked policy does. `cut` resets whatever is under way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

_READ_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST."""

_WORDS = {403: ("Forbidden", "AccessDenied"), 503: ("Service Unavailable", "SlowDown")}


class Door:
    """Relays `port` to `behind` of 127.0.0.1 in a thread of its own, from `with` to its end."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._status = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door")
        self.port = 0
        """Where to knock; stays the same however often it is shut."""

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Let everybody through."""
        self._status = 0
        self._do(self._listen())

    def shut(self) -> None:
        """Refuse connections and reset those under way."""
        self._do(self._close())

    def refuse(self, status: int) -> None:
        """Answer each request with `status` (403 or 503), after resetting what is under way."""
        self._status = status
        self.cut()

    def cut(self) -> None:
        """Reset the connections that are under way; new ones are welcome."""
        self._do(self._reset())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._welcome, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for writer in self._writers:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._status:
                await self._answer(reader, writer)
            else:
                await self._relay(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        try:
            passing = [asyncio.ensure_future(_pass(*way)) for way in ((reader, far_writer), (far_reader, writer))]
            _, left = await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
            await asyncio.wait(passing)
        finally:
            far_writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"100-continue" not in head:
            lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
        phrase, code = _WORDS[self._status]
        page = f"<Error><Code>{code}</Code><Message>the door is guarded</Message></Error>".encode()
        lines = [f"HTTP/1.1 {self._status} {phrase}", f"Content-Length: {len(page)}", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode() + page)
        await writer.drain()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_READ_BYTES):
            writer.write(piece)
            await writer.drain()
    except OSError:
        return
