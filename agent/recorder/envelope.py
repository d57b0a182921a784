"""What an audio file consists of, and which part of it stands by itself: FLAC, or FLAC within age.

Each takes the pieces that the encoder emits, gives out bytes that may be appended now, and knows up to where these make
sense to whoever finds the file after a power cut: whole FLAC frames, or whole chunks that can be decrypted.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from agent.contract import age
from agent.recorder.encryption import Encryptor
from agent.units import Frames

_PAGE_BYTES: Final = 4096


class Envelope(Protocol):
    """`whole_bytes` of what was given out make sense; they hold `whole_frames`, and `digest` is their SHA-256."""

    whole_bytes: int
    whole_frames: int

    def take(self, piece: bytes, frames: Frames) -> None:
        """A piece from the encoder (agent.recorder.flac)."""

    def ready(self) -> bytes:
        """What may be appended before the end; nothing while it wouldn't be worth a write."""

    def rest(self) -> bytes:
        """What completes the file, once the encoder has finished."""

    def digest(self) -> bytes:
        """SHA-256 of the first `whole_bytes`."""

    def close(self) -> None:
        """Let go of everything; without `rest` before, the file stays as it is."""


class Plain:
    """FLAC. Whole pages are given out: a page that is written twice wears the card twice."""

    def __init__(self) -> None:
        self.whole_bytes = self.whole_frames = 0
        self._waiting = bytearray()
        self._given = 0
        self._pieces: deque[tuple[bytes, Frames]] = deque()
        self._hash = hashlib.sha256()

    def take(self, piece: bytes, frames: Frames) -> None:
        self._waiting += piece
        self._pieces.append((piece, frames))

    def ready(self) -> bytes:
        return self._give(len(self._waiting) // _PAGE_BYTES * _PAGE_BYTES)

    def rest(self) -> bytes:
        return self._give(len(self._waiting))

    def digest(self) -> bytes:
        return self._hash.digest()

    def close(self) -> None:
        self._waiting.clear()

    def _give(self, count: int) -> bytes:
        given = bytes(self._waiting[:count])
        del self._waiting[:count]
        self._given += count
        while self._pieces and self.whole_bytes + len(self._pieces[0][0]) <= self._given:
            piece, frames = self._pieces.popleft()
            self._hash.update(piece)
            self.whole_bytes += len(piece)
            self.whole_frames += frames
        return given


class Encrypted:
    """FLAC within age. Whole chunks are given out: what is in memory alone is a chunk of FLAC at most."""

    def __init__(self, recipients: Sequence[age.Recipient]) -> None:
        self.whole_bytes = self.whole_frames = 0
        self._waiting = bytearray()
        self._encryptor = Encryptor(recipients, self._waiting.extend)
        self._header: int | None = None
        self._taken: deque[tuple[int, Frames]] = deque()
        self._whole_content = 0
        """Bytes of FLAC in the whole frames that were given out."""
        self._hash = hashlib.sha256()

    def take(self, piece: bytes, frames: Frames) -> None:
        self._taken.append((len(piece), frames))
        self._encryptor.write(piece)

    def ready(self) -> bytes:
        given = bytes(self._waiting)
        self._waiting.clear()
        if given and self._header is None:
            self._header = age.header_bytes(given)
            if self._header is None:
                raise AssertionError("age wrote no header")
        self._hash.update(given)
        self.whole_bytes += len(given)
        content = age.content_bytes(self._header or 0, self.whole_bytes)
        while self._taken and self._whole_content + self._taken[0][0] <= content:
            size, frames = self._taken.popleft()
            self._whole_content += size
            self.whole_frames += frames
        return given

    def rest(self) -> bytes:
        self._encryptor.finish()
        return self.ready()

    def digest(self) -> bytes:
        return self._hash.digest()

    def close(self) -> None:
        self._encryptor.abandon()
        self._waiting.clear()
