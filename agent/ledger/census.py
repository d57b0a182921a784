"""What lies in a directory, held against the ledger.

The listing becomes a temporary table in RAM, so that a hundred thousand files cost a few megabytes and the comparison
is the database's work.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from agent.ledger.queries import Queries
from agent.ledger.records import Segment
from agent.spool import SegmentName

_TABLE = """
CREATE TEMP TABLE IF NOT EXISTS found (
    run TEXT NOT NULL, seq INTEGER NOT NULL, audio INTEGER NOT NULL, sidecar INTEGER NOT NULL,
    PRIMARY KEY (run, seq)) WITHOUT ROWID;
DELETE FROM found;
"""

_WITHOUT_AUDIO = "NOT EXISTS (SELECT 1 FROM found WHERE run = segments.run AND seq = segments.seq AND audio)"
_NOT_WHOLE = "NOT EXISTS (SELECT 1 FROM found WHERE run = segments.run AND seq = segments.seq AND audio AND sidecar)"


class Census:
    """The segments found in `sealed/`, by name; `audio` tells the recording itself from a lone sidecar."""

    def __init__(self, connection: sqlite3.Connection, found: Iterable[tuple[str, int, bool]]) -> None:
        self._db = connection
        self._queries = Queries(connection)
        connection.executescript(_TABLE)
        connection.execute("BEGIN")
        try:
            connection.executemany(
                "INSERT INTO found VALUES (?1, ?2, ?3, NOT ?3) ON CONFLICT DO UPDATE "
                "SET audio = audio OR excluded.audio, sidecar = sidecar OR excluded.sidecar",
                found,
            )
        finally:
            # Also when the listing failed: an open transaction would swallow every later one.
            connection.execute("COMMIT")

    def lost(self) -> list[Segment]:
        """Segments that wait for upload, but whose audio isn't there."""
        return list(self._queries.select(f"WHERE present AND state = 'pending' AND {_WITHOUT_AUDIO}"))

    def elsewhere(self) -> list[Segment]:
        """Segments that wait for upload, and should still be in another spool."""
        return list(self._queries.select(f"WHERE NOT present AND state = 'pending' AND {_WITHOUT_AUDIO}"))

    def settled(self) -> list[Segment]:
        """Segments thought to be here that have been given up, or uploaded and removed.

        Either file of an uploaded one tells of a removal when it is missing: a power cut may keep just one from going.
        """
        gone = f"state = 'acknowledged' AND {_NOT_WHOLE}"
        return list(self._queries.select(f"WHERE present AND (state NOT IN ('pending', 'acknowledged') OR ({gone}))"))

    def unlisted(self) -> list[SegmentName]:
        """Files that the ledger doesn't think are here: new to it, or settled and come back."""
        rows = self._db.execute(
            "SELECT run, seq FROM found WHERE NOT EXISTS "
            "(SELECT 1 FROM segments WHERE run = found.run AND seq = found.seq AND present) ORDER BY run, seq"
        )
        return [SegmentName(run, seq) for run, seq in rows]

    def close(self) -> None:
        """Give the memory back."""
        self._db.execute("DROP TABLE found")
