"""What can be saved of a segment that was never finished. Nothing is changed: recovery does it, `verify` tells it.

The sidecar vouches for bytes, and each record's hash says whether they are really there. Audio for which nothing
vouches, or which isn't what was vouched for, is for a person to look at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.sidecar import Record, Sidecar, SidecarDamaged, read_sidecar
from agent.spool import Layout, SegmentName
from agent.streaminfo import STREAMINFO_END, with_total_frames

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """The first `record.size` bytes are a recording."""

    sidecar: Sidecar
    place: int
    """Of `record` in the sidecar."""
    record: Record

    @property
    def seconds(self) -> float:
        """Length of the recording by its frame count."""
        return self.record.frames / self.sidecar.header.rate


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing of it ever became durable."""

    why: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """There is or was audio that can't be told apart from damage."""

    why: str


def judge(layout: Layout, name: SegmentName, most_frames: int | None = None) -> Kept | Empty | Unclear:
    """What the files of `name` under `open/` still hold, of its first `most_frames` frames if that is given.

    Raises OSError when the card doesn't give them out.
    """
    part = layout.part(name)
    if not part.exists():
        return Empty("it has no audio file")
    try:
        sidecar = read_sidecar(layout.open_meta(name))
        if sidecar.header.name != name:
            raise SidecarDamaged("it speaks of another segment")
        if sidecar.garbled and not sidecar.records:
            raise SidecarDamaged("its records can't be read any more")
    except FileNotFoundError:
        return _without_sidecar(part, "it has no sidecar")
    except SidecarDamaged as damage:
        return _without_sidecar(part, f"its sidecar is unusable: {damage}")
    if most_frames is not None:
        records = tuple(record for record in sidecar.records if record.frames <= most_frames)
        sidecar = replace(sidecar, records=records)
    kept = _last_true_record(part, sidecar)
    if kept is not None and kept.record.frames:
        return kept
    if kept is None and any(record.frames for record in sidecar.records):
        return Unclear("it isn't what its sidecar vouches for")
    return Empty("nothing of it is durable")


def _without_sidecar(part: Path, why: str) -> Empty | Unclear:
    return Unclear(why) if part.stat().st_size else Empty("it holds nothing")


def _last_true_record(part: Path, sidecar: Sidecar) -> Kept | None:
    """The newest record whose bytes are really there.

    The header of a plain one may already have been mended for a short segment: a record's hash holds for the header as
    planned, or, for the final record, as it is now.
    """
    with part.open("rb") as file:
        head = file.read(STREAMINFO_END)
    if len(head) < STREAMINFO_END:
        return None
    encrypted = sidecar.header.encrypted
    planned = head if encrypted else with_total_frames(head, sidecar.header.planned_frames)
    size = part.stat().st_size
    for place, record in zip(reversed(sidecar.places), reversed(sidecar.records), strict=True):
        start = head if record.final else planned
        if record.size <= size and _digest(part, start, record.size) == record.digest:
            return Kept(sidecar, place, record)
    return None


def _digest(path: Path, head: bytes, size: int) -> bytes:
    """SHA-256 of the first `size` bytes of a file whose first bytes are taken to be `head`."""
    digest = hashlib.sha256(head)
    with path.open("rb") as file:
        file.seek(len(head))
        left = size - len(head)
        while left > 0 and (chunk := file.read(min(left, _READ_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()
