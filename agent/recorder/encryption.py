"""Content pushed through age as it comes, and to whom.

age pulls its content. So a thread does the pulling, and sleeps until there is content for more than a chunk: it wakes
up once for every 64 KiB, and whoever hands content in goes on when everything of it is encrypted that can be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from agent.contract import age


class EncryptionFailed(Exception):
    """What was heard can't be encrypted, so it isn't kept: there is no falling back to plain."""


class Recipients:
    """Who can open the segments that begin from now on. Nobody in particular: these aren't encrypted."""

    def __init__(self, recipients: Sequence[str]) -> None:
        """Raises MisreadError for what is no public key."""
        self.now = parsed(recipients)
        self.labels = _labels(recipients)
        """The same for people."""

    def change(self, recipients: Sequence[str]) -> None:
        """Let others open what begins after this. Raises MisreadError; then nothing has changed."""
        fresh = parsed(recipients)
        if not fresh:
            raise AssertionError("what is encrypted never becomes plain by a change of recipients")
        self.now, self.labels = fresh, _labels(recipients)


def parsed(recipients: Sequence[str]) -> tuple[age.Recipient, ...]:
    """Raises MisreadError for the first that is no public key."""
    return tuple(age.recipient(each) for each in recipients)


def _labels(recipients: Sequence[str]) -> tuple[str, ...]:
    return tuple(age.label(each) for each in recipients)


class Encryptor:
    """One file. `write` and `finish` belong to one thread; both return when `emit` has had all that is ready."""

    def __init__(self, recipients: Sequence[age.Recipient], emit: Callable[[bytes], None]) -> None:
        """`emit` gets the header with the first chunk, then whole chunks, in order."""
        self._recipients = recipients
        self._emit = emit
        self._waiting = bytearray()
        self._held = 0
        """Bytes that age has read and not yet written."""
        self._given = memoryview(b"")
        self._no_more = False
        self._abandoned = False
        self._there = threading.Semaphore(0)
        self._wanted = threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def write(self, content: bytes) -> None:
        """Take more; whole chunks are emitted when a byte that follows is known. Raises EncryptionFailed."""
        self._waiting += content
        if self._held + len(self._waiting) > age.CHUNK_BYTES:
            self._hand_over()
            self._held = (self._held - 1) % age.CHUNK_BYTES + 1

    def finish(self) -> None:
        """Emit the rest, marked as the end. Raises EncryptionFailed."""
        self._start()
        self._no_more = True
        self._hand_over()
        self._end()

    def abandon(self) -> None:
        """Emit nothing more. Without effect after `finish`."""
        self._abandoned = True
        self._there.release()
        self._end()

    def _start(self) -> None:
        if self._thread is None:
            # A daemon: it may be waiting for content when the process ends.
            self._thread = threading.Thread(target=self._pull, name="encryptor", daemon=True)
            self._thread.start()
            self._wanted.acquire()

    def _hand_over(self) -> None:
        self._start()
        if self._failure is None:
            self._give()
        if self._failure is not None:
            raise EncryptionFailed(f"can't encrypt what was heard: {self._failure}") from self._failure

    def _give(self) -> None:
        self._held += len(self._waiting)
        self._given = memoryview(bytes(self._waiting))
        self._waiting.clear()
        self._there.release()
        self._wanted.acquire()

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _pull(self) -> None:
        try:
            age.encrypt(self, _Sink(self._emit), self._recipients)
        except BaseException as failure:  # noqa: BLE001 (told by whoever hands content in)
            self._failure = failure
        finally:
            self._wanted.release()

    def read(self, size: int, /) -> bytes:
        """For age alone: up to `size` bytes of content, once there are some; nothing at the end."""
        if not self._given and not self._no_more:
            self._wanted.release()
            self._there.acquire()
        if self._abandoned:
            raise _Abandoned
        piece, self._given = self._given[:size], self._given[size:]
        return bytes(piece)


class _Abandoned(Exception):
    """The segment was given up. No OSError: of those age takes an interrupted read for one to be tried again."""


class _Sink:
    """The file that age believes it writes."""

    def __init__(self, emit: Callable[[bytes], None]) -> None:
        self._emit = emit

    def write(self, data: bytes, /) -> int:
        self._emit(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Everything has been emitted."""
