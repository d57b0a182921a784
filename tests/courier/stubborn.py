"""An S3 store over real HTTP that obeys S3's rules for PutObject and can be told to answer something else.

SeaweedFS can't be made to answer 409, 501 or a skewed clock; this one can. Like a real store it checks the SHA-256
header against the body, honours `If-None-Match: *`, and stores an object only once its body is whole.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say instead of doing it."""

    status: int
    code: str = ""
    page: str = ""
    """Sent instead of S3's XML, as proxies do."""
    date: float | None = None


@dataclass
class Stubborn:
    """What the store holds, was asked, and will say."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    answers: deque[Answer] = field(default_factory=deque)
    """Given to the next requests, one each."""
    conditional: bool = True
    """Whether it knows `If-None-Match`; if not it answers 501, as S3 does for headers it doesn't implement."""
    confirms: bool = True
    """Whether it knows SHA-256 checksums and says so in its answers."""
    date: float | None = None
    """What its clock says; None is the machine's."""
    etag: str | None = None
    """What it says instead of the MD5."""
    keep_body: bytes | None = None
    """What it takes every body for: a broken line."""
    on_request: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Stubborn

    def do_PUT(self) -> None:
        store = self.store
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if store.keep_body is not None:
            content = store.keep_body
        store.requests.append({name.lower(): value for name, value in self.headers.items()})
        store.on_request.set()
        if store.answers:
            self._answer(store.answers.popleft())
        elif "If-None-Match" in self.headers and not store.conditional:
            self._answer(Answer(501, "NotImplemented"))
        elif "If-None-Match" in self.headers and self.path in store.objects:
            self._answer(Answer(412, "PreconditionFailed"))
        else:
            self._store(content)

    def _store(self, content: bytes) -> None:
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        if self.store.confirms and self.headers["x-amz-checksum-sha256"] != digest:
            self._answer(Answer(400, "BadDigest"))
            return
        self.store.objects[self.path] = content
        etag = self.store.etag or hashlib.md5(content, usedforsecurity=False).hexdigest()
        headers = {"ETag": f'"{etag}"'}
        if self.store.confirms:
            headers["x-amz-checksum-sha256"] = digest
        self._answer(Answer(200), headers)

    def do_HEAD(self) -> None:
        self._answer(self.store.answers.popleft() if self.store.answers else Answer(200), body=False)

    def _answer(self, answer: Answer, headers: dict[str, str] | None = None, *, body: bool = True) -> None:
        content = answer.page.encode()
        if answer.code and body:
            content = f"<Error><Code>{answer.code}</Code><Message>scripted</Message></Error>".encode()
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(answer.date or self.store.date, usegmt=True))
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def stubborn_store(certificate: tuple[Path, Path] | None = None) -> Iterator[Stubborn]:
    """Run one on a free port; over TLS with a certificate and its key."""
    store = Stubborn()
    handler = type("Handler", (_Handler,), {"store": store})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        store.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake belongs to the connection's own thread, where a failing one harms nobody.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield store
        finally:
            server.shutdown()
            thread.join()
