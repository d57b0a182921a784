"""What manifests say of one device's recordings, in a temporary database on disk: however many, memory doesn't grow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from agent.units import NS_PER_S

Kind = Literal[
    "missing", "altered", "added", "reordered", "duplicated", "unsigned", "forged", "replayed", "rewritten", "erased"
]

KINDS: Final[dict[Kind, str]] = {
    "missing": "a recording or a manifest that was in the store isn't there",
    "altered": "a recording or a manifest isn't what was stored",
    "added": "no manifest knows it",
    "reordered": "it holds what belongs elsewhere",
    "duplicated": "a recording is there a second time, and no manifest knows why",
    "unsigned": "a manifest without a signature",
    "forged": "signed by a key that isn't enrolled for this device",
    "replayed": "a manifest under another one's name",
    "rewritten": "the journal is told in two ways",
    "erased": "it was erased and is still present",
}
"""What may be found, and what it means."""

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8192;
CREATE TABLE segments (
    run TEXT, seq INTEGER, bytes INTEGER, sha256 TEXT, seconds REAL, state TEXT, erased INTEGER DEFAULT 0,
    verified INTEGER DEFAULT 0, PRIMARY KEY (run, seq)) WITHOUT ROWID;
CREATE TABLE keys (
    key TEXT PRIMARY KEY, run TEXT, seq INTEGER, bytes INTEGER, sha256 TEXT, epoch TEXT, stored INTEGER DEFAULT 0,
    seen INTEGER DEFAULT 0) WITHOUT ROWID;
CREATE INDEX keys_of ON keys (run, seq);
CREATE INDEX keys_holding ON keys (sha256);
CREATE TABLE gaps (boot TEXT, previous TEXT, begin_ns INTEGER, end_ns INTEGER, reason TEXT);
CREATE TABLE boots (boot TEXT PRIMARY KEY, offset_ns INTEGER) WITHOUT ROWID;
CREATE TABLE findings (kind TEXT, place TEXT, text TEXT);
"""


@dataclass(frozen=True, slots=True)
class Expected:
    """One object that manifests name."""

    run: str
    seq: int
    bytes: int | None
    sha256: str | None
    """None where what tells its content is in a manifest that is missing."""
    erased: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: Kind
    place: str
    text: str


