"""The journal: entries never change, each is chained to the one before by its hash. All else is derived from it.

`hash` = SHA-256(previous hash ‖ canonical JSON of [seq, epoch, at_ns, boot, mono_ns, kind, body]); the first entry
follows 32 zero bytes. Canonical: keys sorted, no blanks, UTF-8. The oldest may be pruned: then the first that is here
follows what the newest `checkpoint` tells.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent.contract.custody import GENESIS, canonical, link
from hw.clock import Clock

_LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry."""

    seq: int
    epoch: str
    at_ns: int
    boot: str
    mono_ns: int
    kind: str
    body: dict[str, Any]
    hash: bytes

    @property
    def content(self) -> list[Any]:
        """What is hashed of it."""
        return [self.seq, self.epoch, self.at_ns, self.boot, self.mono_ns, self.kind, self.body]


class Journal:
    """Appends to and reads the journal through one connection. Appending belongs inside a transaction."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._db = connection
        self._clock = clock

    def begin(self) -> None:
        """Enter the first entry of a new epoch, unless there is one."""
        if self.head()[0] == 0:
            self._enter(0, GENESIS, secrets.token_hex(6), "epoch", {})

    def append(self, kind: str, **body: object) -> None:
        """Enter something that happened now."""
        seq, previous = self.head()
        self._enter(seq, previous, self.epoch(), kind, body)

    def epoch(self) -> str:
        """The id of this custody epoch: it changes only when a ledger was lost."""
        row = self._db.execute("SELECT epoch FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        return str(row[0])

    def head(self) -> tuple[int, bytes]:
        """Sequence number and hash of the newest entry; zeros before the first."""
        row = self._db.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        return (0, GENESIS) if row is None else (int(row[0]), bytes(row[1]))

    def hash_of(self, seq: int) -> bytes | None:
        """The hash of an entry, also of the last one that was pruned, and of what the first one follows (0)."""
        row = self._db.execute("SELECT hash FROM journal WHERE seq = ?", (seq,)).fetchone()
        if row is not None:
            return bytes(row[0])
        pruned, digest = self._checkpoint()
        return digest if seq == pruned else None

    def prune(self, until: int) -> None:
        """Let go of the entries up to `until`, and enter what the next one follows. Never of the newest."""
        digest = self.hash_of(until)
        if digest is None or until >= self.head()[0]:
            raise ValueError(f"entry {until} can't be pruned")
        self.append("checkpoint", seq=until, hash=digest.hex())
        self._db.execute("DELETE FROM journal WHERE seq <= ?", (until,))

    def _checkpoint(self) -> tuple[int, bytes]:
        """Number and hash of the last entry that was pruned; of the beginning, if none was."""
        row = self._db.execute("SELECT min(seq) FROM journal").fetchone()
        last = self.last_of_kind("checkpoint") if row[0] not in (None, 1) else None
        return (last.body["seq"], bytes.fromhex(last.body["hash"])) if last else (0, GENESIS)

    def entries(self, since: int = 0, *, until: int | None = None) -> Iterator[Entry]:
        """The entries in order, from after sequence number `since`. Raises ValueError at one that can't be read."""
        return self._select("WHERE seq > ? AND seq <= ? ORDER BY seq", (since, _LAST if until is None else until))

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Entry]:
        for seq, epoch, at_ns, boot, mono_ns, kind, body, digest in self._rows(where, values):
            yield Entry(seq, epoch, at_ns, boot, mono_ns, kind, json.loads(body), digest)

    def of_kind(self, kind: str, since: int = 0) -> Iterator[Entry]:
        """The entries of one kind after `since`, in order. Reads all the journal from there: for rare questions."""
        return (entry for entry in self._select("WHERE kind = ? AND seq > ? ORDER BY seq", (kind, since)))

    def latest_of_kind(self, kind: str) -> Iterator[Entry]:
        """The entries of one kind, newest first. As `of_kind`, unless the wanted one is among the last ones."""
        return self._select("WHERE kind = ? ORDER BY seq DESC", (kind,))

    def last_of_kind(self, kind: str) -> Entry | None:
        """The newest entry of one kind."""
        return next(self.latest_of_kind(kind), None)

    def broken_link(self) -> int | None:
        """Sequence number of the first entry whose hash doesn't follow from the one before, or None."""
        return self.follow(None, -1)[1]

    def follow(self, after: tuple[int, bytes] | None, limit: int) -> tuple[tuple[int, bytes] | None, int | None]:
        """Follow at most `limit` links (-1: all) from after an entry, by its number and hash; None is the beginning.

        Where the beginning was pruned, that is the checkpoint.

        The last entry that follows from the one before, and the number of the first one that doesn't, if one was met.
        """
        reached = after
        last, previous = after or (0, GENESIS)
        expected = last + 1
        rows = self._rows("WHERE seq > ? ORDER BY seq LIMIT ?", (last, limit))
        for seq, epoch, at_ns, boot, mono_ns, kind, body, digest in rows:
            if expected != seq:
                # What was pruned since may be more than what was reached before.
                pruned, previous = self._checkpoint()
                if pruned != seq - 1 or reached is not after:
                    return reached, int(seq)
            try:
                follows = digest == _link(
                    previous, Entry(seq, epoch, at_ns, boot, mono_ns, kind, json.loads(body), digest)
                )
            except ValueError:
                follows = False
            if not follows:
                return reached, int(seq)
            previous, expected = digest, seq + 1
            reached = int(seq), bytes(digest)
        return reached, None

    def _rows(self, where: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        return self._db.execute(
            f"SELECT seq, epoch, at_ns, boot, mono_ns, kind, body, hash FROM journal {where}", values
        )

    def _enter(self, seq: int, previous: bytes, epoch: str, kind: str, body: dict[str, Any]) -> None:
        clock = self._clock
        entry = Entry(seq + 1, epoch, clock.wall_ns(), clock.boot, clock.monotonic_ns(), kind, body, b"")
        self._db.execute(
            "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.seq,
                entry.epoch,
                entry.at_ns,
                entry.boot,
                entry.mono_ns,
                entry.kind,
                canonical(entry.body),
                _link(previous, entry),
            ),
        )


def _link(previous: bytes, entry: Entry) -> bytes:
    return link(previous, entry.content)
