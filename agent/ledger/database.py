"""The database file: its schema, how it's opened, and transactions that survive a power cut."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.errors import KioskError

SCHEMA_VERSION: Final = 1
"""A release opens the ledger of the one before it, and brings it up to date; and that of the one after it, as it is, so
that a step back loses nothing. So a schema only ever adds: tables, and to segments, gaps and boots columns that have a
default; and no release enters into what an older one reads a value that it didn't know (docs/adr/0013)."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, epoch TEXT NOT NULL, at_ns INTEGER NOT NULL, boot TEXT NOT NULL,
    mono_ns INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS boots (
    ordinal INTEGER PRIMARY KEY, boot TEXT NOT NULL UNIQUE, offset_ns INTEGER NOT NULL, clock TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS segments (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, seq INTEGER NOT NULL, boot TEXT NOT NULL,
    begin_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, frames INTEGER NOT NULL, rate INTEGER NOT NULL,
    channels INTEGER NOT NULL, bytes INTEGER NOT NULL, meta_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    truncated INTEGER NOT NULL, provisional INTEGER NOT NULL, state TEXT NOT NULL,
    present INTEGER NOT NULL, key TEXT, key_clock TEXT, settled_ns INTEGER, reason TEXT, UNIQUE (run, seq));
CREATE INDEX IF NOT EXISTS segments_kept ON segments (state, id) WHERE present;
CREATE TABLE IF NOT EXISTS gaps (
    id INTEGER PRIMARY KEY, boot TEXT NOT NULL, previous_boot TEXT, begin_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""

_PAGE_BYTES: Final = 1024
"""A quarter of SQLite's default: a commit then costs the card 12 KB instead of 27 (measured, docs/adr/0004)."""

_CACHE_KIB: Final = 512
"""A quarter of SQLite's default: a process that runs for months must not grow with its ledger."""

_BUSY_S: Final = 10.0
"""How long to wait for the other process's transaction. They last milliseconds; a dying card may take seconds."""


_PASSING: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""What SQLite answers when it can't use a file now. Anything else is the file's own fault."""


class LedgerMissing(KioskError):
    """There is none, or one that was begun and never made."""


class LedgerDamaged(KioskError):
    """The database can't be understood; the recorder sets it aside and rebuilds (invariant 3)."""


class Database:
    """One thread's connection."""

    def __init__(self, path: Path, *, create: bool, read_only: bool) -> None:
        """Raises KioskError when the file isn't there, can't be used or is a newer release's, LedgerDamaged."""
        self.path = path
        self._read_only = read_only
        if not create:
            _refuse_without(path)
        with self.told_apart("open ledger"):
            if create:
                _share(path)
            self.connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            try:
                self._set_up(create=create, read_only=read_only)
            except BaseException:
                self.connection.close()
                raise

    def founded(self) -> None:
        """The first entry is made: last of all, because the courier takes the version for the sign to begin."""
        self.connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def check(self) -> None:
        """Raises LedgerDamaged when SQLite finds its own structures broken, or they aren't the ones made here."""
        with self.told_apart("check ledger"):
            # Not quick_check: that leaves out whether indexes tell what their tables do.
            found = self.connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise LedgerDamaged("check ledger", place=str(self.path), cause=found)
            self._check_writable()
            with closing(_example()) as example:
                sound = self._is_as_made(example)
            if not sound:
                raise LedgerDamaged("check ledger", place=str(self.path), cause="its tables aren't those of a ledger")

    def _check_writable(self) -> None:
        """A flipped bit in its header can make SQLite take it for read-only: then it is the file that is to blame."""
        if self._read_only:
            return
        self.connection.execute("BEGIN")
        try:
            # Taken back at once: nothing reaches the card.
            self.connection.execute(f"PRAGMA user_version = {self._version()}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY and os.access(self.path, os.W_OK):
                raise LedgerDamaged("check ledger", place=str(self.path), cause=str(error)) from error
            raise
        finally:
            self.connection.execute("ROLLBACK")

    def _is_as_made(self, example: sqlite3.Connection) -> bool:
        """Whether tables and indexes are those of the example; those of a newer release have as much at least."""
        if self._version() <= SCHEMA_VERSION:
            return _definitions(self.connection) == _definitions(example)
        return _columns(self.connection) >= _columns(example)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside becomes durable together at its end, or not at all. Nests into the outermost."""
        if self.connection.in_transaction:
            yield
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # SQLite has already rolled back by itself when the card is full or fails.
            with suppress(sqlite3.OperationalError):
                self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _set_up(self, *, create: bool, read_only: bool) -> None:
        if create:
            self.connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA temp_store = MEMORY")
        self.connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self.fresh = self._version() == 0
        self._check_version(create=create)
        if create and self._version() < SCHEMA_VERSION:
            self.connection.executescript(_SCHEMA)
            if not self.fresh:
                self.founded()
        # Read-only is asked of SQLite, not of the file: a WAL reader must be able to make the -shm file.
        if read_only:
            self.connection.execute("PRAGMA query_only = ON")

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def _check_version(self, *, create: bool) -> None:
        version = self._version()
        if version > SCHEMA_VERSION + 1:
            raise KioskError(
                "open ledger",
                place=str(self.path),
                cause=f"it was written by a newer release (schema {version}, this one knows {SCHEMA_VERSION})",
                hint="install the newer release again",
            )
        if version < SCHEMA_VERSION and not create:
            raise LedgerMissing(
                "open ledger",
                place=str(self.path),
                cause="the recorder is only just making it" if self.fresh else "the recorder has yet to update it",
                hint="try again in a moment",
                retryable=True,
            )

    @contextmanager
    def told_apart(self, operation: str) -> Iterator[None]:
        """A file that can't be used now (locked, read-only, failing card) isn't a damaged one."""
        try:
            yield
        except UnicodeDecodeError as error:
            # Python couldn't read what it was told, be it a value or SQLite's own complaint.
            raise LedgerDamaged(operation, place=str(self.path), cause=str(error)) from error
        except sqlite3.DatabaseError as error:
            if not passing(error):
                raise LedgerDamaged(operation, place=str(self.path), cause=str(error)) from error
            raise KioskError(
                operation,
                place=str(self.path),
                cause=str(error),
                hint="check that this user may write there and that the card is sound",
                retryable=True,
            ) from error


def passing(error: sqlite3.Error) -> bool:
    """Whether the same could succeed later: the database isn't to blame."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _PASSING


def _definitions(connection: sqlite3.Connection) -> set[str]:
    return {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}


def _columns(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Table, name and type of each."""
    every = "SELECT s.name, c.name, c.type FROM sqlite_schema s, pragma_table_info(s.name) c WHERE s.type = 'table'"
    return set(connection.execute(every))


def _example() -> sqlite3.Connection:
    """A ledger as it should be."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(_SCHEMA)
    return connection


def _share(path: Path) -> None:
    """Both processes write it: made here, because SQLite would let its group read only. -wal and -shm follow suit."""
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660))


def _refuse_without(path: Path) -> None:
    """Raises KioskError when there is no such file, or none that this user may know of."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LedgerMissing(
            "open ledger",
            place=str(path),
            cause="it does not exist",
            hint="the recorder makes it: is it running, and is `spool.path` right?",
            retryable=True,
        ) from error
    except OSError as error:
        raise KioskError(
            "open ledger",
            place=str(path),
            cause=error.strerror or str(error),
            hint="run this as root or as the kiosk's own user",
            retryable=not isinstance(error, PermissionError),
        ) from error
