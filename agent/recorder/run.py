"""One run on its way to the card: segment after segment without losing a sample.

What isn't durable yet stays in memory, so that another writer can go on at the very frame should the card fail.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from typing import Final

from agent.recorder.encryption import Recipients
from agent.recorder.replay import Replay
from agent.recorder.root import Root
from agent.recorder.segment import SegmentWriter
from agent.recorder.succession import Accounted, Cut
from agent.recorder.vitals import Vitals
from agent.sidecar import Header
from agent.spool import SegmentName
from agent.units import NS_PER_S
from hw.alsa import Block
from hw.clock import Clock

RUN_BYTES: Final = 6
"""Of randomness in the name of a run."""


class Shelf:
    """Where segments are put: one spool, its ledger, and who has to go for the next one."""

    def __init__(self, root: Root, clock: Clock, recipients: Recipients) -> None:
        settings = root.settings
        self.layout = root.layout
        self.ledger = root.ledger
        self.retention = root.retention
        self.recipients = recipients
        self.clock = clock
        self.rate = settings.capture.rate
        self.channels = settings.capture.channels
        self.planned_frames = settings.spool.segment_seconds * settings.capture.rate
        self.sync_ns = round(settings.spool.sync_seconds * NS_PER_S)
        self._stops_when_full = settings.spool.when_full == "stop"

    def has_room(self) -> bool:
        """Whether a segment fits, after whoever had to go has gone.

        Raises OSError when giving up recordings doesn't help: others have filled the card.
        """
        room = self.retention.make_room()
        if not room and not self._stops_when_full:
            raise OSError(errno.ENOSPC, "others have filled the card")
        return room


class Run:
    """Segments of one run. Every method that writes raises OSError or sqlite3.OperationalError when the card fails."""

    def __init__(self, shelf: Shelf, begin_ns: int, vitals: Vitals, *, provisional: bool) -> None:
        """`provisional`: begun while the schedule couldn't be judged; the run then stays so to its end."""
        self._shelf = shelf
        self._vitals = vitals
        self._provisional = provisional
        self.id = secrets.token_hex(RUN_BYTES)
        self._next = SegmentName(self.id, 0)
        self._segment: SegmentWriter | None = None
        self._sealed_frames = 0
        self._replay = Replay(shelf.rate, shelf.channels)
        self._synced_ns = 0
        self.end_ns = begin_ns
        """Up to where the run is accounted for."""

    def write(self, block: Block) -> bool:
        """Append a block. False when there is no room for all of it: then the run is over."""
        self._replay.add(block)
        left = memoryview(block.pcm)
        frame_bytes = 2 * self._shelf.channels
        while left:
            segment = self._segment or self._begin_segment()
            if segment is None:
                return False
            fitting = left[: segment.frames_missing * frame_bytes]
            segment.write(fitting)
            left = left[len(fitting) :]
            # Counted back from the block's end: a drifting crystal then never adds up to a wrong time.
            end_ns = block.ended_ns - len(left) // frame_bytes * NS_PER_S // self._shelf.rate
            self.end_ns = max(end_ns, self.end_ns)
            if not segment.frames_missing:
                self.seal()
        return True

    def holds(self, block: Block) -> bool:
        """Whether `left` tells of this block."""
        return self._replay.holds(block)

    def sync(self, now_ns: int) -> None:
        """Make durable what is ready, when that is due."""
        segment = self._segment
        if segment is None or now_ns - self._synced_ns < self._shelf.sync_ns:
            return
        if segment.sync():
            self._replay.durable(self._sealed_frames + segment.durable_frames)
            self._vitals.sync_seconds.append((self._shelf.clock.monotonic_ns() - now_ns) / NS_PER_S)
        self._synced_ns = now_ns

    def seal(self) -> None:
        """Finish the open segment: files first, then the ledger, then whoever has to go."""
        segment, shelf = self._segment, self._shelf
        if segment is None:
            return
        sealed = segment.seal(end_ns=self.end_ns)
        self._next = SegmentName(self.id, self._next.seq + 1)
        with shelf.ledger.transaction():
            shelf.ledger.seal(sealed)
            shelf.ledger.count(segments_total=1, captured_seconds_total=sealed.seconds)
            shelf.retention.commit_removals()
        self._segment = None
        self._sealed_frames += sealed.frames
        self._replay.durable(self._sealed_frames)
        shelf.retention.note_sealed(sealed.bytes + sealed.meta_bytes)
        shelf.retention.tidy()

    def abandon(self) -> tuple[Accounted, list[Block], Cut | None]:
        """The card failed. Up to where the run is durable, what follows, and what of the open segment counts.

        The open segment is left as it is: what was synced is recovered when the card answers again.
        """
        segment, self._segment = self._segment, None
        durable, end_ns, cut = self._sealed_frames, self.end_ns, None
        if segment is not None:
            with contextlib.suppress(OSError):
                segment.close()
            durable, end_ns = durable + segment.durable_frames, segment.durable_end_ns
            cut = Cut(segment.header.name, segment.durable_frames)
        begin, left = self._replay.after(durable)
        return Accounted(self._shelf.clock.boot, end_ns, None if begin == durable else "disk_error"), left, cut

    @property
    def open_seconds(self) -> float:
        """How much of the open segment is there."""
        return self._segment.frames / self._shelf.rate if self._segment else 0.0

    @property
    def open_bytes(self) -> int:
        """What the open segment takes on the card now."""
        return self._segment.size if self._segment else 0

    @property
    def between_segments(self) -> bool:
        """Whether no segment is open."""
        return self._segment is None

    def _begin_segment(self) -> SegmentWriter | None:
        shelf, clock = self._shelf, self._shelf.clock
        if not shelf.has_room():
            return None
        recipients = shelf.recipients.now
        header = Header(
            name=self._next,
            boot=clock.boot,
            begin_ns=self.end_ns,
            wall_ns=clock.wall_ns() - (clock.monotonic_ns() - self.end_ns),
            clock="synchronised" if clock.synchronised() else "unsynchronised",
            rate=shelf.rate,
            channels=shelf.channels,
            planned_frames=shelf.planned_frames,
            provisional=self._provisional,
            encrypted=bool(recipients),
        )
        self._segment = SegmentWriter(shelf.layout, header, recipients)
        self._synced_ns = clock.monotonic_ns()
        return self._segment
