"""What the courier remembers of commands: `state/commands.db`, durable.

commands   which counted, when they expire, and what became of them: none counts twice
standing   what stays in force, signed as it came, by its verb
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from agent.contract.commands import REMEMBERED_NS
from agent.ledger import passing

log = logging.getLogger(__name__)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS commands (
    id TEXT PRIMARY KEY, verb TEXT NOT NULL, expires_ns INTEGER NOT NULL, result TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS standing (verb TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID;
"""

_BUSY_S: Final = 5.0


class Book:
    """Belongs to one thread. What the card doesn't take is known until the process ends."""

    def __init__(self, path: Path) -> None:
        """Opens nothing yet."""
        self._path = path
        self._known: dict[str, str] = {}
        self._standing: dict[str, bytes] = {}
        self._told = False
        self.unfinished: Mapping[str, str] = {}
        """Commands that counted in an earlier process, of which nobody knows what became: verb by id."""

    def open(self) -> bool:
        """Learn what is written there. False when the card doesn't give it out now: ask again."""
        try:
            with closing(self._connect()) as database:
                self.unfinished = dict(database.execute("SELECT id, verb FROM commands WHERE result IS NULL"))
                self._known |= dict(database.execute("SELECT id, verb FROM commands"))
                self._standing = dict(database.execute("SELECT verb, payload FROM standing")) | self._standing
        except sqlite3.DatabaseError as error:
            if passing(error):
                log.log(logging.DEBUG if self._told else logging.WARNING, "can't read which commands came: %s", error)
                self._told = True
            else:
                log.error("%s is damaged and is begun anew: %s", self._path, error)  # noqa: TRY400 (it says enough)
                self._set_aside()
            return False
        return True

    def knows(self, name: str) -> bool:
        """Whether a command counted before."""
        return name in self._known

    def begin(self, name: str, verb: str, expires_ns: int, now_ns: int) -> None:
        """A command counts: from now on it doesn't any more."""
        self._known[name] = verb
        self._write(
            ("DELETE FROM commands WHERE expires_ns < ?", (now_ns - REMEMBERED_NS,)),
            ("INSERT OR IGNORE INTO commands VALUES (?, ?, ?, NULL)", (name, verb, expires_ns)),
        )

    def finish(self, name: str, result: Mapping[str, Any]) -> None:
        """What became of it."""
        self._write(("UPDATE commands SET result = ? WHERE id = ?", (json.dumps(result), name)))

    def standing(self, verb: str) -> bytes | None:
        """The payload that is in force for `verb`."""
        return self._standing.get(verb)

    def stand(self, verb: str, payload: bytes | None) -> bool:
        """Put one in force, or none; whether that survives the process."""
        self._standing.pop(verb, None)
        if payload is None:
            return self._write(("DELETE FROM standing WHERE verb = ?", (verb,)))
        self._standing[verb] = payload
        return self._write(("INSERT OR REPLACE INTO standing VALUES (?, ?)", (verb, payload)))

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> bool:
        try:
            with closing(self._connect()) as database:
                database.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    database.execute(statement, values)
                database.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            log.warning("the card doesn't take what was ordered, it's known until this process ends: %s", error)
            return False
        return True

    def _connect(self) -> sqlite3.Connection:
        """A connection for one errand: nothing is held open on a card that may fail, and commands are rare."""
        database = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
        try:
            # A rollback journal: one file less to keep, and durable for certain, at a few commands a day.
            database.execute("PRAGMA synchronous = EXTRA")
            database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _set_aside(self) -> None:
        try:
            self._path.replace(self._path.with_suffix(".damaged"))
        except OSError as error:
            log.warning("can't set %s aside: %s", self._path, error.strerror)


def standing_payload(path: Path, verb: str) -> bytes | None:
    """For whoever only looks: the payload in force for `verb`, None when there is none that can be read."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_BUSY_S)) as database:
            row = database.execute("SELECT payload FROM standing WHERE verb = ?", (verb,)).fetchone()
    except sqlite3.DatabaseError:
        return None
    return None if row is None else bytes(row[0])
