"""What the ledger speaks of: segments, gaps, boots, and how it counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.spool import SegmentName

State = Literal["pending", "acknowledged", "damaged", "evicted", "quarantined", "lost", "erased", "empty"]
"""`damaged`: the courier found the file unlike its entry; the recorder will set it aside as `quarantined`."""
ClockState = Literal["unsynchronised", "server", "synchronised"]
NoteKind = Literal["command", "button"]
"""What people wanted of the kiosk, and how they said it."""
GapReason = Literal[
    "overrun",
    "overflow",
    "unplugged",
    "schedule",
    "paused",
    "muted",
    "voice",
    "restart",
    "spool_full",
    "disk_error",
    "power_off",
]


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed segment: what it holds, where it is in time, and what became of it."""

    run: str
    seq: int
    boot: str
    begin_ns: int
    end_ns: int
    frames: int
    rate: int
    channels: int
    bytes: int
    meta_bytes: int
    sha256: str
    truncated: bool = False
    provisional: bool = False
    """Recorded in scheduled mode while the clock couldn't tell clinic hours: to be judged before it's uploaded."""
    state: State = "pending"
    present: bool = True
    key: str | None = None
    key_clock: ClockState | None = None
    settled_ns: int | None = None
    reason: str | None = None

    @property
    def name(self) -> SegmentName:
        """Its identity in the spool."""
        return SegmentName(self.run, self.seq)

    @property
    def seconds(self) -> float:
        """Length of the audio by its frame count."""
        return self.frames / self.rate


@dataclass(frozen=True, slots=True)
class Gap:
    """An interval that wasn't recorded.

    For `power_off`, `previous_boot` is set and `begin_ns` counts on that boot's clock, `end_ns` on `boot`'s.
    """

    boot: str
    begin_ns: int
    end_ns: int
    reason: GapReason
    previous_boot: str | None = None


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of the machine: wall time = `offset_ns` + monotonic time, as trustworthy as `clock` says."""

    boot: str
    offset_ns: int
    clock: ClockState


@dataclass(frozen=True, slots=True)
class Tally:
    """Segments in one state whose files are here: how many, how large (audio + sidecar), how long."""

    count: int = 0
    bytes: int = 0
    seconds: float = 0.0
