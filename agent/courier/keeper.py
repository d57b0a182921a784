"""The keeper of events: moves what was noted to the card, makes events of the ledger's journal, hands out what waits.

The thread `outbox` steps it, and it alone waits for the card. What it writes in one step is one commit.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from agent.courier.history import UNREADABLE, Cursor, Portion, read_on
from agent.courier.outbox import Happening, Outbox, OutboxDamagedError, lost, set_aside
from agent.courier.tray import Tray
from agent.spool import Layout
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

OUTBOX: Final = "outbox.db"
_CURSOR: Final = "journal"
_BREATH_S: Final = 0.5
"""Commits are never closer: what is noted meanwhile goes with the next one."""
LOOK_S: Final = 10.0
"""How often the journal is looked at, and a card that failed is tried."""
_TOLD_ROWS: Final = 500
_TOLD_S: Final = 60.0
"""What the broker has is taken out with the next commit, or when it's so many, or after so long: a commit costs the
card as much as dozens of events."""
_UNTOLD_ENTRIES: Final = 1000
"""So many entries without an event may be read again after a restart: moving the cursor costs a commit, too."""


class Keeper:
    """Belongs to one thread."""

    def __init__(self, layout: Layout, tray: Tray, clock: Clock, stop: threading.Event) -> None:
        self._path = layout.state / OUTBOX
        self._ledger = layout.ledger
        self._tray = tray
        self._clock = clock
        self._stop = stop
        self._awake = threading.Event()
        self._outbox: Outbox | None = None
        self._cursor = Cursor()
        self._kept = self._cursor
        self._handed = 0
        self._taken_out = 0
        self._taken_out_ns = clock.monotonic_ns()
        self._looked_ns: int | None = None
        self._damaged = False
        self._failed = False
        self._wrote = False
        self._trouble = ""
        self.ready: Callable[[], None] = lambda: None
        """Called when there is something to tell."""

    def wake(self) -> None:
        """Something was noted, or the process ends."""
        self._awake.set()

    def run(self) -> None:
        """Until the process is asked to end; then once more, so that nothing is lost that was noted by then."""
        while not self._stop.is_set():
            self._awake.clear()
            rest_s = self.step()
            if self._wrote:
                self._clock.wait(self._stop, _BREATH_S)
            self._clock.wait(self._awake, rest_s)
        self.step(last=True)
        self.close()

    def close(self) -> None:
        """Let go of the card."""
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None

    def step(self, *, last: bool = False) -> float:
        """One round with the card; seconds until the next is due. `last`: leave nothing for later."""
        self._wrote = False
        self._tray.at_card(busy=True)
        try:
            return self._step(last=last)
        except OutboxDamagedError as error:
            return self._begin_anew(error)
        except (sqlite3.Error, OSError) as error:
            self._tell(f"events wait in memory, the card doesn't take them: {error}")
            self._hand_out(writable=False)
            # Whoever holds a file open keeps a card that failed from being put back.
            self.close()
            self._failed = True
            return LOOK_S
        finally:
            self._tray.at_card(busy=False)
            if self._tray.has_news:
                self.ready()

    def _step(self, *, last: bool) -> float:
        outbox = self._outbox or self._open()
        portion = Portion([], self._cursor) if last else self._read_journal()
        noted = self._tray.noted()
        happenings = [*self._losses(portion), *portion.happenings, *noted]
        told = self._tray.told
        if happenings or self._worth_a_commit(portion.cursor, told, last=last):
            lost = outbox.write(happenings, {_CURSOR: portion.cursor.dumped()}, told=told, handed=self._handed)
            self._tray.kept(noted)
            self._wrote = True
            self._kept, self._damaged = portion.cursor, False
            self._taken_out, self._taken_out_ns = told, self._clock.monotonic_ns()
            if lost:
                log.warning("%d events were given up: the broker is away for too long, or there are too many", lost)
        self._cursor = portion.cursor
        self._tell("")
        self._hand_out(writable=True)
        return 0.0 if portion.more else LOOK_S

    def _open(self) -> Outbox:
        # Not checked anew after each try with a full card: that reads all of it.
        outbox = Outbox(self._path, above=self._handed, check=not self._failed)
        self._outbox, self._failed = outbox, False
        self._cursor = self._kept = Cursor.loaded(outbox.state(_CURSOR))
        return outbox

    def _read_journal(self) -> Portion:
        now_ns = self._clock.monotonic_ns()
        if self._looked_ns is not None and now_ns - self._looked_ns < LOOK_S * NS_PER_S:
            return Portion([], self._cursor)
        try:
            portion = read_on(self._ledger, self._clock, self._cursor)
        except UNREADABLE as error:
            log.debug("the journal can't be read now: %s", error)
            portion = Portion([], self._cursor)
        self._looked_ns = None if portion.more else now_ns
        return portion

    def _losses(self, portion: Portion) -> list[Happening]:
        found: list[tuple[str, int | None]] = [("outbox_damaged", None)] if self._damaged else []
        if portion.gone:
            found.append(("journal_gone", portion.gone))
        return [lost(reason, count, self._clock) for reason, count in found]

    def _worth_a_commit(self, cursor: Cursor, told: int, *, last: bool) -> bool:
        """Whether what changed is worth what a commit costs the card, without an event that waits for it."""
        behind = told - self._taken_out
        if last:
            return behind > 0 or cursor != self._kept
        old = self._clock.monotonic_ns() - self._taken_out_ns > _TOLD_S * NS_PER_S
        return (
            behind >= _TOLD_ROWS
            or (behind > 0 and old)
            or cursor.epoch != self._kept.epoch
            or cursor.seq - self._kept.seq >= _UNTOLD_ENTRIES
        )

    def _hand_out(self, *, writable: bool) -> None:
        """Give out what the card holds next. One that can't be written any more may still be read."""
        found: list[Happening] = []
        room = self._tray.room()
        try:
            if self._outbox is not None and room > 0:
                found = self._outbox.after(self._handed, room)
        except (sqlite3.Error, OutboxDamagedError):
            if writable:
                raise
        if found:
            self._handed = found[-1].n
        self._tray.hand_out(found, past_card=not writable and not found and room > 0)

    def _begin_anew(self, error: OutboxDamagedError) -> float:
        """Set a damaged outbox aside. What was handed out of it is told all the same."""
        log.error("%s is damaged and is begun anew: %s", self._path, error)
        self.close()
        self._damaged = True
        self._cursor = self._kept = Cursor()
        self._looked_ns = None
        try:
            set_aside(self._path)
        except OSError as trouble:
            self._tell(f"can't set {self._path} aside, events wait in memory: {trouble}")
            self._hand_out(writable=False)
            return LOOK_S
        return 0.0

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            if trouble:
                log.warning("%s", trouble)
            else:
                log.info("events are kept on the card again")
            self._trouble = trouble
