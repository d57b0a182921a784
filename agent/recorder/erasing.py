"""Erasing: whole recordings that overlap a stretch of time, by a signed command or by who is on the kiosk.

    1. the order becomes a file `<spool.path>/erase/<id>.json`, durable; where it came by command, first one in memory,
       for a restart while the card doesn't take it
    2. the writer seals what is open, once everything that was heard before the stretch's end has come to it
    3. one transaction of the ledger: the recordings are `erased`, the journal has `erasure` with their names
    4. their files go, also from quarantine, and what lies there of that stretch, or may, without the ledger's knowing;
       `fsync` of the directories
    5. the order's file goes

Each step can be repeated: an order that the journal has is carried out from 4 on. The courier makes a tombstone of the
journal's entry, so that those in the store can be removed as well (agent.courier.custodian). Recordings in memory
belong to the ledger there, and to an order with an id of its own; while memory is written, that comes first, because
the order is forgotten once the card is rid of what it names. Where nothing is in memory, nothing is entered there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from agent.contract.commands import ID
from agent.ledger import Segment
from agent.recorder.aside import unknown_within
from agent.recorder.memory import is_own, make_own
from agent.recorder.root import Root
from agent.recorder.writer import Writer
from agent.spool import Layout, files_below, replace_file, sync_directory

log = logging.getLogger(__name__)

_DIRECTORY: Final = "erase"
_NOTHING_THERE: Final = frozenset({"evicted", "lost", "empty", "erased"})
"""States of recordings that are nowhere, unless they have a key."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """An order to erase."""

    id: str
    from_ns: int
    to_ns: int
    """Wall time, by what the ledger says of the boots: as `kiosk-recorder list` tells it."""
    why: str

    @property
    def in_memory(self) -> Erasure:
        """The same for the ledger in memory: one order has one tombstone."""
        return replace(self, id=hashlib.sha256(f"{self.id}/direct".encode()).hexdigest()[:32])


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased by one order."""

    recordings: int
    seconds: float
    in_store: int
    """Those of them that have a key: they may be in the store."""


def overlapping(segments: Iterable[Segment], offsets: Mapping[str, int], erasure: Erasure) -> list[Segment]:
    """What the order is about: overlapping by any part, and here, or perhaps in the store. Pure.

    `offsets` are the ledger's, by boot.
    """
    return [
        segment
        for segment in segments
        if segment.state != "erased"
        and (segment.present or segment.key is not None or segment.state not in _NOTHING_THERE)
        and offsets.get(segment.boot, 0) + segment.end_ns > erasure.from_ns
        and offsets.get(segment.boot, 0) + segment.begin_ns < erasure.to_ns
    ]


def file_of(root: Path, erasure: Erasure) -> Path:
    """Where an order waits until it's carried out."""
    return root / _DIRECTORY / f"{erasure.id}.json"


def order(root: Path, erasure: Erasure) -> None:
    """Have it carried out, now or at the next start; durable on return. Raises OSError."""
    directory = root / _DIRECTORY
    if not directory.is_dir():
        directory.mkdir(mode=0o750, exist_ok=True)
        sync_directory(root)
    replace_file(file_of(root, erasure), json.dumps(asdict(erasure)).encode(), durable=True)


def ordered(root: Path) -> Iterator[Erasure]:
    """Every order that waits. What can't be understood is told of and left alone."""
    try:
        names = os.listdir(root / _DIRECTORY)  # noqa: PTH208 (names alone)
    except FileNotFoundError:
        return
    for name in sorted(names):
        if ID.fullmatch(name.removesuffix(".json")):
            try:
                found = json.loads((root / _DIRECTORY / name).read_bytes())
                yield Erasure(str(found["id"]), int(found["from_ns"]), int(found["to_ns"]), str(found["why"]))
            except (ValueError, KeyError, TypeError):
                log.error("%s is no order to erase", root / _DIRECTORY / name)  # noqa: TRY400 (it says enough)


def carry_out(root: Root, erasure: Erasure, *, entered_in_any_case: bool = True) -> Erased:
    """Steps 3 and 4 on one spool; with an entry in the journal also where it's about nothing, or not.

    Raises CARD_ERRORS; it can be repeated.
    """
    ledger = root.ledger
    names = next((names for order, _, names in ledger.erasures() if order == erasure.id), None)
    if names is None:
        chosen = overlapping(ledger.segments(), ledger.offsets(), erasure)
        names = [segment.name for segment in chosen]
        if names or entered_in_any_case:
            ledger.erase(erasure.id, names, erasure.why)
        log.warning("%d recordings are erased: %s", len(names), erasure.why or "no reason was given")
    for name in names:
        root.retention.remove(name)
    root.retention.remove_from_quarantine([*map(str, names), *_set_aside(root, erasure)])
    for directory in (root.layout.sealed, root.layout.quarantine):
        sync_directory(directory)
    with ledger.transaction():
        root.retention.commit_removals()
    segments = [segment for name in names if (segment := ledger.segment(name)) is not None]
    in_store = sum(segment.key is not None for segment in segments)
    return Erased(len(names), sum(segment.seconds for segment in segments), in_store)


