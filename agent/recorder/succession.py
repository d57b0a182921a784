"""What one writer leaves to the next: how far time is accounted for, and what holds from there on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agent.ledger import Gap, GapReason
from agent.recorder.voice import VoiceGate
from agent.spool import SegmentName

CARD_ERRORS: Final = (OSError, sqlite3.OperationalError)
"""What a failing card, or a full one, raises."""


@dataclass(frozen=True, slots=True)
class Accounted:
    """Up to `end_ns` on the clock of `boot` everything is in a ledger, or will be."""

    boot: str
    end_ns: int
    reason: GapReason | None = "restart"
    """Why nothing is recorded from there on; None: the next block of the ring follows without a gap."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A segment of which the first `frames` frames count: what came after is recorded again elsewhere."""

    name: SegmentName
    frames: int


@dataclass(frozen=True, slots=True)
class Succession:
    """Everything that the next writer must know."""

    accounted: Accounted | None
    """None: nothing is known beyond what the next writer's own ledger says."""
    gate: VoiceGate | None = None
    """Voice mode goes on as it was."""
    owed: Sequence[Gap] = field(default=())
    """Gaps that the previous ledger didn't take."""
    cut: Cut | None = None


class CardFailed(Exception):
    """The writer can't go on with this spool. What wasn't durable is in the ring again."""

    def __init__(self, cause: Exception | str, succession: Succession) -> None:
        super().__init__(str(cause))
        self.succession = succession
