"""The outbox: events that the broker hasn't acknowledged yet, in `state/outbox.db`.

    events   in the order in which they are to be told; `id` makes a repeat known
    state    the courier's own notes, by name: how far the ledger's journal has become events, and the like

SQLite in WAL mode with `synchronous=FULL`: what `write` did survives a power cut when it returns. Events go when the
broker has them, or, the oldest first, when there are more than `MOST` or the file would grow beyond `MOST_BYTES`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.ledger import passing
from hw.clock import Clock

MOST: Final = 50_000
"""A month of a kiosk with thirty alerts an hour that flap."""
MOST_BYTES: Final = 24 << 20
"""Of the 256 MiB that `state/` may take; with what SQLite keeps beside it never above 32 MiB."""
_GIVEN_UP: Final = 500
"""How many go at once when there are too many: a loss is told once for all of them."""

_APPLICATION: Final = 0x6B726F62
_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE events (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at_ns INTEGER NOT NULL, name TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_PAGE_BYTES: Final = 1024
_CACHE_KIB: Final = 256
_WAL_PAGES: Final = 256
_BUSY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Happening:
    """One event."""

    key: str
    wall_ns: int
    name: str
    facts: Mapping[str, Any]
    n: int = 0
    """Its number in the outbox; 0 while it isn't there."""


def happened(name: str, facts: Mapping[str, Any], clock: Clock) -> Happening:
    """An event of this moment."""
    return Happening(secrets.token_hex(8), clock.wall_ns(), name, facts)


def lost(reason: str, count: int | None, clock: Clock) -> Happening:
    """The event of events that nobody will be told of; None: nobody knows how many."""
    return happened("events_lost", {"reason": reason, "count": count}, clock)


class OutboxDamagedError(Exception):
    """The file is damaged, another program's or a newer release's."""


class Outbox:
    """One thread's connection. Raises sqlite3.Error when the card can't take or tell something now."""

    def __init__(self, path: Path, above: int = 0, *, check: bool = True) -> None:
        """Open or make it, and `check` all of it; new events get numbers `above` that.

        Raises OutboxDamagedError, sqlite3.Error.
        """
        self._path = path
        self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            with _damage_told():
                self._set_up(check=check)
                (newest,) = self._db.execute("SELECT coalesce(max(n), 0) FROM events").fetchone()
                self._newest: int = max(newest, above)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. What was written stays."""
        with suppress(sqlite3.Error):
            self._db.close()

    def state(self, name: str) -> str | None:
        """One of the courier's notes."""
        with _damage_told():
            row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def after(self, n: int, limit: int) -> list[Happening]:
        """The next events that follow number `n`. In place of one that can't be read stands that it is lost."""
        with _damage_told():
            rows = self._db.execute(
                "SELECT id, at_ns, name, facts, n FROM events WHERE n > ? ORDER BY n LIMIT ?", (n, limit)
            ).fetchall()
        return [Happening(key, at_ns, *_read(name, facts), number) for key, at_ns, name, facts, number in rows]

    def write(self, happenings: Sequence[Happening], notes: Mapping[str, str], *, told: int, handed: int) -> int:
        """Append events, take those up to number `told` out, keep notes: all of it durable on return, or nothing.

        When there are too many, the oldest beyond number `handed` go, and in their place one tells how many; that
        number is returned.
        """
        with _damage_told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("DELETE FROM events WHERE n <= ?", (told,))
                newest = self._append(happenings)
                self._db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", notes.items())
                lost = self._make_room(handed)
            except BaseException:
                # SQLite has already rolled back by itself when the card is full or fails.
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        self._newest = newest
        return lost

    def _append(self, happenings: Iterable[Happening]) -> int:
        # Numbers go on within a process although the table may be empty: what was handed out is below.
        newest = self._newest
        for each in happenings:
            facts = json.dumps(dict(each.facts), separators=(",", ":"))
            added = self._db.execute(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)",
                (newest + 1, each.key, each.wall_ns, each.name, facts),
            )
            newest += added.rowcount
        return newest

    def _make_room(self, handed: int) -> int:
        lost = 0
        while self._crowded():
            rows = self._db.execute(
                "SELECT n, at_ns, name, facts FROM events WHERE n > ? ORDER BY n LIMIT ?", (handed, _GIVEN_UP)
            ).fetchall()
            if len(rows) <= 1:
                break
            lost = sum(_weight(name, facts) for _, _, name, facts in rows)
            last, at_ns = rows[-1][:2]
            self._db.execute("DELETE FROM events WHERE n BETWEEN ? AND ?", (rows[0][0], last))
            told = json.dumps({"reason": "outbox_full", "count": lost})
            self._db.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?)", (last, secrets.token_hex(8), at_ns, "events_lost", told)
            )
        return lost

    def _crowded(self) -> bool:
        count = self._db.execute("SELECT count(*) FROM events").fetchone()[0]
        pages, free = (self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        return bool(count > MOST or (pages - free) * _PAGE_BYTES > MOST_BYTES)

    def _set_up(self, *, check: bool) -> None:
        execute = self._db.execute
        fresh = not execute("PRAGMA schema_version").fetchone()[0]
        if fresh:
            execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            execute(f"PRAGMA application_id = {_APPLICATION}")
        elif execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise OutboxDamagedError("it is another program's")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA temp_store = MEMORY")
        execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        if execute("PRAGMA user_version").fetchone()[0] > _SCHEMA_VERSION:
            raise OutboxDamagedError("a newer release wrote it")
        if fresh:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT")
        found = execute("PRAGMA integrity_check(1)").fetchone()[0] if check else "ok"
        if found != "ok":
            raise OutboxDamagedError(found)


def _read(name: str, facts: str) -> tuple[str, Mapping[str, Any]]:
    try:
        return name, dict(json.loads(facts))
    except (ValueError, TypeError):
        return "events_lost", {"reason": "outbox_damaged", "count": 1}


def _weight(name: str, facts: str) -> int:
    """How many events are lost with this one."""
    return int(_read(name, facts)[1].get("count") or 1) if name == "events_lost" else 1


def set_aside(path: Path) -> None:
    """Keep a damaged outbox beside, in place of an earlier one. Raises OSError."""
    # The log first: a new database must never find the old one's.
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(path.with_suffix(f".damaged{suffix}"))


@contextmanager
def _damage_told() -> Iterator[None]:
    """Tell a file that is to blame from a card that can't now."""
    try:
        yield
    except sqlite3.ProgrammingError:
        # Our own mistake is nobody's damage.
        raise
    except sqlite3.Error as error:
        if not passing(error):
            raise OutboxDamagedError(str(error)) from error
        raise
    except ValueError as error:
        raise OutboxDamagedError(str(error)) from error
