"""What the recorder's threads tell each other about how they are doing.

Plain attributes, each written by one thread and read by the main thread, which turns them into a `RecorderStatus`
about once a second. Assignments of whole objects are atomic in Python; nothing here needs a lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from agent.contract.metrics import RecorderState
from agent.ledger import Boot, NoteKind
from agent.recorder.levels import Levels


@dataclass(frozen=True, slots=True, eq=False)
class Noted:
    """Something that people wanted of the kiosk, for the journal. Two that look the same are two."""

    kind: NoteKind
    body: dict[str, Any]


@dataclass(slots=True)
class Vitals:
    """Down to `drift_ppm` the capture thread's; everything else is the writer's, but for `noted`."""

    microphone: RecorderState = "starting"
    """What capture is doing: `recording`, `idle`, `paused`, `muted` or `waiting_for_microphone`."""
    trouble: str = ""
    """What keeps the microphone from being heard, for a person."""
    turned_ns: int | None = None
    """Monotonic time at which capture last began a turn, whatever came of it."""
    heard_ns: int | None = None
    """Monotonic time of the newest frame."""
    first_frame_ns: int | None = None
    drift_ppm: float | None = None

    storage: RecorderState = "starting"
    """What the writer is doing: `recording`, `listening`, `spool_full` or `disk_error`."""
    storage_trouble: str = ""
    written_ns: int | None = None
    """Monotonic time at which the writer last finished a turn."""
    levels: Levels | None = None
    run: str | None = None
    segment_seconds: float = 0.0
    open_bytes: int = 0
    used_bytes: int = 0
    sync_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    """How long the last syncs took."""
    boot: Boot = field(default_factory=lambda: Boot("", 0, "unsynchronised"))
    """What the ledger knows of this boot: its offset, and how far that is to be trusted."""

    noted: deque[Noted] = field(default_factory=deque)
    """What people wanted, by command and by the button. The main thread fills it, the writer enters it."""

    def wall_ns(self, monotonic_ns: int) -> int | None:
        """Wall time, by the ledger's offset: the machine's own clock may be wrong where the store's was found right.

        None while it can't be trusted.
        """
        return self.boot.offset_ns + monotonic_ns if self.clock_trusted else None

    @property
    def clock_trusted(self) -> bool:
        """Whether this boot's times can be told in hours and dates."""
        return self.boot.clock != "unsynchronised"
