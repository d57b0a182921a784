"""What the fleet should hear of the recordings' own history: journal entries become events.

Pure, but for `read_on`. An entry becomes the same events, with the same ids, whenever it is read; a gap that was
entered in pieces is one gap, so what is open is remembered from entry to entry.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from agent.contract.keys import timestamp
from agent.courier.outbox import Happening
from agent.errors import KioskError
from agent.ledger import Entry, Ledger
from agent.units import NS_PER_S
from hw.clock import Clock

MOST_ENTRIES: Final = 500
"""So many are read in one go: an open reader lets the ledger's log grow."""
LOOK_BACK: Final = 10_000
"""How many entries an outbox that doesn't know the ledger goes back: two days of minutes. What was told before then is
told again, with its ids."""

_SETTLED: Final = frozenset({"evicted", "erased", "quarantined", "lost"})
_QUIET: Final = "voice"


@dataclass(frozen=True, slots=True)
class OpenGap:
    """A gap whose end isn't known yet; times as in `agent.ledger.Gap`."""

    reason: str
    boot: str
    begin_ns: int
    end_ns: int
    previous: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a ledger's journal has become events, and what was open there."""

    epoch: str = ""
    seq: int = 0
    gap: OpenGap | None = None
    last_reason: str = ""
    """Of the newest gap."""

    def dumped(self) -> str:
        """For the outbox."""
        return json.dumps(asdict(self))

    @classmethod
    def loaded(cls, text: str | None) -> Cursor:
        """What `dumped` made; the beginning of everything for None and for what can't be understood."""
        try:
            content = json.loads(text or "{}")
            gap = content.pop("gap", None)
            return cls(**content, gap=None if gap is None else OpenGap(**gap))
        except (ValueError, TypeError, AttributeError):
            return cls()


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of the journal as events."""

    happenings: list[Happening]
    cursor: Cursor
    gone: int = 0
    """How many entries were removed from the journal before they were read."""
    more: bool = False


def read_on(path: Path, clock: Clock, cursor: Cursor) -> Portion:
    """The next portion of the ledger at `path`; nothing while there is none.

    Raises one of `UNREADABLE` when it can't be read now.
    """
    if not path.exists():
        return Portion([], cursor)
    with Ledger(path, clock, read_only=True) as ledger:
        epoch, (head, _) = ledger.epoch(), ledger.head()
        known = cursor.epoch == epoch and cursor.seq <= head
        if not known:
            cursor = Cursor(epoch, _start(cursor, epoch, head))
        offsets = ledger.offsets()
        entries, damaged = _taken(ledger.entries(cursor.seq))
    if damaged and not entries:
        # Whether the chain of custody holds is for an alert to say; the events go on behind what can't be read.
        return Portion([], replace(cursor, seq=cursor.seq + 1), 1, more=True)
    gone = entries[0].seq - cursor.seq - 1 if entries and known else 0
    happenings = []
    for entry in entries:
        told, cursor = retold(entry, cursor, offsets)
        happenings += told
    return Portion(happenings, cursor, gone, damaged or len(entries) == MOST_ENTRIES)


def _start(cursor: Cursor, epoch: str, head: int) -> int:
    """After which entry to begin with a ledger that isn't the one that was read last, or is as it was earlier."""
    if cursor.epoch == epoch:
        return head
    return 0 if cursor.epoch else max(0, head - LOOK_BACK)


def _taken(entries: Iterator[Entry]) -> tuple[list[Entry], bool]:
    """At most `MOST_ENTRIES`, and whether the one behind them can't be read."""
    taken: list[Entry] = []
    try:
        taken.extend(islice(entries, MOST_ENTRIES))
    except ValueError:
        return taken, True
    return taken, False


def retold(entry: Entry, cursor: Cursor, offsets: Mapping[str, int]) -> tuple[list[Happening], Cursor]:
    """The events of one entry, and the cursor after it. `offsets`: wall time of each boot less its monotonic time."""
    try:
        found, after = _found(entry, cursor, offsets)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        # Not what any release wrote: damage, which the chain shows.
        found, after = [], cursor
    happenings = [
        Happening(f"{entry.epoch}-{entry.seq}" + (f"-{number}" if number else ""), entry.at_ns, name, facts)
        for number, (name, facts) in enumerate(found)
    ]
    return happenings, replace(after, epoch=entry.epoch, seq=entry.seq)


