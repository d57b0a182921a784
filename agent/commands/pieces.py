"""Recordings to be opened, wherever they are: files, a directory, the kiosk's own spool, a bucket."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from agent.commands.kiosk import Kiosk, open_ledger
from agent.contract.age import Identity
from agent.contract.bucket import Bucket
from agent.errors import KioskError
from agent.mending import Readable, readable, readable_in_memory
from agent.sidecar import SidecarDamaged, read_sidecar
from agent.spool import AUDIO_SUFFIXES, META_SUFFIX, PART_SUFFIX, Layout, SegmentName
from agent.units import NS_PER_S

_OF_STORE = re.compile(r"(?P<start>[0-9]{8}T[0-9]{6}Z)_(?P<run>[0-9a-f]{12})_(?P<seq>[0-9]{6,18})_[0-9a-f]{16}\..*")
"""Objects of a store; what it's called in the spool stands in `SegmentFile`."""

_OF_SPOOL = re.compile(r"(?P<run>[0-9a-f]{12})-(?P<seq>[0-9]{6,18})\..*")

_LONGEST_NS: Final = 3600 * NS_PER_S
"""`spool.segment_seconds` can't be more."""

_NOT_LOOKED_INTO: Final = frozenset({"quarantine", "state"})


@dataclass(frozen=True, slots=True)
class Piece:
    """One recording."""

    place: str
    """For a person."""
    name: SegmentName | None
    """None when its file name doesn't tell which segment it is."""
    start_ns: int | None
    """Wall time of its first frame, as far as it's known before it's opened."""
    bytes: int
    """As it lies there."""
    read: Callable[[Sequence[Identity]], tuple[Readable, int | None]]
    """What there is of it, and when it began where that is known better now. Raises KioskError."""

    @property
    def label(self) -> str:
        """For people who know segments by their names, and for everything else its place."""
        return str(self.name or self.place)

    def follows(self, other: Piece) -> bool:
        """Whether it's the next segment of the same run."""
        one, two = other.name, self.name
        return one is not None and two is not None and (two.run, two.seq) == (one.run, one.seq + 1)


def of_file(path: Path) -> Piece:
    """A recording in a file: of a spool, downloaded from a store, or any other FLAC file."""
    name, start_ns = _named(path.name)
    return Piece(
        str(path), name, _told_beside(path) or start_ns, _size(path), lambda keys: (_from_file(path, keys), None)
    )


def of_directory(directory: Path) -> Iterator[Piece]:
    """Every recording below a directory: a spool on a card that was taken out, a store's tree, or loose files."""
    found = []
    for path in sorted(directory.rglob("*")):
        inside = path.relative_to(directory).parts[:-1]
        wanted = path.name.endswith((*AUDIO_SUFFIXES, PART_SUFFIX)) and not path.name.startswith(".")
        if wanted and not _NOT_LOOKED_INTO.intersection(inside) and _has_begun(path):
            found.append(of_file(path))
    # One that was sealed at this moment is found on both sides of its move.
    yield from once(found)


def once(pieces: Iterable[Piece]) -> list[Piece]:
    """Each segment once: of copies the longest, since what was cut short is shorter, and of equal ones the last."""
    found: dict[SegmentName | str, Piece] = {}
    for piece in pieces:
        known = found.get(piece.name or piece.place)
        if known is None or piece.bytes >= known.bytes:
            found[piece.name or piece.place] = piece
    return list(found.values())


def _has_begun(path: Path) -> bool:
    """Whether there is anything in it to be heard: a new segment is empty for its first seconds."""
    try:
        return path.is_file() and path.stat().st_size > 0
    except FileNotFoundError:
        return True  # sealed this moment


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # sealed this moment; anything else is told when it's read


def of_spool(kiosk: Kiosk) -> Iterator[Piece]:
    """Every recording that is still on this kiosk, dated by its ledger: that knows clocks which were set later."""
    with open_ledger(kiosk) as ledger:
        offsets = ledger.offsets()
        starts = {segment.name: offsets[segment.boot] + segment.begin_ns for segment in ledger.segments()}
    for piece in of_directory(kiosk.layout.spool):
        known = None if piece.name is None else starts.get(piece.name)
        yield piece if known is None else replace(piece, start_ns=known)


