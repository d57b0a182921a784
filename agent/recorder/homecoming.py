"""What was recorded in memory comes to the card: its journal entry by entry, each file before the entry that seals it.

In the order of the other journal, each step durable before the next:

    1. repeat what was entered before a segment was sealed, in one transaction that also says up to where that was
    2. copy the segment as it would be written there: sidecar, audio, fsync, rename, fsync
    3. with the next transaction, its own entry; at the end what was counted
    4. forget and remove in memory what the card's ledger knows

A power cut between two steps costs what was still in memory, but no account: the card's ledger tells all time up to the
last copy. Each step can be repeated. The courier may go on with both ledgers meanwhile: a key that one fixes is the key
the other would choose, for both know the same offset of this boot; an acknowledgement that comes too late costs one
more conditional PUT.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from agent.ledger import Boot, Entry, Gap, Ledger, Segment, State
from agent.recorder.removal import remove_files
from agent.recorder.root import Root
from agent.recorder.segment import move_into_sealed
from agent.recorder.succession import Cut
from agent.spool import Layout, SegmentName
from hw.clock import Clock

log = logging.getLogger(__name__)

_RANKS: Final = {"unsynchronised": 0, "server": 1, "synchronised": 2}


def cuts_for_card(direct: Layout, clock: Clock) -> list[Cut]:
    """What recovery of the card must know of the recordings in memory.

    Where a segment was gone on with elsewhere, only its beginning counts; a copy that was cut short doesn't count.
    """
    if not direct.ledger.exists():
        return []
    with Ledger(direct.ledger, clock, read_only=True) as away:
        copies = {segment.name: 0 for segment in away.segments()}
        return [Cut(name, frames) for name, frames in (copies | away.cuts()).items()]


def carry_home(direct: Layout, home: Root, clock: Clock) -> None:
    """Steps 1 to 3 for all that is there now, also while the other spool is still written. Raises CARD_ERRORS."""
    if not direct.ledger.exists():
        return
    with Ledger(direct.ledger, clock, read_only=True) as away:
        until, _ = home.ledger.home_until(away.epoch())
        before: list[Entry] = []
        for entry in list(away.entries(until)):
            segment = _waiting_there(entry, away, home)
            if segment is not None:
                _repeat_all(before, away, home)
                before = []
                _copy(direct, home, segment)
            before.append(entry)
        _repeat_all(before, away, home)


def bring_home(direct: Layout, home: Root, clock: Clock) -> int:
    """All steps; nobody writes the other spool any more. How many recordings came. Raises CARD_ERRORS."""
    if not direct.ledger.exists():
        return 0
    carry_home(direct, home, clock)
    with Ledger(direct.ledger, clock) as away:
        epoch, counters = away.epoch(), away.counters()
        until, counted = home.ledger.home_until(epoch)
        if counters != counted:
            with home.ledger.transaction():
                home.ledger.count(**{name: value - counted.get(name, 0) for name, value in counters.items()})
                home.ledger.came_home(epoch, until, counters)
        done = [segment for segment in away.kept() if home.ledger.segment(segment.name) is not None]
        with away.transaction():
            away.forget_files(segment.name for segment in done)
            away.went_home(counters)
    for segment in done:
        remove_files(direct, segment.name)
    return len(done)


def _waiting_there(entry: Entry, away: Ledger, home: Root) -> Segment | None:
    """The segment that `entry` sealed, if its file is in memory only."""
    if entry.kind != "sealed":
        return None
    segment = away.segment(SegmentName(entry.body["run"], entry.body["seq"]))
    if segment is None or not segment.present or segment.state != "pending":
        return None
    return None if home.layout.audio(segment.name).exists() or home.ledger.segment(segment.name) else segment


def _copy(direct: Layout, home: Root, segment: Segment) -> None:
    """One recording as if it were written there: until it's whole, recovery takes it for an unfinished one."""
    if not home.retention.make_room():
        raise OSError(errno.ENOSPC, "no room for what was recorded in memory")
    name, layout = segment.name, home.layout
    try:
        _copied(direct.meta(name), layout.open_meta(name))
        _copied(direct.audio(name), layout.part(name))
    except FileNotFoundError:
        # Uploaded or given up in this very moment: an entry that follows says which.
        for path in (layout.part(name), layout.open_meta(name)):
            path.unlink(missing_ok=True)
        return
    move_into_sealed(layout, layout.part(name), layout.open_meta(name), layout.audio(name), layout.meta(name))
    home.retention.note_sealed(segment.bytes + segment.meta_bytes)


def _repeat_all(entries: list[Entry], away: Ledger, home: Root) -> None:
    if not entries:
        return
    _, counted = home.ledger.home_until(away.epoch())
    with home.ledger.transaction():
        _bridge(entries, home.ledger)
        for entry in entries:
            _repeat(entry, away, home)
        home.ledger.came_home(away.epoch(), entries[-1].seq, counted)


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
    elif entry.kind == "command":
        ledger.obeyed(body["id"], body["key"], body["verb"], body["args"], body["sha256"])
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
