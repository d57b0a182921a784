"""A FLAC file that was cut off in the middle, as one that every decoder reads; the file itself isn't touched.

Two things are wrong with it: its end holds part of a FLAC frame, and its header promises more than there is, which
libsndfile refuses to open. Where whole frames end is told by the sidecar if there is one, else by the frames: each
begins with a header that has a checksum of its own and ends with a checksum of all of it (RFC 9639 §9).

What is encrypted is decrypted into memory first, as far as its whole chunks go.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.contract import age
from agent.errors import KioskError
from agent.sidecar import SidecarDamaged, read_sidecar
from agent.spool import META_SUFFIX
from agent.streaminfo import STREAMINFO_END, total_frames, with_total_frames

_SYNC: Final = b"\xff\xf8"
_LAST_METADATA_BLOCK: Final = 0x80

_BLOCK_FRAMES: Final = {
    1: 192,
    **{code: 576 << code - 2 for code in range(2, 6)},
    **{code: 256 << code - 8 for code in range(8, 16)},
}
"""Audio frames in a FLAC frame by the code in its header; codes 6 and 7 announce a number instead."""

_RATE_BYTES: Final = {12: 1, 13: 2, 14: 2}
"""Codes that announce a rate in so many bytes."""


def _table(polynomial: int, width: int) -> list[int]:
    top, mask = 1 << (width - 1), (1 << width) - 1
    table = []
    for byte in range(256):
        value = byte << (width - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(value)
    return table


_CRC8: Final = _table(0x07, 8)
_CRC16: Final = _table(0x8005, 16)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a file is whole: `frames` frames in its first `size` bytes."""

    size: int
    frames: int


@dataclass(frozen=True, slots=True)
class Readable:
    """A file for a decoder."""

    stream: io.RawIOBase | io.BytesIO
    frames: int
    cut: bool
    """Whether less is there than the file promised."""


def readable(path: Path, identities: Sequence[age.Identity] = ()) -> Readable:
    """Open a FLAC file, whole or torn, encrypted or not.

    Raises KioskError when nothing of it can be decoded, OSError for the file.
    """
    with path.open("rb") as file:
        head = file.read(STREAMINFO_END)
        size = os.fstat(file.fileno()).st_size
    if head.startswith(age.MAGIC):
        return readable_in_memory(path.read_bytes(), str(path), identities)
    promised = _promised(head, str(path))
    extent = _by_sidecar(path, size) or _by_frames_of(path)
    if extent is None or not extent.frames:
        raise _without_sound(str(path))
    if extent == Extent(size, promised):
        return Readable(path.open("rb", buffering=0), extent.frames, cut=False)
    head = with_total_frames(head, extent.frames)
    return Readable(_Mended(path, head, extent.size), extent.frames, cut=extent.frames < promised)


def readable_in_memory(content: bytes, place: str, identities: Sequence[age.Identity] = ()) -> Readable:
    """The same of a file's content, which came from `place`. What is decrypted stays in memory. Raises KioskError."""
    whole: bool | None = None
    if content.startswith(age.MAGIC):
        content, whole = _decrypted(content, place, identities)
    head = content[:STREAMINFO_END]
    if whole is False and len(head) < STREAMINFO_END:
        raise _without_sound(place)
    promised = _promised(head, place)
    extent = _by_frames(content)
    if extent is None or not extent.frames:
        raise _without_sound(place)
    # What is encrypted is never mended by the recorder: a run that ended early promises more than it has, and is whole.
    cut = extent.frames < promised if whole is None else not whole
    mended = with_total_frames(head, extent.frames) + content[STREAMINFO_END : extent.size]
    return Readable(io.BytesIO(mended), extent.frames, cut)


def _decrypted(content: bytes, place: str, identities: Sequence[age.Identity]) -> tuple[bytes, bool]:
    if not identities:
        hint = "name a file with a key that opens it: -i KEY"
        raise KioskError("open recording", place=place, cause="is encrypted", hint=hint)
    opened = io.BytesIO()
    try:
        whole = age.decrypt(io.BytesIO(content), opened, identities)
    except age.NotForUs:
        hint = "it takes a key that was among `seal.recipients` when it was recorded"
        raise KioskError("open recording", place=place, cause="isn't encrypted to this key", hint=hint) from None
    except age.NotEncrypted as error:
        raise KioskError("open recording", place=place, cause=f"can't be decrypted: {error}") from None
    return opened.getvalue(), whole


