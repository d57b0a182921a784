"""The ledger: what was recorded, what wasn't and why, and what became of each recording.

`state/ledger.db` is SQLite in WAL mode with `synchronous=FULL`: when a transaction returns, it survives a power cut.

    journal   the truth. Entries never change and are chained: `hash` = SHA-256(previous hash ‖ canonical JSON of the
              entry); the oldest may be pruned
    boots     offset of each boot's monotonic clock to wall time, and how far that is to be trusted
    segments  one row a segment, derived from the journal; `present` caches whether its file is still here
    gaps      one row an interval that wasn't recorded, derived from the journal
    counters  totals that only grow

Both processes write here, each its own kinds of entry, in short transactions:

    recorder  epoch, boot, retimed, sealed, gap, evicted, quarantined, lost, erased, empty, erasure,
              command, button, direct, home, merged
    courier   retimed (from the store's clock), keyed, acknowledged, damaged, manifest,
              tombstone, checkpoint

A `Ledger` belongs to one thread. Times are nanoseconds on the monotonic clock of the named boot; wall time is
`boots.offset_ns` + that, so that repairing one offset re-times everything of its boot.
"""

from agent.ledger.database import SCHEMA_VERSION, LedgerDamaged, LedgerMissing, passing
from agent.ledger.journal import Entry
from agent.ledger.ledger import Ledger
from agent.ledger.queries import ALWAYS_NS
from agent.ledger.records import Boot, ClockState, Gap, GapReason, NoteKind, Segment, State, Tally

__all__ = [
    "ALWAYS_NS",
    "SCHEMA_VERSION",
    "Boot",
    "ClockState",
    "Entry",
    "Gap",
    "GapReason",
    "Ledger",
    "LedgerDamaged",
    "LedgerMissing",
    "NoteKind",
    "Segment",
    "State",
    "Tally",
    "passing",
]
