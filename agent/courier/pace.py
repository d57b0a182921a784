"""How fast recordings leave: one ceiling for all uploads together, and a way to end them in the middle."""

from __future__ import annotations

import io
import threading
from pathlib import Path

from agent.errors import KioskError
from agent.units import NS_PER_S
from hw.clock import Clock

_SMALLEST_READ = 4096
_LARGEST_READ = 32 * 1024
"""What goes out in one piece, and has to go out in the time that a standstill is waited for: slow isn't broken."""


class Gone(KioskError):
    """The file isn't in the spool any more: it was evicted while it waited."""


class Unreadable(KioskError):
    """The file is in the spool but the card doesn't give it out."""


class Interrupted(Exception):
    """The process is ending: an upload was left in the middle."""


class TokenBucket:
    """Bytes a second for everybody together. Pure: it is told the time and answers how long to wait.

    It holds no burst: over any interval it lets through at most the rate times its length plus one read.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_ns = 0

    def reserve(self, count: int, now_ns: int) -> int:
        """Take `count` bytes; nanoseconds to wait before they may go."""
        start_ns = max(now_ns, self._free_ns)
        self._free_ns = start_ns + count * NS_PER_S // self._bytes_per_s
        return start_ns - now_ns


class Pace:
    """Opens recordings so that reading them takes as long as the ceiling demands."""

    def __init__(self, bytes_per_s: int, clock: Clock, stop: threading.Event) -> None:
        """`bytes_per_s` is for all files together, 0 for no ceiling; `stop` interrupts every read."""
        self._bytes_per_s = bytes_per_s
        self._bucket = TokenBucket(bytes_per_s) if bytes_per_s else None
        self._clock = clock
        self._stop = stop
        self._lock = threading.Lock()

    def open(self, path: Path) -> PacedFile:
        """Open a recording for one upload. Raises Gone or Unreadable."""
        try:
            return PacedFile(path, self)
        except OSError as error:
            raise unreadable(path, error) from error

    def wait_for(self, count: int) -> int:
        """Wait until bytes may go; how many of the `count` wished for. Raises Interrupted."""
        if self._bucket is None:
            if self._stop.is_set():
                raise Interrupted
            return count
        # Short reads under a low ceiling: a store gives up on a connection that is silent for long.
        granted = min(count, max(_SMALLEST_READ, self._bytes_per_s // 8))
        with self._lock:
            wait_ns = self._bucket.reserve(granted, self._clock.monotonic_ns())
        if self._clock.wait(self._stop, wait_ns / NS_PER_S):
            raise Interrupted
        return granted


class PacedFile(io.FileIO):
    """A recording on its way out. `failure` keeps why reading it ended early, whatever a library makes of that."""

    def __init__(self, path: Path, pace: Pace) -> None:
        super().__init__(path, "rb")
        self._path = path
        self._pace = pace
        self.failure: Interrupted | KioskError | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, fewer when the ceiling is low. Raises Interrupted or Unreadable."""
        wished = min(size, _LARGEST_READ) if size is not None and size >= 0 else _SMALLEST_READ
        try:
            return super().read(self._pace.wait_for(wished)) or b""
        except Interrupted as interrupted:
            self.failure = interrupted
            raise
        except OSError as error:
            self.failure = unreadable(self._path, error)
            raise self.failure from error


def unreadable(path: Path, error: OSError) -> Gone | Unreadable:
    """What an `error` from the spool means."""
    if isinstance(error, FileNotFoundError):
        return Gone("read recording", place=str(path), cause="it is no longer there")
    return Unreadable(
        "read recording",
        place=str(path),
        cause=error.strerror or str(error),
        hint="the courier's user needs to read the spool; if it may, the card is failing",
        retryable=True,
    )