def of_bucket(url: str, endpoint_url: str) -> Iterator[Piece]:
    """The object that `url` names, or every recording below it."""
    bucket = Bucket(url, endpoint_url)
    one = not bucket.below or bucket.below.endswith(("/", *AUDIO_SUFFIXES))
    for found in bucket.objects(bucket.below if one else f"{bucket.below}/"):
        name, start_ns = _named(found.key.rpartition("/")[2])
        if name is not None and found.key.endswith(AUDIO_SUFFIXES):
            yield Piece(bucket.place(found.key), name, start_ns, found.size, _from_bucket(bucket, found.key))


def _from_bucket(bucket: Bucket, key: str) -> Callable[[Sequence[Identity]], tuple[Readable, int | None]]:
    def read(keys: Sequence[Identity]) -> tuple[Readable, int | None]:
        fetched = bucket.fetch(key)
        return readable_in_memory(fetched.content, bucket.place(key), keys), _moment(fetched.metadata.get("kr-start"))

    return read


def _from_file(path: Path, keys: Sequence[Identity]) -> Readable:
    try:
        if path.suffix == PART_SUFFIX and not path.exists():
            # The recorder has sealed it since.
            path = Layout(path.parents[2]).audio(SegmentName.parse(path.stem))
        return readable(path, keys)
    except OSError as error:
        raise KioskError("open recording", place=str(path), cause=error.strerror or str(error)) from error


def in_order(pieces: Iterable[Piece]) -> list[Piece]:
    """As they were recorded; runs of which nobody knows when come first."""
    known = list(pieces)
    starts: dict[str, int] = {}
    for piece in known:
        if piece.name is not None and piece.start_ns is not None:
            starts[piece.name.run] = min(starts.get(piece.name.run, piece.start_ns), piece.start_ns)
    return sorted(known, key=lambda piece: _place_in_time(piece, starts))


def _place_in_time(piece: Piece, starts: dict[str, int]) -> tuple[int, str, int, str]:
    if piece.name is None:
        return piece.start_ns or 0, "", 0, piece.place
    return starts.get(piece.name.run, 0), piece.name.run, piece.name.seq, piece.place


def within(pieces: Sequence[Piece], begin_ns: int | None, end_ns: int | None) -> list[Piece]:
    """Those of `pieces`, which are in order, that may hold something between two wall times. Raises KioskError."""
    undated = next((piece for piece in pieces if piece.start_ns is None), None)
    if undated is not None:
        hint = "recordings are dated by their names in a store, by the file `.meta` or `.json` beside them, by a ledger"
        raise KioskError("open recording", place=undated.place, cause="nothing tells when it was recorded", hint=hint)
    ends = [_end_ns(one, other) for one, other in pairwise([*pieces, None])]
    return [
        piece
        for piece, until_ns in zip(pieces, ends, strict=True)
        if (begin_ns is None or until_ns > begin_ns) and (end_ns is None or (piece.start_ns or 0) < end_ns)
    ]


def _end_ns(piece: Piece | None, following: Piece | None) -> int:
    """The latest time at which a piece may end."""
    if piece is None:
        raise AssertionError("only what follows may be missing")
    if following is not None and following.follows(piece):
        # A second more: a store's keys tell no fractions.
        return (following.start_ns or 0) + NS_PER_S
    return (piece.start_ns or 0) + _LONGEST_NS


def _named(filename: str) -> tuple[SegmentName | None, int | None]:
    """Which segment a file is, and when it began, by its name."""
    stored = _OF_STORE.fullmatch(filename)
    if stored is not None:
        return SegmentName(stored["run"], int(stored["seq"])), _moment(stored["start"])
    match = _OF_SPOOL.fullmatch(filename)
    return (SegmentName(match["run"], int(match["seq"])) if match else None), None


def _told_beside(path: Path) -> int | None:
    """When a recording began, by the sidecar of a spool or the description in a store that is a directory."""
    try:
        return read_sidecar(path.with_name(path.name.partition(".")[0] + META_SUFFIX)).header.wall_ns
    except (OSError, SidecarDamaged):
        pass
    try:
        described = json.loads(path.with_name(f"{path.name}.json").read_bytes())
        return _moment(described["kr-start"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _moment(text: object) -> int | None:
    """Nanoseconds since 1970."""
    if not isinstance(text, str):
        return None
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return None
    return round(told.replace(tzinfo=told.tzinfo or UTC).timestamp() * 1_000_000) * (NS_PER_S // 1_000_000)
