"""The ledger as its writers see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, get_args

from agent.contract.custody import Stretch
from agent.ledger.census import Census
from agent.ledger.database import Database, LedgerDamaged
from agent.ledger.journal import Entry, Journal
from agent.ledger.queries import SEGMENT_COLUMNS, Queries
from agent.ledger.records import Boot, ClockState, Gap, NoteKind, Segment, State
from agent.spool import SegmentName
from hw.clock import Clock


class Ledger(Queries):
    """One thread's connection to the ledger: reads what everybody reads, and enters what happens."""

    def __init__(self, path: Path, clock: Clock, *, create: bool = False, read_only: bool = False) -> None:
        """Open the ledger at `path`.

        Raises KioskError when it doesn't exist (and `create` is off), can't be used now or belongs to a newer release,
        LedgerDamaged when it isn't a readable database.
        """
        self._database = Database(path, create=create, read_only=read_only)
        super().__init__(self._database.connection)
        self._clock = clock
        self._journal = Journal(self._db, clock)
        if create and self._database.fresh:
            with self.transaction():
                self._journal.begin()
            self._database.founded()

    @property
    def boot(self) -> str:
        """The boot in which this process lives."""
        return self._clock.boot

    def close(self) -> None:
        """Let go of the database. What was committed stays."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside becomes durable together at its end, or not at all. Nests into the outermost."""
        with self._database.transaction():
            yield

    @contextmanager
    def census(self, found: Iterable[tuple[str, int, bool]]) -> Iterator[Census]:
        """Hold the files found in `sealed/` (run, seq, whether it is the audio) against what should be there."""
        census = Census(self._db, found)
        try:
            yield census
        finally:
            census.close()

    def check(self) -> None:
        """Raises LedgerDamaged when SQLite finds its structures broken, or what recording relies on can't be read.

        SQLite has no checksums: a bit that flips within a value is found by what the value may be, if at all.
        """
        self._database.check()
        with self._database.told_apart("check ledger"):
            try:
                self._read_what_counts()
            except (ValueError, TypeError) as error:
                raise LedgerDamaged("check ledger", place=str(self._database.path), cause=str(error)) from error

    def _read_what_counts(self) -> None:
        """Raises ValueError or TypeError for values that were never written here."""
        self.head(), self.epoch(), self.last_end()
        counters, boots = self.counters(), self.boots()
        for segment in self.kept():
            SegmentName.parse(f"{segment.run}-{segment.seq:06d}")
            _expect(segment.state in get_args(State), f"a segment is {segment.state!r}")
            _expect(any(boot.boot == segment.boot for boot in boots), f"a segment is of boot {segment.boot!r}")
            _expect(min(segment.bytes, segment.meta_bytes, segment.frames, segment.rate - 1) >= 0, "a size is negative")
        for boot in boots:
            _expect(boot.clock in get_args(ClockState), f"a clock is {boot.clock!r}")
            _expect(isinstance(boot.offset_ns, int), "an offset is no number")
        _expect(all(value >= 0 for value in counters.values()), "a counter is negative")

    # The journal.

    def epoch(self) -> str:
        """The id of this custody epoch: it changes only when a ledger was lost."""
        return self._journal.epoch()

    def head(self) -> tuple[int, bytes]:
        """Sequence number and hash of the newest journal entry."""
        return self._journal.head()

    def entries(self, since: int = 0, *, until: int | None = None) -> Iterator[Entry]:
        """The journal in order, from after sequence number `since`, and up to `until` if that is given."""
        return self._journal.entries(since, until=until)

    def first(self) -> int:
        """Sequence number of the oldest journal entry that is here."""
        return next((entry.seq for entry in self.entries()), 0)

    def follow(self, after: tuple[int, bytes] | None, limit: int) -> tuple[tuple[int, bytes] | None, int | None]:
        """`broken_link` in portions: at most `limit` links from after an entry that an earlier call reached.

        The entry that is reached now, by its number and hash, and the number of the first broken one, if one was met.
        """
        return self._journal.follow(after, limit)

    def broken_link(self) -> int | None:
        """Sequence number of the first journal entry whose hash doesn't follow from the one before, or None."""
        return self._journal.broken_link()

    def hash_of(self, seq: int) -> bytes | None:
        """The hash of an entry, or of the last one that was pruned; None when it isn't here. 0 is the beginning."""
        return self._journal.hash_of(seq)

    def last_manifest(self) -> Entry | None:
        """The newest entry that says a manifest of this epoch is in the store. Reads the whole journal if none does."""
        epoch = self.epoch()
        return next((entry for entry in self._journal.latest_of_kind("manifest") if entry.body["epoch"] == epoch), None)

    def now_ns(self) -> int:
        """Wall time by what is known of this boot; the machine's own clock may be wrong where the store's was right."""
        offset_ns = self._offset_ns()
        return self._clock.wall_ns() if offset_ns is None else offset_ns + self._clock.monotonic_ns()

    # What the recorder writes.

    def begin_boot(self, offset_ns: int, clock: ClockState) -> None:
        """Note that this boot exists. Repeats are ignored: a restart of the process isn't a boot."""
        with self.transaction():
            known = self._db.execute("SELECT 1 FROM boots WHERE boot = ?", (self._clock.boot,)).fetchone()
            if known is None:
                self.add_boot(Boot(self._clock.boot, offset_ns, clock))

    def add_boot(self, boot: Boot) -> None:
        """Note a boot, this one or (while rebuilding) an earlier one."""
        with self.transaction():
            self._journal.append("boot", of=boot.boot, offset_ns=boot.offset_ns, clock=boot.clock)
            self._db.execute(
                "INSERT INTO boots (boot, offset_ns, clock) VALUES (?, ?, ?)", (boot.boot, boot.offset_ns, boot.clock)
            )

    def retime(self, boot: Boot) -> None:
        """Repair the offset of a boot; everything of it that has no key yet moves along."""
        with self.transaction():
            if boot.boot == self._clock.boot:
                self._move_settled(boot.offset_ns)
            self._journal.append("retimed", of=boot.boot, offset_ns=boot.offset_ns, clock=boot.clock)
            self._db.execute(
                "UPDATE boots SET offset_ns = ?, clock = ? WHERE boot = ?", (boot.offset_ns, boot.clock, boot.boot)
            )

    def _move_settled(self, offset_ns: int) -> None:
        """What was settled in this boot isn't older or younger because the clock turned out to be wrong."""
        known_ns = self._offset_ns()
        if known_ns is None:
            return
        self._db.execute(
            "UPDATE segments SET settled_ns = settled_ns + ? WHERE present AND settled_ns BETWEEN ? AND ?",
            (offset_ns - known_ns, known_ns, known_ns + self._clock.monotonic_ns()),
        )

    def _offset_ns(self) -> int | None:
        row = self._db.execute("SELECT offset_ns FROM boots WHERE boot = ?", (self._clock.boot,)).fetchone()
        return None if row is None else int(row[0])

    def seal(self, segment: Segment) -> None:
        """Enter a segment whose files already are durable under `sealed/`."""
        body = {
            "run": segment.run,
            "seq": segment.seq,
            "of": segment.boot,
            "begin_ns": segment.begin_ns,
            "end_ns": segment.end_ns,
            "frames": segment.frames,
            "rate": segment.rate,
            "channels": segment.channels,
            "bytes": segment.bytes,
            "sha256": segment.sha256,
            "truncated": segment.truncated,
            "provisional": segment.provisional,
        }
        with self.transaction():
            self._journal.append("sealed", **body)
            places = ", ".join("?" * len(Segment.__slots__))
            self._db.execute(
                f"INSERT INTO segments ({SEGMENT_COLUMNS}) VALUES ({places})",
                tuple(getattr(segment, column) for column in Segment.__slots__),
            )

    def gap(self, gap: Gap) -> None:
        """Enter an interval that wasn't recorded."""
        body = {"of": gap.boot, "begin_ns": gap.begin_ns, "end_ns": gap.end_ns, "reason": gap.reason}
        if gap.previous_boot is not None:
            body["previous"] = gap.previous_boot
        with self.transaction():
            self._journal.append("gap", **body)
            self._db.execute(
                "INSERT INTO gaps (boot, previous_boot, begin_ns, end_ns, reason) VALUES (?, ?, ?, ?, ?)",
                (gap.boot, gap.previous_boot, gap.begin_ns, gap.end_ns, gap.reason),
            )

    def settle(self, name: SegmentName, state: State, reason: str) -> bool:
        """Enter what became of a segment here (evicted, erased, …). Its file may go only after this.

        False, and nothing is entered, when the courier acknowledged it meanwhile: then that is what became of it.
        """
        with self.transaction():
            changed = self._db.execute(
                "UPDATE segments SET state = ?, reason = ?, settled_ns = ? "
                "WHERE run = ? AND seq = ? AND state != 'acknowledged'",
                (state, reason, self.now_ns(), name.run, name.seq),
            )
            if not changed.rowcount:
                return False
            self._journal.append(state, run=name.run, seq=name.seq, reason=reason)
            return True

    def erase(self, order: str, names: Sequence[SegmentName], why: str) -> None:
        """Enter that people had these recordings erased, uploaded or not. Their files may go only after this."""
        with self.transaction():
            self._db.executemany(
                "UPDATE segments SET state = 'erased', reason = ?, settled_ns = ? WHERE run = ? AND seq = ?",
                [(why, self.now_ns(), name.run, name.seq) for name in names],
            )
            self._journal.append("erasure", id=order, segments=[[name.run, name.seq] for name in names], why=why)

    def erasures(self, since: int = 0) -> list[tuple[str, str, list[SegmentName]]]:
        """The orders to erase that were carried out after entry `since`: id, why, and which recordings they meant."""
        found = (entry.body for entry in self._journal.of_kind("erasure", since))
        return [(body["id"], body["why"], [SegmentName(run, seq) for run, seq in body["segments"]]) for body in found]

    def empty(self, name: SegmentName) -> None:
        """Enter that a segment was begun but held nothing. Its file may go only after this."""
        with self.transaction():
            self._journal.append("empty", run=name.run, seq=name.seq)

    def forget_files(self, names: Iterable[SegmentName]) -> None:
        """Cache that these files are gone (they were settled or acknowledged before)."""
        with self.transaction():
            self._db.executemany(
                "UPDATE segments SET present = 0 WHERE run = ? AND seq = ?", [(name.run, name.seq) for name in names]
            )

    def recall_files(self, name: SegmentName) -> None:
        """Cache that the files of a segment are here after all."""
        with self.transaction():
            self._db.execute("UPDATE segments SET present = 1 WHERE run = ? AND seq = ?", (name.run, name.seq))

    def note(self, kind: NoteKind, body: Mapping[str, Any]) -> None:
        """Enter what people wanted of the kiosk: a command that was obeyed, with its key and hash, or a press."""
        with self.transaction():
            self._journal.append(kind, **body)

    # What the recorder writes when it records in memory (agent.recorder.homecoming).

    def went_direct(self, cause: str, cut: tuple[SegmentName, int] | None) -> None:
        """Enter, in the ledger in memory, why it is used; of a segment on the card only so many frames count."""
        body: dict[str, object] = {"cause": cause}
        if cut is not None:
            name, frames = cut
            body |= {"run": name.run, "seq": name.seq, "frames": frames}
        with self.transaction():
            self._journal.append("direct", **body)

    def cuts(self) -> dict[SegmentName, int]:
        """Segments on the card of which only so many frames count."""
        found = (entry.body for entry in self._journal.of_kind("direct") if "frames" in entry.body)
        return {SegmentName(body["run"], body["seq"]): body["frames"] for body in found}

    def came_home(self, epoch: str, until: int, counters: dict[str, float]) -> None:
        """Enter that another ledger's journal was taken over up to sequence number `until`, with what it counted."""
        with self.transaction():
            self._journal.append("merged", epoch=epoch, until=until, counters=counters)

    def home_until(self, epoch: str) -> tuple[int, dict[str, float]]:
        """Up to where another ledger's journal was taken over before, and what it had counted; 0 and {} if never."""
        last = self._journal.last_of_kind("merged")
        return (last.body["until"], last.body["counters"]) if last and last.body["epoch"] == epoch else (0, {})

    def went_home(self, counters: dict[str, float]) -> None:
        """Enter, in the ledger in memory, that the card's ledger has taken over what was counted so far."""
        with self.transaction():
            self._journal.append("home", counters=counters)

    def forget_told(self, until: int) -> None:
        """Let go, in the ledger in memory, of what another one tells up to entry `until`: memory is small.

        Its journal begins with the next entry then; what is here, and where time stands, stays.
        """
        with self.transaction():
            untold = {(entry.body["run"], entry.body["seq"]) for entry in self.entries(until) if entry.kind == "sealed"}
            gone = self._db.execute("SELECT id, run, seq FROM segments WHERE NOT present ORDER BY id").fetchall()
            newest = self._db.execute("SELECT max(id) FROM segments").fetchone()[0]
            self._db.executemany(
                "DELETE FROM segments WHERE id = ?",
                [(number,) for number, run, seq in gone if number != newest and (run, seq) not in untold],
            )
            self._db.execute("DELETE FROM gaps WHERE id < (SELECT max(id) FROM gaps)")
            self._db.execute("DELETE FROM journal WHERE seq <= ? AND seq < (SELECT max(seq) FROM journal)", (until,))

    def home_base(self) -> dict[str, float]:
        """What was counted here and is counted on the card since; {} in the card's own ledger."""
        last = self._journal.last_of_kind("home")
        return last.body["counters"] if last else {}

    # What the courier writes.

    def fix_key(self, name: SegmentName, key: str, clock: ClockState, *, pending: bool = False) -> bool:
        """Fix the object key of a segment, before the first attempt and for ever. A key that is there stays.

        False: none was fixed now. With `pending` none is for one that was erased or given up meanwhile.
        """
        with self.transaction():
            changed = self._db.execute(
                "UPDATE segments SET key = ?, key_clock = ? WHERE run = ? AND seq = ? AND key IS NULL "
                "AND (state = 'pending' OR NOT ?)",
                (key, clock, name.run, name.seq, pending),
            )
            if changed.rowcount:
                self._journal.append("keyed", run=name.run, seq=name.seq, key=key, clock=clock)
            return bool(changed.rowcount)

    def acknowledge(self, name: SegmentName, how: str) -> None:
        """Enter that the store verifiably holds this segment. Also of one evicted; what was erased stays so."""
        with self.transaction():
            self._journal.append("acknowledged", run=name.run, seq=name.seq, how=how)
            self._db.execute(
                "UPDATE segments SET state = 'acknowledged', reason = ?, settled_ns = ? "
                "WHERE run = ? AND seq = ? AND state != 'erased'",
                (how, self.now_ns(), name.run, name.seq),
            )

    def manifested(self, stretch: Stretch, key: str, sha256: str) -> None:
        """Enter that the store verifiably holds the manifest of a stretch of this journal, or of an earlier one."""
        with self.transaction():
            self._journal.append(
                "manifest", epoch=stretch.epoch, first=stretch.first, last=stretch.last, key=key, sha256=sha256
            )

    def entombed(self, order: str, key: str, sha256: str) -> None:
        """Enter that the store verifiably holds the tombstone of an order to erase."""
        with self.transaction():
            self._journal.append("tombstone", id=order, key=key, sha256=sha256)

    def tombstones(self, since: int = 0) -> set[str]:
        """The orders to erase whose tombstones the store took, entered after `since`."""
        return {entry.body["id"] for entry in self._journal.of_kind("tombstone", since)}

    def prune(self, until: int) -> None:
        """Let go of the journal up to an entry, and of what it told and isn't here any more. A checkpoint stays."""
        with self.transaction():
            gone = [entry for entry in self.entries(until=until) if entry.kind in ("sealed", "gap")]
            self._journal.prune(until)
            self._db.executemany(
                "DELETE FROM segments WHERE run = ? AND seq = ? "
                "AND NOT present AND id < (SELECT max(id) FROM segments)",
                [(entry.body["run"], entry.body["seq"]) for entry in gone if entry.kind == "sealed"],
            )
            self._db.execute(
                "DELETE FROM gaps WHERE id < (SELECT max(id) FROM gaps) "
                "AND id IN (SELECT id FROM gaps ORDER BY id LIMIT ?)",
                (sum(entry.kind == "gap" for entry in gone),),
            )

    # What both count.

    def count(self, **increments: float) -> None:
        """Add to the counters that survive restarts."""
        with self.transaction():
            self._db.executemany(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                [(name, value) for name, value in increments.items() if value],
            )


def _expect(truth: bool, otherwise: str) -> None:  # noqa: FBT001 (reads as an assertion)
    if not truth:
        raise ValueError(otherwise)
