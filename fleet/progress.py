"""How far a long command has come, on a terminal; elsewhere nothing."""

from __future__ import annotations

import sys
import time
from typing import Final, Self, TextIO

_WIDTH: Final = 30
_EVERY_S: Final = 0.2


class Progress:
    """A bar on one line of standard error. Use as a context manager: the line is cleared at the end."""

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        self._what = what
        self._stream = stream or sys.stderr
        self._shown = self._stream.isatty()
        self._next_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def at(self, done: int, total: int) -> None:
        """So many of so many. `total` is an estimate: what is beyond it counts as all."""
        if not self._shown or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _EVERY_S
        share = min(1.0, done / total) if total else 0.0
        bar = "█" * round(share * _WIDTH)
        self._stream.write(f"\r\033[K{self._what} {bar:<{_WIDTH}} {done:,} of {max(done, total):,}")
        self._stream.flush()
