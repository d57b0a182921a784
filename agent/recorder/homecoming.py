"""What was recorded in memory comes to the card: its account at once, then its files, one at a time.

The account is the other journal, repeated entry by entry in one transaction that also says up to where that was. It's
told before the card's writer goes on, so that the card's ledger tells all time in order, and also now and then while
recordings go on in memory: then there is little left to tell. A recording is entered as one that isn't here.

Its file follows while the card is written again:

    1. copy it as it would be written there: sidecar, audio, fsync, rename, fsync
    2. the card's ledger: it is here
    3. the ledger in memory: it is gone from here; then remove it

Each step can be repeated. A power cut costs what was still in memory, but no account: what was told of and never came
is entered as lost by the next recovery. The courier may go on with both ledgers meanwhile: a key that one fixes is the
key the other would choose, for both know the same offset of this boot; an acknowledgement that comes too late costs
one more conditional PUT.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from agent.ledger import Boot, Entry, Gap, Ledger, LedgerMissing, NoteKind, Segment, State
from agent.recorder.memory import is_own
from agent.recorder.removal import remove_files
from agent.recorder.root import Root
from agent.recorder.segment import move_into_sealed
from agent.recorder.succession import Cut
from agent.spool import ENCRYPTED_SUFFIX, Layout, SegmentName
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

_RANKS: Final = {"unsynchronised": 0, "server": 1, "synchronised": 2}

_SILENT_KINDS: Final = frozenset({"epoch", "home", "merged"})
"""What a ledger says about itself."""

_LONGEST_TOLD: Final = 2000
"""Entries that the ledger in memory keeps although the card's tells them: half a day of minutes, 2 MiB."""

_NO_ROOM_NS: Final = 10 * NS_PER_S
"""How long files wait in memory when the card has no room for them."""


def cuts_for_card(direct: Layout, clock: Clock) -> list[Cut]:
    """What recovery of the card must know of the recordings in memory.

    Where a segment was gone on with elsewhere, only its beginning counts; a copy that was cut short doesn't count.
    """
    with _ledger_of(direct, clock, read_only=True) as away:
        if away is None:
            return []
        copies = {segment.name: 0 for segment in away.segments()}
        return [Cut(name, frames) for name, frames in (copies | away.cuts()).items()]


@contextmanager
def _ledger_of(direct: Layout, clock: Clock, *, read_only: bool = False) -> Iterator[Ledger | None]:
    """The one in memory; None when there is none, or its writer hasn't come further than to begin one."""
    if not is_own(direct.root):
        yield None
        return
    try:
        ledger = Ledger(direct.ledger, clock, read_only=read_only)
    except LedgerMissing:
        yield None
        return
    with ledger:
        yield ledger


class Homecoming:
    """From the ledger and the spool in memory to `home`. Belongs to the card's thread; raises CARD_ERRORS."""

    def __init__(self, direct: Layout, home: Root, clock: Clock) -> None:
        self._direct = direct
        self._home = home
        self._clock = clock
        self._not_before_ns = 0
        self.brought = 0
        """Files that came so far."""

    def tell(self) -> None:
        """Repeat the account up to now, also while the other spool is still written."""
        home = self._home
        with _ledger_of(self._direct, self._clock) as away:
            if away is None:
                return
            epoch = away.epoch()
            until, counted = home.ledger.home_until(epoch)
            entries = [entry for entry in away.entries(until) if entry.kind not in _SILENT_KINDS]
            counters = away.counters()
            if not entries and counters == counted:
                return
            with home.ledger.transaction():
                _bridge(entries, home.ledger)
                for entry in entries:
                    _repeat(entry, away, home)
                home.ledger.count(**{name: value - counted.get(name, 0) for name, value in counters.items()})
                home.ledger.came_home(epoch, entries[-1].seq if entries else until, counters)
            away.went_home(counters)
            if entries and entries[-1].seq - away.first() > _LONGEST_TOLD:
                away.forget_told(entries[-1].seq)

    def step(self) -> bool:
        """Bring one file, when there is room for it beside the segment being written. False: none is left."""
        if self._clock.monotonic_ns() < self._not_before_ns:
            return True
        self.tell()
        with _ledger_of(self._direct, self._clock) as away:
            if away is None:
                return False
            waiting = [segment for segment in away.kept() if self._may_go(segment)]
            here = [segment for segment in waiting if not self._is_missed(segment)]
            self._let_go(away, here)
            fetched = next((segment for segment in waiting if self._is_missed(segment)), None)
            if fetched is None:
                return False
            if not self._home.retention.make_room_beside(fetched.bytes + fetched.meta_bytes):
                self._not_before_ns = self._clock.monotonic_ns() + _NO_ROOM_NS
                return True
            if self._copy(fetched):
                self._home.ledger.recall_files(fetched.name)
                self._home.retention.note_sealed(fetched.bytes + fetched.meta_bytes)
                self._let_go(away, [fetched])
                self.brought += 1
            return True

    def finish(self) -> None:
        """Bring everything there is room for; nothing is being written any more."""
        self._not_before_ns = 0
        while self.step() and not self._not_before_ns:
            pass

    def _may_go(self, segment: Segment) -> bool:
        """Whether the card's ledger knows about it all that this one does. What it took for lost, memory keeps."""
        known = self._home.ledger.segment(segment.name)
        return known is not None and (known.present or segment.state != "pending" or known.state != "lost")

    def _is_missed(self, segment: Segment) -> bool:
        """Whether the card should have its file, and hasn't."""
        known = self._home.ledger.segment(segment.name)
        return known is not None and not known.present and segment.state == known.state == "pending"

    def _let_go(self, away: Ledger, segments: Sequence[Segment]) -> None:
        if segments:
            away.forget_files(segment.name for segment in segments)
        for segment in segments:
            remove_files(self._direct, segment.name)

    def _copy(self, segment: Segment) -> bool:
        """One recording as if it were written there: until it's whole, recovery takes it for an unfinished one."""
        name, layout = segment.name, self._home.layout
        audio = self._direct.audio(name)
        try:
            _copied(self._direct.meta(name), layout.open_meta(name))
            _copied(audio, layout.part(name))
        except FileNotFoundError:
            # Uploaded or given up in this very moment: an entry that follows says which.
            for path in (layout.part(name), layout.open_meta(name)):
                path.unlink(missing_ok=True)
            return False
        move_into_sealed(layout, name, encrypted=audio.name.endswith(ENCRYPTED_SUFFIX))
        return True


