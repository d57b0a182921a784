"""A writer: ring to card, and the account of all the time.

A run is gap-free audio. Any break ends the run and its segment; the next block begins another run, after a gap that
says why and how long.

A writer serves one spool. When the card fails it raises CardFailed and is done: whoever comes next goes on with what
wasn't durable, at the very frame. When the card is stuck, another writer takes over and this one finishes what it has
whenever the card lets it (agent.recorder.paths).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from agent.ledger import Gap, GapReason, Ledger
from agent.recorder.encryption import Recipients
from agent.recorder.intake import Intake
from agent.recorder.ring import Break, Ring, TakenOver
from agent.recorder.root import Root
from agent.recorder.run import Run, Shelf
from agent.recorder.silence import Silence
from agent.recorder.succession import CARD_ERRORS, Accounted, CardFailed, Succession
from agent.recorder.vitals import Vitals
from agent.recorder.voice import VoiceGate
from agent.units import NS_PER_S
from hw.alsa import Block
from hw.clock import Clock

log = logging.getLogger(__name__)

_TIDY_NS: Final = 10 * NS_PER_S
"""While nothing is sealed, what was uploaded meanwhile is removed this often."""


class Writer:
    """Holds the ring from the beginning. One thread steps it; another may ask it to leave, or take over."""

    def __init__(
        self,
        root: Root,
        ring: Ring,
        clock: Clock,
        vitals: Vitals,
        recipients: Recipients,
        succession: Succession | None = None,
    ) -> None:
        """`succession` is what another writer left in this moment; without it the ledger says where time stands."""
        settings, ledger = root.settings, root.ledger
        left = succession or Succession(None)
        voice = settings.capture.mode == "voice"
        gate = (left.gate or VoiceGate(settings.voice, settings.capture.rate)) if voice else None
        self._shelf = Shelf(root, clock, recipients)
        self._ledger = ledger
        self._retention = root.retention
        self._clock = clock
        self._vitals = vitals
        self._scheduled = settings.capture.mode == "scheduled"
        self._silence = Silence(clock.boot, left.accounted or _known_to(ledger))
        self._owed = list(left.owed)
        self._intake = Intake(ring, settings.capture, gate, vitals)
        self._run: Run | None = None
        self._tidied_ns = 0
        self._handing_over = threading.Lock()
        self._surrendered: Accounted | None = None
        self._finishing = False
        self._leaving = False
        self.left = False
        """Whether it ended because it was asked to leave."""
        self.busy_since_s: float | None = None
        """Real time at which the present turn began; None while there is nothing to do."""
        vitals.storage = "listening" if voice else "recording"

    def step(self) -> bool:
        """One turn: a batch, or 2 s without one. False after the last, when the open segment is sealed.

        Raises CardFailed, and TakenOver when another writer holds the ring.
        """
        self.busy_since_s = None
        # Asked once: what is taken while somebody asks us to leave is ours to keep.
        leaving = self._leaving
        more = leaving or self._intake.take()
        self.busy_since_s = time.monotonic()
        try:
            if leaving:
                self._leave()
                return False
            if not more:
                self._finish()
                return False
            for item in self._intake:
                self._keep(item)
            self._pause_for_breath()
        except CARD_ERRORS as error:
            raise self.failed(error) from error
        return True

    def closed_before(self, wall_ns: int) -> bool:
        """Whether everything heard before then is sealed, or never will be; what is open is sealed for it.

        False while some of it is still on its way. Raises CARD_ERRORS.
        """
        if not self._intake.has_come_to(wall_ns - self._vitals.boot.offset_ns, self._clock.monotonic_ns()):
            return False
        if self._run is not None:
            self._run.seal()
        return True

    # One writer after the other.

    def failed(self, cause: Exception) -> CardFailed:
        """What to raise when the card failed. Everything that isn't durable is in the ring again."""
        accounted, again, cut = (self._silence.accounted, [], None) if self._run is None else self._run.abandon()
        if self._surrendered is None:
            self._intake.give_back(again)
        return CardFailed(cause, Succession(accounted, self._intake.gate, tuple(self._owed), cut))

    def leave(self) -> None:
        """From any thread: end with the next turn, which comes at once, for another writer to go on."""
        self._leaving = True
        self._intake.nudge()

    def succession(self) -> Succession:
        """What the next writer must know, after `leave`."""
        return Succession(self._accounted(), self._intake.gate, tuple(self._owed))

    def surrender(self) -> Succession | None:
        """From another thread, while this one is stuck: where the next writer begins, which already holds the ring.

        None when there is nothing to go on with: it has just left, or the process is ending anyway.
        """
        with self._handing_over:
            if self._finishing:
                return None
            # What is stuck here has no say any more in how the recorder is doing.
            self._vitals = self._intake.vitals = Vitals()
            accounted, newest = self._accounted(), self._intake.newest
            if newest is not None:
                at_ns, reason = (newest.ended_ns, None) if isinstance(newest, Block) else (newest.at_ns, newest.reason)
                accounted = Accounted(self._clock.boot, max(at_ns, accounted.end_ns if accounted else 0), reason)
            self._surrendered = accounted
            return Succession(accounted, self._intake.gate.successor() if self._intake.gate else None)

    def wind_up(self) -> None:
        """After TakenOver: finish what was taken, up to where the next writer began. Raises CARD_ERRORS."""
        until = self._surrendered
        if until is None:
            return
        if self._run is not None:
            self._run.end_ns = max(self._run.end_ns, until.end_ns)
            self._run.seal()
        self._enter(self._silence.checkpoint(until.end_ns, force=True))
        with self._ledger.transaction():
            self._retention.commit_removals()

    def _accounted(self) -> Accounted | None:
        if self._run is not None:
            return Accounted(self._clock.boot, self._run.end_ns, None)
        return self._silence.accounted

    # A run: from its first block to the break that ends it.

    def _keep(self, item: Block | Break) -> None:
        try:
            if isinstance(item, Break):
                self._heed(item)
            else:
                self._append(item)
        except CARD_ERRORS:
            if isinstance(item, Break) or self._run is None or not self._run.holds(item):
                self._intake.put_back(item)
            raise

    def _heed(self, item: Break) -> None:
        self._break(item.reason, item.at_ns)
        if item.reason == "overrun":
            self._ledger.count(overruns_total=1)

    def _append(self, block: Block) -> None:
        run = self._run or self._begin_run(block)
        if run is None:
            return
        if run.write(block):
            self._vitals.storage, self._vitals.storage_trouble = "recording", ""
        else:
            self._break("spool_full", run.end_ns)
            self._spool_full(run.end_ns)

    def _begin_run(self, block: Block) -> Run | None:
        begin_ns = self._silence.earliest_begin(block.ended_ns - block.frames * NS_PER_S // self._shelf.rate)
        if not self._shelf.has_room():
            self._spool_full(begin_ns)
            return None
        provisional = self._scheduled and not self._vitals.clock_trusted
        self._run = Run(self._shelf, begin_ns, self._vitals, provisional=provisional)
        self._vitals.run = self._run.id
        gaps = self._silence.end(begin_ns)
        self._enter(gaps, recordings_total=1, gap_count=len(gaps))
        return self._run

    def _break(self, reason: GapReason, at_ns: int) -> None:
        run = self._run
        if run is None:
            self._enter(self._silence.change(reason, at_ns))
            return
        run.seal()
        self._run = self._vitals.run = None
        self._silence.begin(reason, run.end_ns)

    def _spool_full(self, at_ns: int) -> None:
        self._enter(self._silence.change("spool_full", at_ns))
        if self._vitals.storage != "spool_full":
            log.error("spool is full: recording stops until there is room again")
        self._vitals.storage = "spool_full"
        self._vitals.storage_trouble = "spool is full\n  → upload what waits, or raise `spool.cap`"

    # Between batches.

    def _pause_for_breath(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._note_quiet()
        if self._run is not None:
            self._run.sync(now_ns)
        with self._handing_over:
            pieces = [] if self._surrendered else self._silence.checkpoint(now_ns)
        self._enter(pieces)
        if now_ns - self._tidied_ns >= _TIDY_NS and (self._run is None or self._run.between_segments):
            self._retention.tidy()
            self._tidied_ns = now_ns
        self._show(now_ns)

    def _note_quiet(self) -> None:
        """Nobody speaking is a reason of its own, also right after another one."""
        quiet_ns = self._intake.quiet_ns
        if quiet_ns is not None:
            self._vitals.storage = "listening"
            if self._silence.silent:
                self._enter(self._silence.change("voice", quiet_ns))

    def _enter(self, gaps: Iterable[Gap], **counted: float) -> None:
        """Enter gaps, counts and what was ordered together; what a failing card doesn't take is owed next time."""
        self._owed += gaps
        waiting = self._vitals.noted
        noted = tuple(waiting)
        if not (self._owed or counted or noted):
            return
        with self._ledger.transaction():
            for note in noted:
                self._ledger.note(note.kind, note.body)
            for gap in self._owed:
                self._ledger.gap(gap)
                if gap.previous_boot is None:
                    self._ledger.count(gap_seconds_total=(gap.end_ns - gap.begin_ns) / NS_PER_S)
            self._ledger.count(**counted)
        self._owed.clear()
        for note in noted:
            # Whoever took over while the card had this one stuck has entered it already.
            with suppress(ValueError):
                waiting.remove(note)

    def _leave(self) -> None:
        """What is open ends here; a gap that is open goes on with the next writer."""
        if self._run is not None:
            self._run.seal()
        self._enter(())
        with self._ledger.transaction():
            self._retention.commit_removals()
        with self._handing_over:
            if self._surrendered is not None:
                # The card had it stuck right here, and somebody goes on already.
                raise TakenOver
            self._finishing = self.left = True

    def _finish(self) -> None:
        """The process ends in good order: the time from here on is the gap `restart`."""
        with self._handing_over:
            self._finishing = True
        now_ns = self._clock.monotonic_ns()
        self._break("restart", now_ns)
        self._enter(self._silence.checkpoint(now_ns, force=True))
        with self._ledger.transaction():
            self._retention.commit_removals()
        self._show(now_ns)

    def _show(self, now_ns: int) -> None:
        vitals, run = self._vitals, self._run
        vitals.segment_seconds = run.open_seconds if run else 0.0
        vitals.open_bytes = run.open_bytes if run else 0
        vitals.used_bytes = self._retention.used + vitals.open_bytes
        vitals.written_ns = now_ns


def _known_to(ledger: Ledger) -> Accounted | None:
    last = ledger.last_end()
    return Accounted(*last) if last else None
