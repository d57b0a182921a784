"""One segment on its way to the card: FLAC and sidecar, synced as it grows, sealed at its end.

Steps, each durable before the next begins:

    begin   create `open/<name>.meta` with its header, create `open/<name>.part`; both are fsynced with their
            directory at the first sync
    sync    append whole pages to the audio, fdatasync it; enter a record in the sidecar, fdatasync it
    seal    append the rest, mend the header if the segment is short, fsync; enter the END record, fsync;
            rename both into `sealed/`, fsync both directories; only then the ledger (agent.recorder.writer)

Only whole pages are written before the end: a page that is written twice wears the card twice. What waits for its
page stays in memory: a power cut costs up to a page of FLAC besides what came since the last sync (docs/SPOOL.md).
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from pathlib import Path
from typing import Final

from agent.ledger import Segment
from agent.recorder.flac import FlacStream
from agent.sidecar import END, HEADER_BYTES, RECORD_BYTES, ROOM_BYTES, SYNC, Header, Record, segment_of
from agent.spool import Layout, sync_directory
from agent.streaminfo import STREAMINFO_END, with_total_frames
from agent.units import NS_PER_S, Frames

_PAGE_BYTES: Final = 4096

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class SegmentWriter:
    """Writes one segment. Raises OSError from any step; what was synced stays for recovery to find."""

    def __init__(self, layout: Layout, header: Header) -> None:
        self.header = header
        self._layout = layout
        self._part = layout.part(header.name)
        self._meta = layout.open_meta(header.name)
        self._waiting = bytearray()
        self._pieces: deque[tuple[bytes, Frames]] = deque()
        self._hash = hashlib.sha256()
        self._written = 0
        """Bytes in the audio file."""
        self._whole_bytes = 0
        self._whole_frames = 0
        """Up to where the audio file consists of whole FLAC frames."""
        self._records = 0
        self.durable_end_ns = header.begin_ns
        """Up to where recovery would find this segment."""
        self.durable_frames = 0
        """How many frames that are."""
        self._fed = 0
        self._directory_synced = False
        self._meta_fd = os.open(self._meta, _CREATE, 0o640)
        try:
            self._audio_fd = os.open(self._part, _CREATE, 0o640)
        except OSError:
            os.close(self._meta_fd)
            raise
        self._descriptors = [self._audio_fd, self._meta_fd]
        try:
            _write_all(self._meta_fd, header.pack().ljust(ROOM_BYTES, b"\0"))
            self._flac = FlacStream(self._take, header.rate, header.channels, Frames(header.planned_frames))
        except BaseException:
            self.close()
            raise

    @property
    def frames_missing(self) -> int:
        """Frames until the segment is full."""
        return self.header.planned_frames - self._fed

    @property
    def frames(self) -> int:
        """Frames fed so far, durable or not."""
        return self._fed

    @property
    def size(self) -> int:
        """Bytes of both files as they are on disk now."""
        return self._written + self._meta_bytes

    def write(self, pcm: bytes | memoryview) -> None:
        """Encode interleaved 16-bit frames; at most `frames_missing` of them. Nothing reaches the disk yet."""
        self._fed += len(pcm) // (2 * self.header.channels)
        self._flac.write(pcm)

    def sync(self) -> bool:
        """Make durable what fills whole pages. False: there was no such page, so nothing was done."""
        pages = len(self._waiting) // _PAGE_BYTES * _PAGE_BYTES
        if not pages:
            return False
        self._flush(pages)
        os.fdatasync(self._audio_fd)
        self._record(SYNC, self._hash.digest(), self._whole_end_ns)
        os.fdatasync(self._meta_fd)
        if not self._directory_synced:
            sync_directory(self._layout.open)
            self._directory_synced = True
        self.durable_frames, self.durable_end_ns = self._whole_frames, self._whole_end_ns
        return True

    def seal(self, *, end_ns: int) -> Segment:
        """Finish the files and move them into `sealed/`; durable on return. The ledger is the caller's next step."""
        self._flac.finish()
        self._flush(len(self._waiting))
        if self._fed < self.header.planned_frames:
            self._mend_header()
        os.fsync(self._audio_fd)
        final = self._record(END, self._hash.digest(), end_ns)
        os.fsync(self._meta_fd)
        self.durable_frames, self.durable_end_ns = self._fed, end_ns
        self.close()
        name = self.header.name
        move_into_sealed(self._layout, self._part, self._meta, self._layout.audio(name), self._layout.meta(name))
        return segment_of(self.header, final, self._meta_bytes)

    def close(self) -> None:
        """Let go of both files as they are."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _take(self, piece: bytes, frames: Frames) -> None:
        self._waiting += piece
        self._pieces.append((piece, frames))

    def _flush(self, count: int) -> None:
        """Append `count` waiting bytes and move the boundary of whole FLAC frames along."""
        _write_all(self._audio_fd, self._waiting[:count])
        del self._waiting[:count]
        self._written += count
        while self._pieces and self._whole_bytes + len(self._pieces[0][0]) <= self._written:
            piece, frames = self._pieces.popleft()
            self._hash.update(piece)
            self._whole_bytes += len(piece)
            self._whole_frames += frames

    def _record(self, kind: int, digest: bytes, end_ns: int) -> Record:
        record = Record(kind, self._whole_bytes, self._whole_frames, end_ns, digest)
        os.pwrite(self._meta_fd, record.pack(self._records), HEADER_BYTES + self._records * RECORD_BYTES)
        self._records += 1
        return record

    @property
    def _meta_bytes(self) -> int:
        return max(ROOM_BYTES, HEADER_BYTES + self._records * RECORD_BYTES)

    @property
    def _whole_end_ns(self) -> int:
        return self.header.begin_ns + self._whole_frames * NS_PER_S // self.header.rate

    def _mend_header(self) -> None:
        """Tell STREAMINFO the real length, in place, and hash the file anew: its beginning has changed."""
        head = os.pread(self._audio_fd, STREAMINFO_END, 0)
        os.pwrite(self._audio_fd, with_total_frames(head, self._fed), 0)
        self._hash = hash_file(self._part)


def move_into_sealed(layout: Layout, part: Path, meta: Path, sealed: Path, sealed_meta: Path) -> None:
    """Rename sidecar, then audio; durable on return. Recovery finishes a move that was cut in between."""
    meta.rename(sealed_meta)
    part.rename(sealed)
    sync_directory(layout.sealed)
    sync_directory(layout.open)


def hash_file(path: Path) -> hashlib._Hash:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    """Write everything or raise OSError: a card that is nearly full may take only a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