class Evidence:
    """Of one device. Close it; nothing stays."""

    def __init__(self) -> None:
        # An empty name is a file of SQLite's own that is gone when it's closed.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    # What the journal tells.

    def learn(self, epoch: str, kind: str, body: dict[str, Any]) -> None:
        """Take in one entry. Raises KeyError, TypeError or ValueError for one that isn't as its kind should be."""
        if kind in ("boot", "retimed"):
            self._db.execute("INSERT OR REPLACE INTO boots VALUES (?, ?)", (body["of"], int(body["offset_ns"])))
        elif kind == "sealed":
            self._seal(body)
        elif kind == "gap":
            self._db.execute(
                "INSERT INTO gaps VALUES (?, ?, ?, ?, ?)",
                (body["of"], body.get("previous"), int(body["begin_ns"]), int(body["end_ns"]), str(body["reason"])),
            )
        elif kind == "keyed":
            self._db.execute(
                "INSERT OR IGNORE INTO keys (key, run, seq, bytes, sha256, epoch) VALUES (?1, ?2, ?3, "
                "(SELECT bytes FROM segments WHERE run = ?2 AND seq = ?3), "
                "(SELECT sha256 FROM segments WHERE run = ?2 AND seq = ?3), ?4)",
                (body["key"], body["run"], body["seq"], epoch),
            )
        elif kind == "acknowledged":
            self._store(epoch, body["run"], body["seq"])
        elif kind == "erasure":
            for run, seq in body["segments"]:
                self.erase(run, seq)
        elif kind in ("evicted", "erased", "quarantined", "lost", "damaged"):
            self._db.execute(
                "UPDATE segments SET state = ?, erased = max(erased, ?) WHERE run = ? AND seq = ?",
                (kind, kind == "erased", body["run"], body["seq"]),
            )

    def erase(self, run: str, seq: int) -> None:
        """A recording was erased: it needn't, and mustn't, be there any more."""
        self._db.execute("UPDATE segments SET erased = 1, state = 'erased' WHERE run = ? AND seq = ?", (run, seq))

    def _seal(self, body: dict[str, Any]) -> None:
        told = (body["run"], body["seq"], int(body["bytes"]), str(body["sha256"]), body["frames"] / body["rate"])
        # A ledger that was lost and rebuilt, or memory's account come home, tells it again.
        self._db.execute(
            "INSERT INTO segments (run, seq, bytes, sha256, seconds, state) VALUES (?, ?, ?, ?, ?, 'pending') "
            "ON CONFLICT DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256, seconds = excluded.seconds",
            told,
        )

    def _store(self, epoch: str, run: str, seq: int) -> None:
        changed = self._db.execute(
            "UPDATE keys SET stored = 1 WHERE run = ? AND seq = ? AND epoch = ?", (run, seq, epoch)
        )
        if not changed.rowcount:
            self._db.execute("UPDATE keys SET stored = 1 WHERE run = ? AND seq = ?", (run, seq))
        self._db.execute(
            "UPDATE segments SET state = 'acknowledged' WHERE run = ? AND seq = ? AND NOT erased", (run, seq)
        )

    # What is asked of it.

    def expected(self, key: str) -> Expected | None:
        """What an object of this key should be."""
        row = self._db.execute(
            "SELECT run, seq, keys.bytes, keys.sha256, coalesce(erased, 0) FROM keys "
            "LEFT JOIN segments USING (run, seq) WHERE keys.key = ?",
            (key,),
        ).fetchone()
        return _expected(row)

    def named(self, run: str, seq: int) -> Expected | None:
        """What a recording is that may have no key yet."""
        row = self._db.execute(
            "SELECT run, seq, bytes, sha256, erased FROM segments WHERE run = ? AND seq = ?", (run, seq)
        ).fetchone()
        return _expected(row)

    def holding(self, sha256: str) -> str | None:
        """The key under which a content belongs."""
        row = self._db.execute("SELECT key FROM keys WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone()
        return None if row is None else str(row[0])

    def is_stored(self, run: str, seq: int) -> bool:
        """Whether a recording is known to be in the store, under any key."""
        found = self._db.execute("SELECT 1 FROM keys WHERE run = ? AND seq = ? AND stored", (run, seq)).fetchone()
        return found is not None

    def see(self, keys: Iterable[str]) -> None:
        """These objects are there, sound or not."""
        self._db.executemany("UPDATE keys SET seen = 1 WHERE key = ?", [(key,) for key in keys])

    def verify(self, names: Iterable[tuple[str, int]]) -> None:
        """The content of these recordings was found in the store."""
        self._db.executemany("UPDATE segments SET verified = 1 WHERE run = ? AND seq = ?", names)

    def find(self, kind: Kind, place: str, text: str) -> None:
        """Keep something that is wrong."""
        self._db.execute("INSERT INTO findings VALUES (?, ?, ?)", (kind, place, text))

    # What comes out.

    def stored(self) -> int:
        """How many objects should be there."""
        return int(self._db.execute("SELECT count(*) FROM keys WHERE stored").fetchone()[0])

    def miss(self) -> None:
        """Find what should be there and wasn't seen."""
        self._db.execute(
            "INSERT INTO findings SELECT 'missing', key, 'the store had it' FROM keys "
            "LEFT JOIN segments USING (run, seq) WHERE stored AND NOT seen AND NOT coalesce(erased, 0)"
        )

    def copies(self) -> int:
        """Recordings that are there under several keys of the journal's: a ledger was lost between them."""
        row = self._db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM keys WHERE seen GROUP BY run, seq HAVING count(*) > 1)"
        ).fetchone()
        return int(row[0])

    def verified(self) -> tuple[int, float]:
        """Recordings, and seconds of them, whose content was found in the store."""
        row = self._db.execute("SELECT count(*), total(seconds) FROM segments WHERE verified").fetchone()
        return int(row[0]), float(row[1])

    def otherwise(self) -> dict[str, tuple[int, float]]:
        """Recordings that aren't known to be in the store, and seconds of them, by what became of them."""
        rows = self._db.execute(
            "SELECT state, count(*), total(seconds) FROM segments WHERE state != 'acknowledged' AND NOT verified "
            "GROUP BY state ORDER BY state"
        )
        return {state: (count, seconds) for state, count, seconds in rows}

    def gaps(self) -> dict[str, tuple[int, float]]:
        """Intervals that weren't recorded, and seconds of them, by reason."""
        rows = self._db.execute(
            "SELECT reason, count(*), total(end_ns - begin_ns + CASE WHEN previous IS NULL THEN 0 ELSE "
            "coalesce((SELECT offset_ns FROM boots WHERE boot = gaps.boot), 0) - "
            "coalesce((SELECT offset_ns FROM boots WHERE boot = gaps.previous), 0) END) "
            "FROM gaps GROUP BY reason ORDER BY reason"
        )
        return {reason: (count, max(0.0, length_ns / NS_PER_S)) for reason, count, length_ns in rows}

    def findings(self, kind: Kind | None = None, limit: int = -1) -> Iterator[Finding]:
        """What is wrong."""
        rows = self._db.execute(
            "SELECT kind, place, text FROM findings WHERE ?1 IS NULL OR kind = ?1 LIMIT ?2", (kind, limit)
        )
        return (Finding(*row) for row in rows)

    def counted(self) -> dict[Kind, int]:
        """How many findings of each kind."""
        found: dict[Kind, int] = dict(
            self._db.execute("SELECT kind, count(*) FROM findings GROUP BY kind ORDER BY kind").fetchall()
        )
        return found


def _expected(row: tuple[Any, ...] | None) -> Expected | None:
    if row is None:
        return None
    run, seq, size, sha256, erased = row
    return Expected(run, seq, size, sha256, bool(erased))
