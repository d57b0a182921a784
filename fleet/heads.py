"""Heads that an admin collected: what kiosks said over MQTT of where their journals stood.

A line each, as `kiosk-fleet heads` writes them: the topic, a blank, and telemetry as JSON, of which `ts` and
`custody_head` count. Lines that can't be read are passed over: who may publish could write some, had the lines been
collected as they came.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.contract.custody import Head
from agent.errors import KioskError
from fleet import roster
from fleet.broker import Line


@dataclass(frozen=True, slots=True)
class Seen:
    """One head, whose it is and when it was said."""

    site: str
    device: str
    said: str
    head: Head


def read(lines: Iterable[str]) -> Iterator[Seen | None]:
    """The heads in such lines, None for each that isn't one; other topics are passed over."""
    for line in map(str.strip, lines):
        topic, _, payload = line.partition(" ")
        parts = topic.split("/")
        if line and not topic.startswith("kiosk/"):
            yield None
        elif len(parts) == 5 and parts[4] == "telemetry":
            try:
                yield from _head(parts[2], parts[3], payload)
            except (ValueError, KeyError, TypeError, RecursionError):
                yield None


def _head(site: str, device: str, payload: str) -> Iterator[Seen]:
    told = json.loads(payload)
    if told["custody_head"] is None:
        return
    head, said = Head.parse(told["custody_head"]), str(told.get("ts", ""))
    # JSON knows half characters, a database doesn't.
    said.encode()
    if head is None:
        raise ValueError("it isn't a head")
    yield Seen(site, device, said, head)


class Heads:
    """The heads of all kiosks that their keys vouch for, in a temporary database on disk. Close it; nothing stays."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2048;"
            "CREATE TABLE heads (device TEXT, epoch TEXT, seq INTEGER, digest TEXT, manifested INTEGER, said TEXT,"
            " PRIMARY KEY (device, epoch, seq, digest, manifested)) WITHOUT ROWID;"
            "CREATE TABLE strangers (device TEXT, said TEXT)"
        )
        self.unsigned = 0
        """Heads that nobody vouches for: they don't count."""

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    def add(self, seen: Seen, keys: Collection[str]) -> None:
        """Take in a head of a device that has these keys."""
        head, device = seen.head, f"{seen.site}/{seen.device}"
        if not head.signature:
            self.unsigned += 1
        elif any(head.is_of(seen.site, seen.device, key) for key in keys):
            told = (device, head.epoch, head.seq, head.digest, head.manifested, seen.said)
            self._db.execute("INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, ?, ?)", told)
        else:
            self._db.execute("INSERT INTO strangers VALUES (?, ?)", (device, seen.said))

    def of(self, device: str, epoch: str) -> Iterator[tuple[int, str, str]]:
        """Number, hash and time of what was said of an epoch's entries, in their order."""
        return self._db.execute(
            "SELECT seq, digest, said FROM heads WHERE device = ? AND epoch = ? ORDER BY seq", (device, epoch)
        )

    def manifested(self, device: str) -> dict[str, tuple[int, str]]:
        """By epoch up to which entry the store had manifests, and when that was said first."""
        rows = self._db.execute(
            "SELECT epoch, max(manifested), min(said) FROM heads h WHERE device = ?1 AND manifested = "
            "(SELECT max(manifested) FROM heads WHERE device = ?1 AND epoch = h.epoch) GROUP BY epoch",
            (device,),
        )
        return {epoch: (seq, said) for epoch, seq, said in rows}

    def newest(self, device: str, epoch: str) -> tuple[int, str] | None:
        """The last entry that was told of, and when."""
        row = self._db.execute(
            "SELECT max(seq), min(said) FROM heads WHERE device = ?1 AND epoch = ?2 AND seq = "
            "(SELECT max(seq) FROM heads WHERE device = ?1 AND epoch = ?2)",
            (device, epoch),
        ).fetchone()
        return None if row is None or row[0] is None else (int(row[0]), str(row[1]))

    def strangers(self, device: str) -> list[str]:
        """When somebody else's heads were said in a device's name; the first ten."""
        rows = self._db.execute("SELECT said FROM strangers WHERE device = ? ORDER BY said LIMIT 10", (device,))
        return [said for (said,) in rows]


def collect(line: Line, out: Path) -> int:
    """Append what the broker keeps of every kiosk to a file; how many heads. Raises KioskError."""
    lines = []
    for topic, payload in sorted(roster.gathered(line, ["telemetry"]).items()):
        if not topic.endswith("/telemetry"):
            continue
        try:
            told = json.loads(payload)
            kept = {"ts": told["ts"], "custody_head": told["custody_head"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if kept["custody_head"] is not None:
            lines.append(f"{topic} {json.dumps(kept)}\n")
    try:
        with out.open("a") as file:
            file.writelines(lines)
    except OSError as error:
        raise KioskError(
            "write heads", place=str(out), cause=error.strerror or str(error), hint="name another place by --out"
        ) from error
    return len(lines)