def _promised(head: bytes, place: str) -> int:
    if len(head) < STREAMINFO_END or not head.startswith((b"fLaC\x00", b"fLaC\x80")):
        raise KioskError("open recording", place=place, cause="isn't a FLAC file" if head else "is empty")
    return total_frames(head)


def _without_sound(place: str) -> KioskError:
    return KioskError(
        "open recording", place=place, cause="ends before its first sound", hint="nothing of it can be saved"
    )


def _by_sidecar(path: Path, size: int) -> Extent | None:
    try:
        sidecar = read_sidecar(path.with_suffix(META_SUFFIX))
    except (OSError, SidecarDamaged):
        return None
    record = next((record for record in reversed(sidecar.records) if record.size <= size), None)
    return None if record is None else Extent(record.size, record.frames)


def _by_frames_of(path: Path) -> Extent | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _by_frames(data)


def _by_frames(data: bytes | mmap.mmap) -> Extent | None:
    """Search backwards for the last frame; it counts if it's whole, else everything before it does."""
    first = _first_frame(data)
    if first is None:
        return None
    block_frames = int.from_bytes(data[10:12], "big")
    at = len(data)
    while (at := data.rfind(_SYNC, first, at)) >= 0:
        found = _frame(data, at)
        if found is None or not _alike(data[at + 2 : at + 4], data[first + 2 : first + 4]):
            continue
        number, frames = found
        if _crc(_CRC16, 16, data[at:]) == 0:
            return Extent(len(data), number * block_frames + frames)
        return Extent(at, number * block_frames)
    return None


def _alike(one: bytes, other: bytes) -> bool:
    """Whether two frame headers tell the same rate and sample size, which never change within a file."""
    return (one[0] & 0x0F, one[1] & 0x0F) == (other[0] & 0x0F, other[1] & 0x0F)


def _first_frame(data: bytes | mmap.mmap) -> int | None:
    """Where the metadata blocks end."""
    at = 4
    while at + 4 <= len(data):
        last = data[at] & _LAST_METADATA_BLOCK
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        if last:
            return at if data[at : at + 2] == _SYNC else None
    return None


def _frame(data: bytes | mmap.mmap, at: int) -> tuple[int, int] | None:
    """Number of the frame whose header stands at `at`, and how many audio frames it holds; None if none does."""
    header = data[at : at + 16]
    if len(header) < 6:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 0x0F
    number, end = _coded_number(header, 4)
    if number is None:
        return None
    if size_code in (6, 7):
        width = size_code - 5
        count = int.from_bytes(header[end : end + width], "big") + 1
        end += width
    else:
        count = _BLOCK_FRAMES.get(size_code, 0)
    end += _RATE_BYTES.get(rate_code, 0)
    if end >= len(header) or _crc(_CRC8, 8, header[:end]) != header[end]:
        return None
    return number, count


def _coded_number(header: bytes, at: int) -> tuple[int | None, int]:
    """A number in the manner of UTF-8, and where it ends."""
    lead = header[at]
    if lead < 0x80:
        return lead, at + 1
    more = 7 - (lead ^ 0xFF).bit_length()
    if not 1 <= more <= 6 or at + 1 + more > len(header):
        return None, at
    value = lead & (1 << 6 - more) - 1
    for byte in header[at + 1 : at + 1 + more]:
        value = value << 6 | byte & 0x3F
    return value, at + 1 + more


def _crc(table: list[int], width: int, data: bytes) -> int:
    value, shift, mask = 0, width - 8, (1 << width) - 1
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> shift ^ byte]
    return value


class _Mended(io.RawIOBase):
    """The first `size` bytes of a file, beginning with `head` instead of its own beginning."""

    def __init__(self, path: Path, head: bytes, size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._head = head
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, (0, self._at, self._size)[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        data = os.pread(self._file.fileno(), count, self._at)
        if self._at < len(self._head):
            own = self._head[self._at : self._at + len(data)]
            data = own + data[len(own) :]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
