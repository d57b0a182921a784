"""The real recovery on what a power cut left, and whether docs/SPOOL.md's invariants hold afterwards.

What one state becomes is an `Outcome`. What had been promised by then differs with the moment of the cut, and is held
against it apart: the same state may be left by many cuts.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile

from agent.contract import age
from agent.errors import KioskError
from agent.inspection import Inspection
from agent.ledger import LedgerDamaged, Segment
from agent.mending import readable_in_memory
from agent.recorder.erasing import ordered, overlapping
from agent.recorder.recovery import Recovered, recover
from agent.settings import Settings
from agent.spool import SegmentFile, files_below
from agent.timeline import read
from tests.clocks import FakeClock
from tests.crash.promises import Promises, sound_in
from tests.crash.workload import Eraser
from tests.keys import identity
from tests.recorder.room import WriterRoom, noise

if TYPE_CHECKING:
    from tests.crash.promises import Sound

_ASIDE_BY_WORD: Final = ("damaged", "quarantined", "evicted")
"""Evicted: of a pair in quarantine that is given up, one file may still be there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What recovery made of a state."""

    wrong: tuple[str, ...]
    """What no state may become, whatever had been promised."""
    chain: tuple[str, ...] = ()
    """The hash of every entry of the journal."""
    segments: dict[str, Segment] = field(default_factory=dict)
    aside: tuple[str, ...] = ()
    """The segments of which something lies in quarantine."""
    recovered: str = ""
    """What recovery says it did, if it did something."""
    pending: frozenset[str] = frozenset()
    """Orders to erase that are yet to be carried out."""
    erased: frozenset[str] = frozenset()
    """Orders to erase that the journal has: of these there will be tombstones."""

    def broken(self, promises: Promises) -> Iterator[str]:
        """What is wrong, and which promises weren't kept."""
        yield from self.wrong
        if self.wrong:
            return
        seq, digest = promises.head
        if seq and (len(self.chain) < seq or self.chain[seq - 1] != digest):
            yield f"commit lost: the journal has {len(self.chain)} entries, entry {seq} was promised"
        sealed = dict(promises.sealed)
        for name, frames in {**dict.fromkeys(sealed, 1), **dict(promises.synced)}.items():
            yield from self._kept(name, frames, sealed.get(name))
        for order in {*promises.ordered} - self.pending - self.erased:
            yield f"the order {order} to erase is lost"
        for order in {*promises.fulfilled} - self.erased:
            yield f"that {order} was carried out is forgotten"
        promised = {*sealed, *dict(promises.synced)}
        for name in self.aside:
            segment = self.segments.get(name)
            if name in promised and (segment is None or segment.state not in _ASIDE_BY_WORD):
                yield f"{name} was set aside although nothing was wrong with it"

    def _kept(self, name: str, frames: int, digest: str | None) -> Iterator[str]:
        segment = self.segments.get(name)
        if segment is None:
            yield f"{name} is gone: {frames} frames were promised"
        elif segment.state == "lost":
            yield f"{name} is lost: its file went before the ledger's word"
        elif segment.frames < frames:
            yield f"{name} has {segment.frames} frames, {frames} were promised"
        elif digest is not None and segment.sha256 != digest:
            yield f"{name} has changed since it was sealed"


