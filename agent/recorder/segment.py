"""One segment on its way to the card: FLAC and sidecar, synced as it grows, sealed at its end.

Steps, each durable before the next begins:

    begin   create `open/<name>.meta` with its header, create `open/<name>.part`; both are fsynced with their
            directory at the first sync
    sync    append to the audio what is ready (agent.recorder.envelope), fdatasync it; enter a record in the sidecar,
            fdatasync it
    seal    append the rest, mend the header if a plain segment is short, fsync; enter the END record, fsync;
            rename both into `sealed/`, fsync both directories; only then the ledger (agent.recorder.writer)

Before the end, whole pages are written, or whole chunks where they are encrypted. What waits for its page or chunk
stays in memory: a power cut costs as much besides what came since the last sync (docs/SPOOL.md).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.contract import age
from agent.ledger import Segment
from agent.recorder.envelope import Encrypted, Envelope, Plain
from agent.recorder.flac import FlacStream
from agent.sidecar import END, HEADER_BYTES, RECORD_BYTES, ROOM_BYTES, SYNC, Header, Record, segment_of
from agent.spool import Layout, SegmentName, sync_directory
from agent.streaminfo import STREAMINFO_END, with_total_frames
from agent.units import NS_PER_S, Frames

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class SegmentWriter:
    """Writes one segment. Raises OSError from any step; what was synced stays for recovery to find."""

    def __init__(self, layout: Layout, header: Header, recipients: Sequence[age.Recipient] = ()) -> None:
        """With `recipients` it is encrypted to them, and `header` says so."""
        if header.encrypted != bool(recipients):
            raise AssertionError("a segment is encrypted if and only if its header says so")
        self.header = header
        self._envelope: Envelope = Encrypted(recipients) if recipients else Plain()
        self._layout = layout
        self._part = layout.part(header.name)
        self._meta = layout.open_meta(header.name)
        self._written = 0
        """Bytes in the audio file."""
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
            self._flac = FlacStream(self._envelope.take, header.rate, header.channels, Frames(header.planned_frames))
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
        """Make durable what is ready. False: nothing was, so nothing was done."""
        ready = self._envelope.ready()
        if not ready:
            return False
        self._append(ready)
        os.fdatasync(self._audio_fd)
        self._record(SYNC, self._envelope.digest(), self._whole_end_ns)
        os.fdatasync(self._meta_fd)
        if not self._directory_synced:
            sync_directory(self._layout.open)
            self._directory_synced = True
        self.durable_frames, self.durable_end_ns = self._envelope.whole_frames, self._whole_end_ns
        return True

    def seal(self, *, end_ns: int) -> Segment:
        """Finish the files and move them into `sealed/`; durable on return. The ledger is the caller's next step."""
        self._flac.finish()
        self._append(self._envelope.rest())
        digest = self._envelope.digest()
        if self._fed < self.header.planned_frames and not self.header.encrypted:
            digest = self._mend_header()
        os.fsync(self._audio_fd)
        final = self._record(END, digest, end_ns)
        os.fsync(self._meta_fd)
        self.durable_frames, self.durable_end_ns = self._fed, end_ns
        self.close()
        move_into_sealed(self._layout, self.header.name, encrypted=self.header.encrypted)
        return segment_of(self.header, final, self._meta_bytes)

    def close(self) -> None:
        """Let go of both files as they are."""
        self._envelope.close()
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _append(self, data: bytes) -> None:
        _write_all(self._audio_fd, data)
        self._written += len(data)

    def _record(self, kind: int, digest: bytes, end_ns: int) -> Record:
        record = Record(kind, self._envelope.whole_bytes, self._envelope.whole_frames, end_ns, digest)
        os.pwrite(self._meta_fd, record.pack(self._records), HEADER_BYTES + self._records * RECORD_BYTES)
        self._records += 1
        return record

    @property
    def _meta_bytes(self) -> int:
        return max(ROOM_BYTES, HEADER_BYTES + self._records * RECORD_BYTES)

    @property
    def _whole_end_ns(self) -> int:
        return self.header.begin_ns + self._envelope.whole_frames * NS_PER_S // self.header.rate

    def _mend_header(self) -> bytes:
        """Tell STREAMINFO the real length, in place; the file's hash, for its beginning has changed."""
        head = os.pread(self._audio_fd, STREAMINFO_END, 0)
        os.pwrite(self._audio_fd, with_total_frames(head, self._fed), 0)
        return hash_file(self._part).digest()


def move_into_sealed(layout: Layout, name: SegmentName, *, encrypted: bool) -> None:
    """Rename sidecar, then audio; durable on return. Recovery finishes a move that was cut in between."""
    layout.open_meta(name).rename(layout.meta(name))
    layout.part(name).rename(layout.audio_as(name, encrypted=encrypted))
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
