"""A FLAC file made strictly by appending.

libsndfile encodes into a Python object and, on closing, seeks back into STREAMINFO. Here the encoder's file is an
append-only stream: the planned length is put into STREAMINFO as it passes by, so that a segment of that length is a
perfect file although nothing was rewritten, and the rewrites at the end go nowhere. A segment that ends early is
mended later by `agent.streaminfo`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import soundfile

from agent.streaminfo import STREAMINFO_END, with_total_frames
from agent.units import Frames

BLOCK_FRAMES: Final = 4096
"""Frames in each FLAC frame libsndfile makes; the last one of a file may be shorter."""

_SYNC: Final = b"\xff\xf8"


class FlacStream:
    """Encodes one segment; every encoded piece is handed to `emit(piece, frames)` in order.

    A piece is either a metadata block (0 frames) or one whole FLAC frame.
    """

    def __init__(self, emit: Callable[[bytes, Frames], None], rate: int, channels: int, planned: Frames) -> None:
        self._sink = _AppendOnly(emit, planned)
        self._frame_bytes = 2 * channels
        self._encoder = soundfile.SoundFile(
            self._sink, "w", samplerate=rate, channels=channels, subtype="PCM_16", format="FLAC"
        )

    def write(self, pcm: bytes | memoryview) -> None:
        """Encode interleaved 16-bit frames in native byte order. Up to a block of them may wait inside."""
        self._sink.fed += len(pcm) // self._frame_bytes
        self._encoder.buffer_write(pcm, "int16")

    def finish(self) -> None:
        """Emit what still waits inside. The stream can't be written to afterwards."""
        self._encoder.close()


class _AppendOnly:
    """The file that libsndfile believes it writes: positions are tracked, only appended bytes are real."""

    def __init__(self, emit: Callable[[bytes, Frames], None], planned: Frames) -> None:
        self._emit = emit
        self._planned = planned
        self._position = 0
        self._length = 0
        self._frames = 0
        self._head = b""
        self.fed = 0

    def write(self, data: bytes) -> int:
        piece = bytes(data)
        appended = self._position == self._length
        self._position += len(piece)
        if appended:
            self._length = self._position
            self._append(piece)
        return len(piece)

    def _append(self, piece: bytes) -> None:
        if len(self._head) < STREAMINFO_END:
            self._head += piece
            if len(self._head) < STREAMINFO_END:
                return
            piece = with_total_frames(self._head[:STREAMINFO_END], self._planned) + self._head[STREAMINFO_END:]
        frames = 0
        if piece.startswith(_SYNC):
            frames = min(BLOCK_FRAMES, self.fed - self._frames)
            self._frames += frames
        self._emit(piece, Frames(frames))

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, self._length)[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, _size: int = -1) -> bytes:
        """libsndfile probes for this; a file being written holds nothing to read."""
        return b""
