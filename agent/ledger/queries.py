"""What everybody may ask the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

from agent.ledger.records import Boot, Gap, Segment, State, Tally
from agent.spool import SegmentName

SEGMENT_COLUMNS: Final = ", ".join(Segment.__slots__)
"""The columns of `segments` are the fields of `Segment`, by name."""

ALWAYS_NS: Final = -(2**63)
"""Before everything."""

_RECENT: Final = 50_000
"""A month of minutes: whoever hasn't uploaded for that long hears "never"."""


class Queries:
    """Reads through one connection. Iterators hold a read transaction while they last: don't linger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def counters(self) -> dict[str, float]:
        """Every counter by name."""
        return dict(self._db.execute("SELECT name, value FROM counters"))

    def boots(self) -> list[Boot]:
        """Every boot, oldest first."""
        return [Boot(*row) for row in self._db.execute("SELECT boot, offset_ns, clock FROM boots ORDER BY ordinal")]

    def offsets(self) -> dict[str, int]:
        """Wall time of each boot less its monotonic time, in nanoseconds."""
        return dict(self._db.execute("SELECT boot, offset_ns FROM boots"))

    def gaps(self) -> list[Gap]:
        """Every interval that wasn't recorded, in the order of entry."""
        rows = self._db.execute("SELECT boot, begin_ns, end_ns, reason, previous_boot FROM gaps ORDER BY id")
        return [Gap(*row) for row in rows]

    def segment(self, name: SegmentName) -> Segment | None:
        """One segment, or None."""
        found = self.select("WHERE run = ? AND seq = ?", (name.run, name.seq))
        return next(found, None)

    def segments(self) -> Iterator[Segment]:
        """Every segment ever sealed, oldest first."""
        return self.select("ORDER BY id", ())

    def newest(self, limit: int = 1) -> Iterator[Segment]:
        """The segments that were sealed last, whatever became of them, newest first."""
        return self.select("ORDER BY id DESC LIMIT ?", (limit,))

    def kept(self, state: State | None = None, *, limit: int = -1, newest: bool = False) -> Iterator[Segment]:
        """Segments whose files are here, in one state or in any, oldest (or newest) first."""
        order = "DESC" if newest else "ASC"
        chosen, values = ("", ()) if state is None else ("AND state = ?", (state,))
        return self.select(f"WHERE present {chosen} ORDER BY id {order} LIMIT ?", (*values, limit))

    def uploaded_by(self, settled_ns: int, *, after_ns: int = ALWAYS_NS) -> Iterator[Segment]:
        """Segments here that were acknowledged at or before a wall time, and after another, oldest first."""
        return self.select(
            "WHERE present AND state = 'acknowledged' AND settled_ns <= ? AND settled_ns > ? ORDER BY id",
            (settled_ns, after_ns),
        )

    def pending_until(self, boot: str, end_ns: int, *, after_ns: int = ALWAYS_NS) -> Iterator[Segment]:
        """Segments of `boot` here that wait for upload and ended at or before `end_ns` and after another moment."""
        return self.select(
            "WHERE present AND state = 'pending' AND boot = ? AND end_ns <= ? AND end_ns > ? ORDER BY id",
            (boot, end_ns, after_ns),
        )

    def provisional(self) -> Iterator[Segment]:
        """Segments here that wait to be judged by the schedule, oldest first."""
        return self.select("WHERE present AND state = 'pending' AND provisional AND key IS NULL ORDER BY id", ())

    def tally(self) -> dict[State, Tally]:
        """What is here, by state."""
        rows = self._db.execute(
            "SELECT state, count(*), sum(bytes + meta_bytes), sum(CAST(frames AS REAL) / rate) "
            "FROM segments WHERE present GROUP BY state"
        )
        return {state: Tally(count, size, seconds) for state, count, size, seconds in rows}

    def last_end(self) -> tuple[str, int] | None:
        """Boot and monotonic time up to which everything is accounted for, by segment or gap.

        Intervals are entered in order, so the newest segment and the newest gap suffice, however many there are.
        """
        row = self._db.execute(
            "SELECT t.boot, t.end_ns FROM ("
            "SELECT * FROM (SELECT boot, end_ns FROM segments ORDER BY id DESC LIMIT 1) UNION ALL "
            "SELECT * FROM (SELECT boot, end_ns FROM gaps ORDER BY id DESC LIMIT 1)) t "
            "JOIN boots b ON b.boot = t.boot ORDER BY b.ordinal DESC, t.end_ns DESC LIMIT 1"
        ).fetchone()
        return None if row is None else (str(row[0]), int(row[1]))

    def last_acknowledged_ns(self) -> int | None:
        """Wall time of the newest acknowledgement. Looks at the newest entries only: uploads are never far behind."""
        row = self._db.execute(
            "SELECT max(settled_ns) FROM (SELECT state, settled_ns FROM segments ORDER BY id DESC LIMIT ?) "
            "WHERE state = 'acknowledged'",
            (_RECENT,),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def change_mark(self) -> int:
        """A number that differs after another connection committed: a cheap way to notice news."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def select(self, where: str, values: tuple[object, ...] = ()) -> Iterator[Segment]:
        """Segments by the tail of an SQL statement; for the ledger's own modules."""
        for row in self._db.execute(f"SELECT {SEGMENT_COLUMNS} FROM segments {where}", values):
            fields = dict(zip(Segment.__slots__, row, strict=True))
            for flag in ("truncated", "provisional", "present"):
                fields[flag] = bool(fields[flag])
            yield Segment(**fields)
