"""The writer thread: ring to card, and the account of what it holds.

A run is gap-free audio. Any break ends the run and its segment; the next block begins another run, after a gap that
says why and how long. Within a run segments follow each other without losing a sample.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterable
from typing import Final

import numpy as np

from agent.ledger import Gap, GapReason, Ledger
from agent.recorder.levels import measure
from agent.recorder.recovery import recover
from agent.recorder.retention import Retention
from agent.recorder.ring import Break, Ring
from agent.recorder.segment import SegmentWriter
from agent.recorder.silence import Silence
from agent.recorder.vitals import Vitals
from agent.recorder.voice import VoiceGate
from agent.settings import Settings
from agent.sidecar import Header
from agent.spool import Layout, SegmentName
from agent.units import NS_PER_S, Frames
from hw.alsa import Block
from hw.clock import Clock

log = logging.getLogger(__name__)

_BATCH_S: Final = 1.0
"""Audio is worked on in batches: few wake-ups and vectorised levels (docs/adr/0005)."""

_TIDY_NS: Final = 10 * NS_PER_S
"""While nothing is sealed, what was uploaded meanwhile is removed this often."""

_CARD_ERRORS: Final = (OSError, sqlite3.OperationalError)

_CARD_RETRY_NS: Final = 5 * NS_PER_S
"""After a card error: how long to leave it alone."""


class Writer:
    """Takes from the ring until it's closed. Everything in it belongs to the writer thread."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        ledger: Ledger,
        retention: Retention,
        ring: Ring,
        clock: Clock,
        vitals: Vitals,
    ) -> None:
        capture, spool = settings.capture, settings.spool
        self._layout = layout
        self._ledger = ledger
        self._retention = retention
        self._ring = ring
        self._clock = clock
        self._vitals = vitals
        self._rate = capture.rate
        self._channels = capture.channels
        self._scheduled = capture.mode == "scheduled"
        self._planned_frames = spool.segment_seconds * capture.rate
        self._sync_ns = round(spool.sync_seconds * NS_PER_S)
        self._gate = VoiceGate(settings.voice, capture.rate) if capture.mode == "voice" else None
        self._silence = Silence(clock.boot, ledger.last_end())
        self._owed: list[Gap] = []
        self._run: str | None = None
        self._next = SegmentName("", 0)
        """What the next segment of the current run is called."""
        self._segment: SegmentWriter | None = None
        self._end_ns = 0
        """Up to where the current run is accounted for."""
        self._provisional = False
        """Whether the current run began while the schedule couldn't be judged; it then stays so to its end."""
        self._synced_ns = 0
        self._tidied_ns = 0
        self._card_failed_ns: int | None = None
        vitals.storage = "recording" if self._gate is None else "listening"

    def step(self) -> bool:
        """One turn: a batch, or 2 s without one. False after the last, when the open segment is sealed."""
        taken = self._ring.take(round(self._rate * _BATCH_S), 2 * _BATCH_S)
        if taken is None:
            self._finish()
            return False
        for item in _joined(taken):
            try:
                self._hear(item)
            except _CARD_ERRORS as error:
                self._card_failed(error)
        try:
            self._pause_for_breath()
        except _CARD_ERRORS as error:
            self._card_failed(error)
        return True

    def _hear(self, item: Block | Break) -> None:
        if isinstance(item, Break):
            if self._gate is not None:
                self._gate.interrupted()
            if item.reason == "overrun":
                self._ledger.count(overruns_total=1)
            self._break(item.reason, item.at_ns)
            return
        samples = np.frombuffer(item.pcm, np.int16).reshape(-1, self._channels)
        self._vitals.levels = measure(samples)
        for passing in [item] if self._gate is None else self._gate.feed(item, samples):
            if isinstance(passing, Break):
                self._break(passing.reason, passing.at_ns)
            else:
                self._append(passing)
        if self._gate is not None and not self._gate.open:
            self._vitals.storage = "listening"
            if self._silence.silent:
                # Nobody speaking is a reason of its own, also right after another one.
                self._enter(self._silence.change("voice", item.ended_ns))

    # A run: from its first block to the break that ends it.

    def _append(self, block: Block) -> None:
        if self._run is None and not self._begin_run(block):
            return
        left = memoryview(block.pcm)
        frame_bytes = 2 * self._channels
        while left:
            segment = self._segment or self._begin_segment()
            if segment is None:
                self._break("spool_full", self._end_ns)
                return
            fitting = left[: segment.frames_missing * frame_bytes]
            segment.write(fitting)
            left = left[len(fitting) :]
            # Counted back from the block's end: a drifting crystal then never adds up to a wrong time.
            end_ns = block.ended_ns - len(left) // frame_bytes * NS_PER_S // self._rate
            self._end_ns = max(end_ns, self._end_ns)
            if not segment.frames_missing:
                self._seal()
        self._vitals.storage, self._vitals.storage_trouble = "recording", ""

    def _begin_run(self, block: Block) -> bool:
        begin_ns = self._silence.earliest_begin(block.ended_ns - block.frames * NS_PER_S // self._rate)
        if self._card_failed_ns is not None:
            if block.ended_ns - self._card_failed_ns < _CARD_RETRY_NS:
                return False
            recover(self._layout, self._ledger)
            self._retention.recount()
            self._card_failed_ns = None
        if not self._retention.make_room():
            self._spool_full(begin_ns)
            return False
        self._run = self._vitals.run = secrets.token_hex(6)
        self._next, self._end_ns = SegmentName(self._run, 0), begin_ns
        self._provisional = self._scheduled and not self._vitals.clock_trusted
        gaps = self._silence.end(begin_ns)
        self._enter(gaps, recordings_total=1, gap_count=len(gaps))
        return True

    def _begin_segment(self) -> SegmentWriter | None:
        """The next segment of the current run; None when there is no room for it."""
        if not self._retention.make_room():
            return None
        header = Header(
            name=self._next,
            boot=self._clock.boot,
            begin_ns=self._end_ns,
            wall_ns=self._clock.wall_ns() - (self._clock.monotonic_ns() - self._end_ns),
            clock="synchronised" if self._clock.synchronised() else "unsynchronised",
            rate=self._rate,
            channels=self._channels,
            planned_frames=self._planned_frames,
            provisional=self._provisional,
        )
        self._segment = SegmentWriter(self._layout, header)
        self._synced_ns = self._clock.monotonic_ns()
        return self._segment

    def _seal(self) -> None:
        """Files first, then the ledger, then whoever has to go."""
        segment = self._segment
        if segment is None:
            return
        sealed = segment.seal(end_ns=self._end_ns)
        self._next = SegmentName(self._next.run, self._next.seq + 1)
        with self._ledger.transaction():
            self._ledger.seal(sealed)
            self._ledger.count(segments_total=1, captured_seconds_total=sealed.seconds)
            self._retention.commit_removals()
        self._segment = None
        self._retention.note_sealed(sealed.bytes + sealed.meta_bytes)
        self._tidy()

    def _break(self, reason: GapReason, at_ns: int) -> None:
        if self._run is None:
            self._enter(self._silence.change(reason, at_ns))
            return
        self._seal()
        self._end_run(reason, self._end_ns)
        if reason == "spool_full":
            self._spool_full(at_ns)

    def _end_run(self, reason: GapReason, end_ns: int) -> None:
        self._run = self._vitals.run = None
        self._silence.begin(reason, end_ns)

    def _spool_full(self, at_ns: int) -> None:
        self._enter(self._silence.change("spool_full", at_ns))
        if self._vitals.storage != "spool_full":
            log.error("spool is full: recording stops until there is room again")
        self._vitals.storage = "spool_full"
        self._vitals.storage_trouble = "spool is full\n  → upload what waits, or raise `spool.cap`"

    def _card_failed(self, error: Exception) -> None:
        """The segment is left as it is: what was synced is recovered when the card answers again."""
        if self._card_failed_ns is None:
            log.error("card failed, recording is interrupted: %s", error)
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()
        if self._run is not None:
            self._end_run("disk_error", self._end_ns if segment is None else segment.durable_end_ns)
        self._card_failed_ns = self._clock.monotonic_ns()
        self._vitals.storage, self._vitals.storage_trouble = "disk_error", f"card failed: {error}"

    # Between batches.

    def _pause_for_breath(self) -> None:
        now_ns = self._clock.monotonic_ns()
        segment = self._segment
        if segment is not None and now_ns - self._synced_ns >= self._sync_ns:
            if segment.sync():
                self._vitals.sync_seconds.append((self._clock.monotonic_ns() - now_ns) / NS_PER_S)
            self._synced_ns = now_ns
        self._enter(self._silence.checkpoint(now_ns))
        if now_ns - self._tidied_ns >= _TIDY_NS and self._segment is None:
            self._tidy()
        self._show(now_ns)

    def _tidy(self) -> None:
        self._retention.tidy()
        self._tidied_ns = self._clock.monotonic_ns()

    def _enter(self, gaps: Iterable[Gap], **counted: float) -> None:
        """Enter gaps and counts together; gaps that a failing card doesn't take are still owed next time."""
        self._owed += gaps
        if not (self._owed or counted):
            return
        with self._ledger.transaction():
            for gap in self._owed:
                self._ledger.gap(gap)
                if gap.previous_boot is None:
                    self._ledger.count(gap_seconds_total=(gap.end_ns - gap.begin_ns) / NS_PER_S)
            self._ledger.count(**counted)
        self._owed.clear()

    def _finish(self) -> None:
        """The process ends in good order: the time from here on is the gap `restart`."""
        now_ns = self._clock.monotonic_ns()
        self._break("restart", now_ns)
        self._enter(self._silence.checkpoint(now_ns, force=True))
        with self._ledger.transaction():
            self._retention.commit_removals()
        self._show(now_ns)

    def _show(self, now_ns: int) -> None:
        vitals, segment = self._vitals, self._segment
        vitals.segment_seconds = segment.frames / self._rate if segment else 0.0
        vitals.open_bytes = segment.size if segment else 0
        vitals.used_bytes = self._retention.used + vitals.open_bytes
        vitals.written_ns = now_ns


def _joined(items: Iterable[Block | Break]) -> Iterable[Block | Break]:
    """The same in fewer, larger blocks: neighbours without a break between them become one."""
    waiting: list[Block] = []
    for item in items:
        if isinstance(item, Block):
            waiting.append(item)
            continue
        if waiting:
            yield _join(waiting)
            waiting = []
        yield item
    if waiting:
        yield _join(waiting)


def _join(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    frames = Frames(sum(block.frames for block in blocks))
    return Block(b"".join(block.pcm for block in blocks), frames, blocks[-1].ended_ns)
