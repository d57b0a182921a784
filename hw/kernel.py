"""Small files in which the kernel tells something, read without raising and without waiting.

Whatever `hw` asks of /proc and /sys about the machine it asks through here. A file is opened without blocking, so that
something else in its place (a FIFO, a terminal) keeps nobody waiting, and no more of it is read than a sane one has.
Against a driver that sleeps in the kernel there is no such remedy: what is read lies in memory or in a register
(docs/HARDWARE.md).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MOST_BYTES: Final = 1 << 18
_DECIMAL: Final = re.compile(r"-?[0-9]{1,20}")
_HEXADECIMAL: Final = re.compile(r"0[xX][0-9a-fA-F]{1,16}")


def told(path: Path) -> str | None:
    """What a file says up to its first NUL, stripped; None when it says nothing, or not at once."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        # /proc gives a page at a time, whatever is asked for.
        pieces: list[bytes] = []
        while (room := _MOST_BYTES - sum(map(len, pieces))) and (piece := os.read(descriptor, room)):
            pieces.append(piece)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return text_of(b"".join(pieces))


def text_of(content: bytes) -> str | None:
    """Bytes of the kernel as text, as `told` gives it."""
    return content.partition(b"\0")[0].decode("utf-8", "replace").strip() or None


def number_of(text: str | None) -> int | None:
    """The whole decimal number that `text` is, or None."""
    return int(text) if text is not None and _DECIMAL.fullmatch(text) else None


def count_of(text: str | None) -> int | None:
    """As `number_of`, of things that can't be fewer than none."""
    number = number_of(text)
    return number if number is not None and number >= 0 else None


def hexadecimal_of(text: str | None) -> int | None:
    """The number that `text` writes as 0x…, or None."""
    return int(text, 16) if text is not None and _HEXADECIMAL.fullmatch(text) else None


def entries(directory: Path) -> Iterator[Path]:
    """What lies in a directory, by name; nothing when it isn't there."""
    try:
        found = sorted(directory.iterdir())
    except OSError:
        return
    yield from found
