"""The way to an S3 store: understands HTTP as far as it must to let each kind of fault happen where it hurts.

    with StoreLine(store_port) as line:
        line.mode = reset_after(10_000)         # what every request meets from now on
        ...
        line.mode = passes                      # the fault is over

A connection on which something went wrong stays wrong: who hangs on it has to notice by himself.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.client import HTTPMessage, parse_headers
from io import BytesIO

from tests.faults.line import Broken, Line, reset

_BLOCK = 16 * 1024
_TICKS_PER_S = 10


@dataclass(slots=True)
class Attempt:
    """One request that reached the line, and what it came to."""

    method: str
    began_s: float
    """Monotonic time."""
    status: int | None = None
    """What the client was told; None is nothing, or not all of it."""
    ended_s: float | None = None
    genuine: bool = False
    """Whether that came from the store."""


class Stream:
    """A socket, read message by message."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._read = b""

    def head(self) -> bytes:
        """Up to and including the empty line. Raises Broken at the end of the stream."""
        while b"\r\n\r\n" not in self._read:
            self._read += self._received()
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def some(self, most: int) -> bytes:
        """Between 1 and `most` bytes. Raises Broken at the end of the stream."""
        read = self._read or self._received(most)
        self._read = read[most:]
        return read[:most]

    def _received(self, most: int = _BLOCK) -> bytes:
        received = self.socket.recv(most)
        if not received:
            raise Broken
        return received


@dataclass
class Exchange:
    """One request on its way, in the hands of a mode."""

    line: StoreLine
    client: Stream
    server: Stream
    head: bytes
    attempt: Attempt
    headers: HTTPMessage = field(init=False)
    _answer: bytes = b""
    """The head of an answer that came before the body was asked for."""

    def __post_init__(self) -> None:
        self.headers = _headers(self.head)

    @property
    def conditional(self) -> bool:
        return "If-None-Match" in self.headers

    def forward_request(self, most: int | None = None, *, bytes_per_s: int = 0, garble: bool = False) -> None:
        """Carry the request to the store, or `most` bytes of its body."""
        self.server.socket.sendall(self.head)
        if "Expect" in self.headers:
            answer = self.server.head()
            if _status(answer) != HTTPStatus.CONTINUE:
                self._answer = answer
                return
            self.client.socket.sendall(answer)
        length = _length(self.headers)
        self._carry(self.client, self.server, length if most is None else min(length, most), bytes_per_s, garble)

    def forward_answer(self, *, bytes_per_s: int = 0) -> None:
        """Carry the store's answer to the client."""
        head = self._answer or self.server.head()
        headers = _headers(head)
        answer = head + self._body(headers)
        block = bytes_per_s // _TICKS_PER_S or len(answer)
        begun_s = time.monotonic()
        for start in range(0, len(answer), block):
            part = answer[start : start + block]
            self._pace(begun_s, start + len(part), bytes_per_s)
            self.client.socket.sendall(part)
        self._told(_status(head), genuine=True)
        if self._answer:
            raise Broken

    def swallow_request(self) -> None:
        """Read all of it and keep it from the store."""
        if "Expect" in self.headers:
            self.client.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = _length(self.headers)
        while left:
            left -= len(self.client.some(min(left, _BLOCK)))

    def swallow_answer(self) -> None:
        """Wait until the store has said that it has it, and keep that from the client."""
        head = self._answer or self.server.head()
        self._body(_headers(head))

    def say(self, status: int, page: str, content_type: str = "application/xml", *lines: str) -> None:
        """Answer in place of the store, and hang up."""
        phrase = HTTPStatus(status).phrase
        body = b"" if self.attempt.method == "HEAD" else page.encode()
        head = [f"HTTP/1.1 {status} {phrase}", f"Date: {formatdate(usegmt=True)}", f"Content-Type: {content_type}"]
        head += [f"Content-Length: {len(body)}", "Connection: close", *lines]
        self.client.socket.sendall("\r\n".join([*head, "", ""]).encode() + body)
        self._told(status)
        raise Broken

    def hang(self) -> None:
        """Nothing goes on here, for ever."""
        self.line.hang(self.client.socket)

    def reset(self) -> None:
        """The connection is gone."""
        reset(self.client.socket)
        raise Broken

    def _carry(self, source: Stream, sink: Stream, count: int, bytes_per_s: int, garble: bool) -> None:  # noqa: FBT001
        block = bytes_per_s // _TICKS_PER_S or _BLOCK
        begun_s, carried = time.monotonic(), 0
        while carried < count:
            read = source.some(min(count - carried, block))
            carried += len(read)
            self._pace(begun_s, carried, bytes_per_s)
            if garble:
                read, garble = bytes([read[0] ^ 1]) + read[1:], False
            sink.socket.sendall(read)

    def _pace(self, begun_s: float, carried: int, bytes_per_s: int) -> None:
        """Wait until so much may have passed. A busy machine catches up: the store hangs up on who is much slower."""
        if bytes_per_s:
            self.line.wait(max(0.0, begun_s + carried / bytes_per_s - time.monotonic()))

    def _body(self, headers: HTTPMessage) -> bytes:
        if self.attempt.method == "HEAD":
            return b""
        body, length = b"", _length(headers)
        chunked = headers.get("Transfer-Encoding") == "chunked"
        while not body.endswith(b"0\r\n\r\n") if chunked else len(body) < length:
            body += self.server.some(_BLOCK)
        return body

    def _told(self, status: int, *, genuine: bool = False) -> None:
        self.attempt.status, self.attempt.ended_s, self.attempt.genuine = status, time.monotonic(), genuine


