"""What a spool holds and has counted, at one moment.

The card may be stuck in the kernel, and whoever reads it with it. So the card's stock is taken by a thread of its own,
and whoever needs it goes on with the last one when the card doesn't answer.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.contract.custody import Head
from agent.courier.chain import Chain, Custody
from agent.errors import KioskError
from agent.ledger import Ledger, Tally
from agent.spool import Layout, files_below
from agent.units import NS_PER_S
from hw.clock import Clock
from hw.storage import Storage, read_storage

log = logging.getLogger(__name__)

_PATIENCE_S: Final = 3.0
"""How long to wait for the card before its last stock must do."""

STOCK_ERRORS: Final = (OSError, sqlite3.DatabaseError, KioskError)
"""What reading a spool raises when it isn't there or fails."""


@dataclass(frozen=True, slots=True)
class Stock:
    """One spool at one moment."""

    epoch: str
    """Whose counters these are: another one's begin anew."""
    head: Head
    """The newest entry of its journal."""
    counters: Mapping[str, float]
    pending: Tally
    acknowledged: Tally
    oldest_pending_s: float | None
    offset_ns: int
    """Wall time by what the ledger knows of this boot, less monotonic time."""
    quarantine_bytes: int
    storage: Storage
    """What the spool lies on."""
    custody: Custody | None = None
    """How far the journal is to be trusted; None where nobody looked."""


def take_stock(layout: Layout, clock: Clock, chain: Chain | None = None, *, direct: bool = False) -> Stock:
    """Of the spool on the card, or of the `direct` one without what the card has taken over.

    A `chain` is followed by the way. Raises OSError, sqlite3.DatabaseError or KioskError when there is no spool, or
    when it can't be read.
    """
    with Ledger(layout.ledger, clock, read_only=True) as ledger:
        custody = chain.follow(ledger, layout) if chain is not None else None
        return _stock(layout, ledger, clock, ledger.home_base() if direct else {}, custody)


def _stock(layout: Layout, ledger: Ledger, clock: Clock, home: Mapping[str, float], custody: Custody | None) -> Stock:
    tally = ledger.tally()
    epoch, (seq, digest) = ledger.epoch(), ledger.head()
    return Stock(
        epoch=epoch,
        head=Head(epoch, seq, digest.hex()),
        counters={name: value - home.get(name, 0) for name, value in ledger.counters().items()},
        pending=tally.get("pending", Tally()),
        acknowledged=tally.get("acknowledged", Tally()),
        oldest_pending_s=_oldest_pending_s(ledger, clock),
        offset_ns=ledger.now_ns() - clock.monotonic_ns(),
        quarantine_bytes=_directory_bytes(layout.quarantine),
        storage=read_storage(layout.spool),
        custody=custody,
    )


def stock_in_memory(layout: Layout, clock: Clock) -> Stock | None:
    """Of the direct path's spool; None when there is none. Memory is never stuck."""
    try:
        return take_stock(layout, clock, direct=True) if layout.ledger.exists() else None
    except STOCK_ERRORS as error:
        log.debug("no stock of what is in memory: %s", error)
        return None


class Stocktaker:
    """Takes stock of the card in a thread of its own, `run`, each time somebody asks."""

    def __init__(self, layout: Layout, clock: Clock, stop: threading.Event) -> None:
        self._layout = layout
        self._clock = clock
        self._stop = stop
        self._asked = threading.Event()
        self._answered = threading.Event()
        self._latest: Stock | None = None
        self._chain = Chain()

    def ask(self) -> Stock | None:
        """The stock now; the last one if the card doesn't answer soon; None if there never was one."""
        self._answered.clear()
        self._asked.set()
        self._answered.wait(_PATIENCE_S)
        return self._latest

    def wake(self) -> None:
        """Have `run` notice that the process ends."""
        self._asked.set()

    def run(self) -> None:
        """Until the process ends."""
        while not self._stop.is_set():
            self._asked.wait()
            self._asked.clear()
            try:
                self._latest = take_stock(self._layout, self._clock, self._chain)
            except STOCK_ERRORS as error:
                log.debug("no stock of the card: %s", error)
                if self._latest is not None:
                    # What the kernel says of a card that fails is worth the most just then.
                    self._latest = replace(self._latest, storage=read_storage(self._layout.spool))
            self._answered.set()


def _directory_bytes(directory: Path) -> int:
    """Sum of the sizes of the files directly in `directory`."""
    total = 0
    for entry in files_below(directory):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _oldest_pending_s(ledger: Ledger, clock: Clock) -> float | None:
    oldest = next(ledger.kept("pending", limit=1), None)
    if oldest is None:
        return None
    if oldest.boot == clock.boot:
        age_ns = clock.monotonic_ns() - oldest.end_ns
    else:
        age_ns = ledger.now_ns() - ledger.offsets()[oldest.boot] - oldest.end_ns
    return round(max(0, age_ns) / NS_PER_S, 1)
