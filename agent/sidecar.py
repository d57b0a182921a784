"""The sidecar of a segment: how much of it is durable, where it is in time, and what it must hash to.

    header   128 bytes  magic, boot, monotonic and wall time of the first frame, clock state,
                        whether provisional, whether encrypted, rate, channels, run, seq, planned frames, CRC-32
    record    64 bytes  one a sync: kind, CRC-32, durable audio bytes, frames in them, time of their end,
                        SHA-256 of those bytes
    …
    record    64 bytes  the last one, when the segment is sealed: kind END, or CUT when recovery had to cut it back

Zeros fill the rest of the first page (`ROOM_BYTES`): a record is then written into a block the file already has, and
its fdatasync costs the card that block alone, not a commit of the file system's journal for a longer file.

All integers are little-endian. A record's checksum also covers its own position, so that records can't be moved or
repeated unnoticed. The audio is always synced before the record that speaks of it: bytes a whole record vouches for
are there, unless the card lied, which the hash tells. Reading never fails on a torn tail, and passes over a record that
isn't whole: each speaks for itself, and for everything before it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.ledger import ClockState, Segment
from agent.spool import SegmentName

_HEADER: Final = struct.Struct("<8s16sqqBBBxIH2xQ6s2xI52xI")
_RECORD: Final = struct.Struct("<B3xIQQq32s")
_MAGIC: Final = b"KRMETA1\n"
CLOCKS: Final[tuple[ClockState, ...]] = ("unsynchronised", "server", "synchronised")
"""From the least to the most to be trusted; a header holds the place here."""

SYNC: Final = 1
END: Final = 2
CUT: Final = 3

META_VERSION: Final = 1
"""Goes with each upload as `kr-meta-version`."""

HEADER_BYTES: Final = _HEADER.size
RECORD_BYTES: Final = _RECORD.size

ROOM_BYTES: Final = 4096
"""What a sidecar is made as. It holds 62 records; a longer segment's sidecar grows."""


_TIMES_NS: Final = range(-(2**61), 2**62)
"""Until 2116. Beyond it nothing can be added to a time and still be kept."""

_LONGEST_FRAMES: Final = 2**36 - 1
"""What FLAC can tell of a file's length."""


class SidecarDamaged(Exception):
    """The header can't be trusted, so neither can anything after it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known when a segment begins."""

    name: SegmentName
    boot: str
    begin_ns: int
    wall_ns: int
    clock: ClockState
    rate: int
    channels: int
    planned_frames: int
    provisional: bool = False
    """See `agent.ledger.Segment.provisional`."""
    encrypted: bool = False
    """Whether the audio is within age (agent.contract.age)."""

    def pack(self) -> bytes:
        """The header's bytes."""
        unsigned = _HEADER.pack(*self._fields(), 0)
        return unsigned[:-4] + struct.pack("<I", zlib.crc32(unsigned[:-4]))

    def _fields(self) -> tuple[object, ...]:
        return (
            _MAGIC,
            bytes.fromhex(self.boot),
            self.begin_ns,
            self.wall_ns,
            CLOCKS.index(self.clock),
            self.provisional,
            self.encrypted,
            self.rate,
            self.channels,
            self.planned_frames,
            bytes.fromhex(self.name.run),
            self.name.seq,
        )

    @classmethod
    def unpack(cls, data: bytes) -> Header:
        """Raises SidecarDamaged."""
        if len(data) < HEADER_BYTES:
            raise SidecarDamaged("shorter than its header")
        (magic, boot, begin_ns, wall_ns, clock, provisional, encrypted, rate, channels, planned, run, seq, checksum) = (
            _HEADER.unpack_from(data)
        )
        if magic != _MAGIC:
            raise SidecarDamaged("not a sidecar")
        if checksum != zlib.crc32(data[: HEADER_BYTES - 4]):
            raise SidecarDamaged("header checksum doesn't match")
        possible = clock < len(CLOCKS) and rate and channels and planned <= _LONGEST_FRAMES
        if not possible or begin_ns not in _TIMES_NS or wall_ns not in _TIMES_NS:
            raise SidecarDamaged("header holds impossible values")
        return cls(
            name=SegmentName(run.hex(), seq),
            boot=boot.hex(),
            begin_ns=begin_ns,
            wall_ns=wall_ns,
            clock=CLOCKS[clock],
            rate=rate,
            channels=channels,
            planned_frames=planned,
            provisional=bool(provisional),
            encrypted=bool(encrypted),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """What is durable: `frames` frames in the first `size` bytes, whose SHA-256 is `digest`."""

    kind: int
    size: int
    frames: int
    end_ns: int
    digest: bytes

    @property
    def final(self) -> bool:
        """Whether it is the last record of a finished segment."""
        return self.kind in (END, CUT)

    def pack(self, position: int) -> bytes:
        """The record's bytes as number `position` of its file."""
        fields = (self.size, self.frames, self.end_ns, self.digest)
        checksum = _checksum(_RECORD.pack(self.kind, 0, *fields), position)
        return _RECORD.pack(self.kind, checksum, *fields)

    @classmethod
    def unpack(cls, data: bytes, position: int) -> Record | None:
        """None when the bytes aren't a whole record written for this position."""
        kind, checksum, *fields = _RECORD.unpack(data)
        unsigned = data[:4] + bytes(4) + data[8:]
        return cls(kind, *fields) if checksum == _checksum(unsigned, position) and kind in (SYNC, END, CUT) else None


def _checksum(unsigned: bytes, position: int) -> int:
    return zlib.crc32(struct.pack("<Q", position), zlib.crc32(unsigned))


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A sidecar as read: its header and every whole record."""

    header: Header
    records: tuple[Record, ...] = field(default=())
    places: tuple[int, ...] = field(default=())
    """Where each of `records` stands, counted from the header."""
    garbled: bool = False
    """Whether there are records, or parts of them, that can't be read."""

    @property
    def end(self) -> Record | None:
        """The last record, if the segment was finished."""
        return self.records[-1] if self.records and self.records[-1].final else None


def segment_of(header: Header, final: Record, meta_bytes: int) -> Segment:
    """The ledger's view of a sealed segment whose sidecar is `meta_bytes` long and ends with `final`."""
    return Segment(
        run=header.name.run,
        seq=header.name.seq,
        boot=header.boot,
        begin_ns=header.begin_ns,
        end_ns=final.end_ns,
        frames=final.frames,
        rate=header.rate,
        channels=header.channels,
        bytes=final.size,
        meta_bytes=meta_bytes,
        sha256=final.digest.hex(),
        truncated=final.kind == CUT,
        provisional=header.provisional,
    )


def read_sidecar(path: Path) -> Sidecar:
    """Read every whole record, up to a final one. Raises SidecarDamaged for the header, OSError for the file."""
    data = path.read_bytes()
    header = Header.unpack(data)
    found: list[tuple[int, Record]] = []
    garbled = False
    for place, offset in enumerate(range(HEADER_BYTES, len(data), RECORD_BYTES)):
        written = data[offset : offset + RECORD_BYTES]
        record = Record.unpack(written, place) if len(written) == RECORD_BYTES else None
        if record is None or record.frames > header.planned_frames:
            garbled = garbled or any(written)
            continue
        found.append((place, record))
        if record.final:
            break
    return Sidecar(header, tuple(record for _, record in found), tuple(place for place, _ in found), garbled)