def _copied(source: Path, copy: Path) -> None:
    with source.open("rb") as reading, copy.open("wb") as writing:
        shutil.copyfileobj(reading, writing)
        writing.flush()
        os.fsync(writing.fileno())


def _bridge(entries: list[Entry], home: Ledger) -> None:
    """Account for the time between what the card knows and what was recorded in memory: a stuck card's last seconds."""
    last = home.last_end()
    told = [entry.body for entry in entries if entry.kind in ("gap", "sealed")]
    if last is None or not told or any("previous" in body for body in told):
        # The other journal says itself what was before, or nobody was before.
        return
    (last_boot, end_ns), boot = last, told[0]["of"]
    begin_ns = min(body["begin_ns"] for body in told)
    if last_boot != boot:
        home.gap(Gap(boot, end_ns, begin_ns, "power_off", last_boot))
    elif end_ns < begin_ns:
        home.gap(Gap(boot, end_ns, begin_ns, "disk_error"))


def _repeat(entry: Entry, away: Ledger, home: Root) -> None:
    """Enter on the card what was entered in memory."""
    body, ledger = entry.body, home.ledger
    if entry.kind in ("boot", "retimed"):
        _learn(Boot(body["of"], body["offset_ns"], body["clock"]), ledger)
    elif entry.kind == "gap":
        ledger.gap(Gap(body["of"], body["begin_ns"], body["end_ns"], body["reason"], body.get("previous")))
    elif entry.kind in ("command", "button"):
        ledger.note(cast("NoteKind", entry.kind), body)
    elif entry.kind == "erasure":
        names = [SegmentName(run, seq) for run, seq in body["segments"]]
        ledger.erase(body["id"], names, body["why"])
        for name in names:
            home.retention.remove(name)
    elif "run" in body and entry.kind != "direct":
        _repeat_for(SegmentName(body["run"], body["seq"]), entry.kind, body, away, home)


def _repeat_for(name: SegmentName, kind: str, body: dict[str, Any], away: Ledger, home: Root) -> None:
    ledger = home.ledger
    if kind == "sealed":
        segment = away.segment(name)
        if segment is not None and ledger.segment(name) is None:
            here = home.layout.audio(name).exists()
            ledger.seal(replace(segment, state="pending", present=here, key=None, key_clock=None, settled_ns=None))
    elif kind == "keyed":
        ledger.fix_key(name, body["key"], body["clock"])
    elif kind == "acknowledged":
        ledger.acknowledge(name, body["how"])
    elif kind == "empty":
        ledger.empty(name)
    elif kind == "erased" or not home.layout.audio(name).exists():
        ledger.settle(name, cast("State", kind), body["reason"])
        home.retention.remove(name)


def _learn(boot: Boot, ledger: Ledger) -> None:
    known = {each.boot: each for each in ledger.boots()}.get(boot.boot)
    if known is None:
        ledger.add_boot(boot)
    elif _RANKS[boot.clock] > _RANKS[known.clock]:
        ledger.retime(boot)