Mode = Callable[[Exchange], None]


class StoreLine(Line):
    """The line before a store; `attempts` is every request that came, in order."""

    def __init__(self, upstream: int) -> None:
        super().__init__(upstream)
        self.mode: Mode = passes
        self.attempts: list[Attempt] = []

    def carry(self, client: socket.socket) -> None:
        stream = Stream(client)
        while True:
            head = stream.head()
            attempt = Attempt(head.split(b" ", 1)[0].decode(), time.monotonic())
            self.attempts.append(attempt)
            with self.to_server() as server:
                self.mode(Exchange(self, stream, Stream(server), head, attempt))

    def arrivals(self) -> list[float]:
        """When the store's word that it has an object came through, on the monotonic clock."""
        good = (HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED)
        puts = [one for one in self.attempts if one.method == "PUT" and one.genuine and one.status in good]
        return [one.ended_s for one in puts if one.ended_s is not None]


def passes(exchange: Exchange) -> None:
    """All is well."""
    exchange.forward_request()
    exchange.forward_answer()


def black_hole(exchange: Exchange) -> None:
    """Connections are taken, what is sent is lost."""
    exchange.hang()


def never_answers(exchange: Exchange) -> None:
    """Everything is read, nothing is said or done."""
    exchange.swallow_request()
    exchange.hang()


def hangs_up(_: Exchange) -> None:
    """The connection ends in good order as soon as something is asked."""
    raise Broken


def talks_nonsense(exchange: Exchange) -> None:
    """What comes back isn't HTTP."""
    exchange.client.socket.sendall(b"\x15\x03\x01\x00\x02\x02\x16 what?\r\n\r\n")
    raise Broken


def garbles(exchange: Exchange) -> None:
    """One bit of each body changes on the way."""
    exchange.forward_request(garble=True)
    exchange.forward_answer()


def drops_reply(exchange: Exchange) -> None:
    """The store takes the object, then the connection breaks."""
    exchange.forward_request()
    exchange.swallow_answer()
    exchange.reset()


def swallows_reply(exchange: Exchange) -> None:
    """The store takes the object, and nobody hears of it."""
    exchange.forward_request()
    exchange.swallow_answer()
    exchange.hang()


def knows_no_conditions(exchange: Exchange) -> None:
    """As a store that doesn't implement `If-None-Match`."""
    if exchange.conditional:
        answers(501, "NotImplemented")(exchange)
    passes(exchange)


def captive_portal(exchange: Exchange) -> None:
    """Every page is the hotel's."""
    exchange.swallow_request()
    exchange.say(200, "<html><title>Welcome! Please log in.</title></html>", "text/html")


def reset_after(count: int) -> Mode:
    """The connection breaks when `count` bytes of a body have passed."""

    def mode(exchange: Exchange) -> None:
        exchange.forward_request(count)
        exchange.reset()

    return mode


def vanishes_after(count: int) -> Mode:
    """The far side is gone without a word when `count` bytes of a body have passed."""

    def mode(exchange: Exchange) -> None:
        exchange.forward_request(count)
        exchange.hang()

    return mode


def trickles(up: int = 0, down: int = 0) -> Mode:
    """So many bytes a second pass, and no more; 0 is all of them."""

    def mode(exchange: Exchange) -> None:
        exchange.forward_request(bytes_per_s=up)
        exchange.forward_answer(bytes_per_s=down)

    return mode


def answers(status: int, code: str = "", *, after_body: bool = False) -> Mode:
    """The store refuses, as S3 does it: before it wants the body, or `after_body`."""
    page = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>" if code else ""

    def mode(exchange: Exchange) -> None:
        if after_body:
            exchange.swallow_request()
        exchange.say(status, page)

    return mode


def redirects(exchange: Exchange) -> None:
    """As a portal that wants to be seen first."""
    exchange.say(302, "", "text/html", "Location: http://portal.invalid/")


def _headers(head: bytes) -> HTTPMessage:
    return parse_headers(BytesIO(head.partition(b"\r\n")[2]))


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


def _length(headers: HTTPMessage) -> int:
    return int(headers.get("Content-Length", "0"))
