"""Whether something that was heard lies somewhere in plain: as samples, or as FLAC.

Known sound is looked for byte by byte, as it was heard and as it is encoded. Besides, every place that begins like a
FLAC frame of the recorder's is looked at, whatever it holds: four bytes of its header and the checksum of all of it
match by chance once in 2^40 places.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.mending import frame_at
from agent.recorder.flac import FlacStream
from agent.units import Frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW: Final = 24
"""Bytes of sound that are looked for at a time: noise of that length comes by chance nowhere."""

_WINDOWS: Final = 48


def found_in(content: bytes, sound: NDArray[np.int16], rate: int) -> list[str]:
    """What of `sound` (mono) lies in `content`; nothing of it should."""
    frames = encoded(sound, rate)
    wrong = []
    looked_for = {
        "samples": _spread([sound.tobytes()]),
        "samples, swapped": _spread([sound.astype(">i2").tobytes()]),
        "FLAC": _spread(frames),
    }
    here = pieces_in(content, {window for windows in looked_for.values() for window in windows})
    for what, windows in looked_for.items():
        if hits := len(here.intersection(windows)):
            wrong.append(f"{hits} of {len(windows)} pieces of sound found as {what}")
    begin = frames[1][:4] if len(frames) > 1 else b""
    count = sum(1 for _ in frame_headers(content, begin)) if begin else 0
    if count:
        wrong.append(f"{count} FLAC frames found")
    return wrong


def pieces_in(content: bytes, pieces: AbstractSet[bytes]) -> set[bytes]:
    """Which of `pieces` lie somewhere in `content`: all of them in one pass, by their first two bytes."""
    data = np.frombuffer(content, np.uint8)
    begins = np.zeros(1 << 16, bool)
    begins[[int.from_bytes(piece[:2], "big") for piece in pieces]] = True
    places = np.flatnonzero(begins[data[:-1].astype(np.uint16) << 8 | data[1:]])
    lengths = {len(piece) for piece in pieces}
    return {found for at in places.tolist() for length in lengths if (found := content[at : at + length]) in pieces}


def frame_headers(content: bytes, begin: bytes) -> Iterator[int]:
    """Where FLAC frames begin whose first four bytes are `begin` and whose header's checksum is right."""
    data = np.frombuffer(content, np.uint8)
    places = np.flatnonzero((data[:-3] == begin[0]) & (data[1:-2] == begin[1]))
    for place in places.tolist():
        if content[place + 2 : place + 4] == begin[2:4] and frame_at(content, place) is not None:
            yield place


def chances(content: bytes) -> tuple[int, float]:
    """How many places pass for the header of any FLAC frame, and how many would in as many random bytes.

    Two bytes of synchronisation and one of checksum: one place in 2^24.
    """
    data = np.frombuffer(content, np.uint8)
    places = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] == 0xF8))
    return sum(frame_at(content, place) is not None for place in places.tolist()), len(content) / 2**24


def encoded(sound: NDArray[np.int16], rate: int) -> list[bytes]:
    """The FLAC frames of `sound`, as the recorder encodes it."""
    pieces: list[bytes] = []

    def emit(piece: bytes, frames: Frames) -> None:
        if frames:
            pieces.append(piece)

    stream = FlacStream(emit, rate, 1, Frames(len(sound)))
    stream.write(sound.tobytes())
    stream.finish()
    return pieces


def _spread(pieces: list[bytes]) -> list[bytes]:
    """Windows from all over these bytes."""
    whole = b"".join(pieces)
    step = max(_WINDOW, (len(whole) - _WINDOW) // _WINDOWS)
    windows = (whole[at : at + _WINDOW] for at in range(0, len(whole) - _WINDOW, step))
    return [window for window in windows if len(set(window)) > _WINDOW // 3]