_Found = list[tuple[str, dict[str, Any]]]


def _found(entry: Entry, cursor: Cursor, offsets: Mapping[str, int]) -> tuple[_Found, Cursor]:
    body, found = entry.body, _Found()
    match entry.kind:
        case "epoch":
            found = [("epoch_begun", {"epoch": entry.epoch})]
        case "boot" | "retimed":
            name = "boot_begun" if entry.kind == "boot" else "clock_corrected"
            facts = {"boot": body["of"], "clock": body["clock"], "since": timestamp(body["offset_ns"])}
            found = [(name, facts)]
        case "gap":
            found, cursor = _gap(body, cursor, offsets)
        case "sealed":
            found = [*_ended(cursor.gap, offsets), *_sealed(entry, cursor, offsets)]
            cursor = replace(cursor, gap=None)
        case "erasure":
            found = [("erasure", {"order": body["id"], "segments": len(body["segments"])})]
        case kind if kind in _SETTLED:
            found = [(kind, {"run": body["run"], "seq": body["seq"], "reason": body["reason"] or kind})]
    return found, cursor


def _sealed(entry: Entry, cursor: Cursor, offsets: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    body = entry.body
    run, seq, boot = body["run"], body["seq"], body["of"]
    if seq == 0 and boot == entry.boot and cursor.last_reason != _QUIET:
        since = _wall(offsets, boot, body["begin_ns"])
        facts = {"run": run, "boot": boot, "since": since, "rate": body["rate"], "channels": body["channels"]}
        yield "run_begun", facts
    if body["truncated"]:
        yield "truncated", {"run": run, "seq": seq, "seconds": round(body["frames"] / body["rate"], 3)}


def _gap(body: Mapping[str, Any], cursor: Cursor, offsets: Mapping[str, int]) -> tuple[_Found, Cursor]:
    piece = OpenGap(body["reason"], body["of"], body["begin_ns"], body["end_ns"], body.get("previous"))
    known = cursor.gap
    if known is not None and piece.previous is None and _same(known, piece):
        return [], replace(cursor, gap=replace(known, end_ns=piece.end_ns))
    after = replace(cursor, gap=piece, last_reason=piece.reason)
    return [*_ended(known, offsets), *_begun(piece, offsets)], after


def _same(known: OpenGap, piece: OpenGap) -> bool:
    return (known.reason, known.boot, known.end_ns) == (piece.reason, piece.boot, piece.begin_ns)


def _begun(gap: OpenGap, offsets: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    if gap.reason != _QUIET:
        yield "gap_begun", {"reason": gap.reason, "since": _since(gap, offsets)}


def _ended(gap: OpenGap | None, offsets: Mapping[str, int]) -> Iterator[tuple[str, dict[str, Any]]]:
    if gap is None or gap.reason == _QUIET:
        return
    yield (
        "gap_ended",
        {
            "reason": gap.reason,
            "since": _since(gap, offsets),
            "until": _wall(offsets, gap.boot, gap.end_ns),
            "seconds": _seconds(gap, offsets),
        },
    )


def _since(gap: OpenGap, offsets: Mapping[str, int]) -> str | None:
    return _wall(offsets, gap.previous or gap.boot, gap.begin_ns)


def _seconds(gap: OpenGap, offsets: Mapping[str, int]) -> float | None:
    length_ns = gap.end_ns - gap.begin_ns
    if gap.previous is not None:
        if gap.boot not in offsets or gap.previous not in offsets:
            return None
        length_ns += offsets[gap.boot] - offsets[gap.previous]
    return round(max(0, length_ns) / NS_PER_S, 3)


def _wall(offsets: Mapping[str, int], boot: str, mono_ns: int) -> str | None:
    return timestamp(offsets[boot] + mono_ns) if boot in offsets else None


UNREADABLE: Final = (KioskError, sqlite3.Error, OSError)
"""What `read_on` raises when the ledger can't be read or understood now."""