def _set_aside(root: Root, erasure: Erasure) -> list[str]:
    """What it's about in quarantine, unknown to the ledger; also what can't be dated, for it may be."""
    within, undated = unknown_within(root.layout, root.ledger, erasure.from_ns, erasure.to_ns)
    for stem in within:
        log.warning("%s in quarantine is erased, too", stem)
    for stem in undated:
        log.warning("%s in quarantine is erased, too: nobody can tell when that was recorded", stem)
    return within + undated


def fulfilled(root: Path, erasure: Erasure) -> None:
    """Step 5. Raises OSError."""
    file_of(root, erasure).unlink(missing_ok=True)


class Erasures:
    """Orders on their way to the two spools. Each spool's own thread carries them out there."""

    def __init__(self, card: Path, memory: Path, news: Callable[[], None]) -> None:
        """`news` is called when there is something to carry out."""
        self._card = card
        self._memory = memory
        self._news = news
        self._lock = threading.Lock()
        self._waiting: dict[Path, dict[str, Erasure]] = {}
        self._refused: dict[str, Erasure] = {}
        """Orders that the card didn't take."""
        self._marks: dict[Path, int] = {}
        self.done: dict[str, Erased] = {}
        """What was erased on the card, by order."""

    def order(self, erasure: Erasure) -> None:
        """By command: from the main thread, which never touches the card. A thread of its own makes it durable."""
        self._keep_in_memory(erasure)
        self._expect(erasure)
        self._news()
        threading.Thread(target=self._keep, args=(erasure,), name="erase", daemon=True).start()

    def step(self, root: Root, writer: Writer | None) -> None:
        """From the thread of a spool; the card has no `writer` while memory is written. Raises CARD_ERRORS."""
        place = root.layout.root
        if is_own(self._memory):
            self._look(self._memory)
        if place == self._card:
            self._look(place)
            self._keep_refused()
        for erasure in list(self._waiting.get(place, {}).values()):
            if not self._may_begin(erasure, writer):
                continue
            erased = carry_out(root, erasure, entered_in_any_case=place == self._card)
            if place == self._card:
                self._forget(erasure)
                self.done[erasure.id] = erased
            with self._lock:
                del self._waiting[place][erasure.id]
            self._news()

    def _forget(self, erasure: Erasure) -> None:
        """The card is rid of what it names: memory has nothing to do with it either, if nothing lies there."""
        fulfilled(self._card, erasure)
        if is_own(self._memory):
            fulfilled(self._memory, erasure)
        memory = Layout(self._memory)
        if not any(True for directory in (memory.open, memory.sealed) for _ in files_below(directory)):
            with self._lock:
                self._waiting[self._memory].pop(erasure.in_memory.id, None)

    def _may_begin(self, erasure: Erasure, writer: Writer | None) -> bool:
        """Whether everything that was heard before its end is where it can be erased."""
        if writer is not None:
            return writer.closed_before(erasure.to_ns)
        return erasure.in_memory.id not in self._waiting.get(self._memory, {})

    def _look(self, place: Path) -> None:
        """What was ordered by a file: one stat while there is nothing new."""
        try:
            mark = (place / _DIRECTORY).stat().st_mtime_ns
        except FileNotFoundError:
            return
        if mark != self._marks.get(place):
            self._marks[place] = mark
            for erasure in ordered(place):
                if erasure.id in self.done:
                    # Written when it was carried out already: by a thread that came late.
                    fulfilled(place, erasure)
                else:
                    self._expect(erasure)

    def _expect(self, erasure: Erasure) -> None:
        with self._lock:
            # It is heard of more than once: by command, and by a file in either place.
            if erasure.id in self._waiting.get(self._card, {}):
                return
            for place, each in ((self._card, erasure), (self._memory, erasure.in_memory)):
                self._waiting.setdefault(place, {})[each.id] = each

    def _keep_in_memory(self, erasure: Erasure) -> None:
        try:
            make_own(self._memory)
            order(self._memory, erasure)
        except OSError as error:
            log.warning("can't keep in memory what is to be erased: %s", error)

    def _keep(self, erasure: Erasure) -> None:
        try:
            order(self._card, erasure)
        except OSError as error:
            log.warning("can't keep on the card what is to be erased: %s", error)
            self._refused[erasure.id] = erasure

    def _keep_refused(self) -> None:
        """Now that the card is at work: it may be a while until they are carried out. Else with the next step."""
        for name, erasure in list(self._refused.items()):
            with suppress(OSError):
                if name in self._waiting.get(self._card, {}):
                    order(self._card, erasure)
                del self._refused[name]