class Judge:
    """Judges states of one life, whose sounds lie in `notes`. Remembers what it decoded."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._true_frames: dict[tuple[str, str], int | None] = {}

    def judge(self, chosen: Settings, *, losing_ledger: bool = True) -> Outcome:
        """Start a recorder on what lies in `chosen.spool.path`, see what it finds, and let it record on.

        In the end, with `losing_ledger`, the ledger is taken away from it.
        """
        clock = FakeClock(boot="e" * 32, wall_s=1_800_020_000)
        left, cap = size_below(chosen.spool.path / "spool"), chosen.spool.cap
        if left > cap:
            return Outcome((f"{left} bytes after the cut, the cap is {cap}",))
        try:
            room = WriterRoom(chosen, clock)
        except Exception as error:  # noqa: BLE001 (whatever it is, a state in which nothing starts is the worst)
            return Outcome((f"recovery failed: {error!r}",))
        try:
            segments = {str(segment.name): segment for segment in room.ledger.segments()}
            wrong = tuple(self._look(room))
            chain = tuple(entry.hash.hex() for entry in room.ledger.entries())
            pending = frozenset(order.id for order in ordered(room.layout.root))
            erased = frozenset(order for order, _, _ in room.ledger.erasures())
            aside, strangers = _quarantine(room)
            wrong += tuple(f"a stranger in quarantine: {name}" for name in strangers)
            wrong += tuple(self._again(room, len(chain)))
            wrong += tuple(self._carry_on(room))
            kept = {str(segment.name): segment.sha256 for segment in room.ledger.kept()}
        finally:
            room.ledger.close()
        if losing_ledger:
            wrong += tuple(_rebuild(chosen, clock, kept))
        recovered = str(room.recovered) if room.recovered else ""
        return Outcome(wrong, chain, segments, aside, recovered, pending, erased)

    def _look(self, room: WriterRoom) -> Iterator[str]:
        """Right after recovery."""
        ledger = room.ledger
        try:
            ledger.check()
        except LedgerDamaged as damage:
            yield f"ledger damaged: {damage}"
        yield from (f"ledger lost: {path.name}" for path in room.layout.state.glob("damaged-*"))
        if (broken := ledger.broken_link()) is not None:
            yield f"the chain is broken at entry {broken}"
        inspection = Inspection(room.layout, ledger, room.clock, lambda: False, hashing=True)
        findings = [*inspection.segments(inspection.expected(), lambda _: None), *inspection.strangers()]
        yield from (f"{finding.place} {finding.what}" for finding in findings)
        yield from (f"{entry.name} is left in open/" for entry in files_below(room.layout.open))
        for segment in ledger.kept():
            yield from self._listen(room, segment)
        named = {name for _, _, names in ledger.erasures() for name in names}
        gone = {segment.name for segment in ledger.segments() if segment.state == "erased"}
        yield from (f"{name} is erased, and no order names it, or the reverse" for name in named ^ gone)
        size = size_below(room.layout.spool)
        if size != room.retention.used:
            yield f"{size} bytes are in the spool, retention counts {room.retention.used}"
        yield from _within_cap(room, "after recovery")

    def _listen(self, room: WriterRoom, segment: Segment) -> Iterator[str]:
        """Whether a recording is what was heard, to the last bit."""
        path = room.layout.audio(segment.name)
        if not path.exists():
            return
        content = path.read_bytes()
        key = (str(segment.name), sha256(content).hexdigest())
        if key not in self._true_frames:
            self._true_frames[key] = _true_frames(content, sound_in(self._notes, key[0]))
        if self._true_frames[key] != segment.frames:
            yield f"{segment.name} doesn't hold what was heard: {self._true_frames[key]} of {segment.frames} frames"

    def _again(self, room: WriterRoom, entries: int) -> Iterator[str]:
        """A second recovery finds nothing to do."""
        second: Recovered = recover(room.layout, room.ledger)
        if second:
            yield f"a second recovery still found something: {second}"
        if room.ledger.head()[0] != entries:
            yield "a second recovery wrote into the journal"

    def _carry_on(self, room: WriterRoom) -> Iterator[str]:
        """The next recording begins, and time is accounted for without a hole."""
        room.hear(noise(1))
        if room.vitals.storage != "recording":
            yield f"recording doesn't go on: {room.vitals.storage}"
        yield from _erase(room)
        room.seal()
        yield from (f"time doesn't tile: {fault}" for fault in read(room.ledger).faults)
        yield from _within_cap(room, "after the next recording")
        yield from _in_order(room.ledger.segments())


def _erase(room: WriterRoom) -> Iterator[str]:
    """What was ordered is carried out, whole, and done with."""
    orders = list(ordered(room.layout.root))
    Eraser(room).step()
    yield from (f"the order {order.id} isn't carried out" for order in ordered(room.layout.root))
    done = {order for order, _, _ in room.ledger.erasures()}
    for order in orders:
        if order.id not in done:
            yield f"the order {order.id} is done with, and the journal says nothing of it"
        left = overlapping(room.ledger.segments(), room.ledger.offsets(), order)
        yield from (f"{segment.name} is still here, though {order.id} is about it" for segment in left)
    for segment in room.ledger.segments():
        if segment.state == "erased" and room.layout.audio(segment.name).exists():
            yield f"{segment.name} is still here, though it's erased"


def size_below(directory: Path) -> int:
    """Bytes of all files there."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _within_cap(room: WriterRoom, when: str) -> Iterator[str]:
    size, cap = size_below(room.layout.spool), room.settings.spool.cap
    if size > cap:
        yield f"{size} bytes {when}, the cap is {cap}"


def _in_order(segments: Iterable[Segment]) -> Iterator[str]:
    """The oldest goes first (invariant 5)."""
    older = None
    for segment in segments:
        if segment.state == "pending":
            older = older or segment
        elif older is not None and segment.state == "evicted" and segment.reason == "cap":
            yield f"{segment.name} was given up before {older.name}, which is older"


def _rebuild(chosen: Settings, clock: FakeClock, kept: dict[str, str]) -> Iterator[str]:
    """Without the ledger, everything is found again by the sidecars (invariant 3)."""
    shutil.rmtree(chosen.spool.path / "state")
    room = WriterRoom(chosen, clock)
    found = {str(segment.name): segment.sha256 for segment in room.ledger.kept()}
    room.ledger.close()
    if found != kept:
        yield f"a rebuilt ledger knows {sorted(found)}, the lost one knew {sorted(kept)}"


def _quarantine(room: WriterRoom) -> tuple[tuple[str, ...], list[str]]:
    """The segments that lie there, and the names that are no segment's."""
    names = [entry.name for entry in files_below(room.layout.quarantine)]
    files = {name: SegmentFile.parse(name) for name in names}
    segments = {str(file.name) for file in files.values() if file is not None}
    return tuple(sorted(segments)), [name for name, file in files.items() if file is None]


def _true_frames(content: bytes, heard: Sound) -> int | None:
    """How many frames a recording holds, if they are the first of `heard`; None if not, or if it can't be read."""
    try:
        encrypted = content.startswith(age.MAGIC)
        stream = readable_in_memory(content, "", [identity()]).stream if encrypted else io.BytesIO(content)
        samples, _ = soundfile.read(stream, dtype="int16")
    except (soundfile.SoundFileError, KioskError):
        return None
    return len(samples) if np.array_equal(samples, heard[: len(samples)]) else None
