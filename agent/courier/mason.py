"""Tombstones: what was erased, told in the store, so that the fleet can remove there what the kiosk may not.

1. for each order that the journal says was carried out, a document, signed where the device has a key, becomes a
file in `state/custody/`, durable before the first attempt
2. it's uploaded as a recording is, the same bytes however often that takes
3. the journal says that the store has it; then the file goes
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from typing import Final

from agent.contract.custody import Tombstone, custody_prefix, is_tombstone_name
from agent.contract.keys import META_VERSION, timestamp
from agent.courier.pen import Pen
from agent.courier.targets import Outgoing
from agent.courier.worker import Worker
from agent.errors import KioskError
from agent.ledger import Ledger, LedgerMissing
from agent.settings import Settings
from agent.spool import Layout, SegmentName, files_below, replace_file, sync_directory
from hw.clock import Clock

log = logging.getLogger(__name__)

POLL_S: Final = 10.0


class Mason:
    """Belongs to one thread. Opens the ledger for one errand at a time: the recorder may begin another."""

    def __init__(self, settings: Settings, layout: Layout, prefix: str, worker: Worker, pen: Pen, clock: Clock) -> None:
        """`prefix` is the target's."""
        self._site, self._device = settings.device.site, settings.device.id
        self._layout = layout
        self._directory = layout.state / "custody"
        self._prefix = custody_prefix(prefix, self._site, self._device)
        self._worker = worker
        self._pen = pen
        self._clock = clock
        self._read = ("", 0)
        """Epoch, and up to which of its entries every order has its document."""
        self._told = False

    def run(self, stop: threading.Event) -> None:
        """Until the process ends."""
        while not stop.is_set():
            self._clock.wait(stop, 0 if self.step() else POLL_S)

    def step(self) -> bool:
        """Make what is missing, and bring one of those that wait. Whether there may be more to do at once."""
        try:
            with Ledger(self._layout.ledger, self._clock) as ledger:
                self._make(ledger)
            waiting = next(
                (entry.name for entry in files_below(self._directory) if is_tombstone_name(entry.name)), None
            )
            if waiting is None:
                return False
            if self._is_damaged(waiting):
                return True
            outgoing = self._outgoing(waiting)
            outcome, _ = self._worker.bring(outgoing)
            arrived = outcome in ("stored", "already_there")
            if arrived:
                with Ledger(self._layout.ledger, self._clock) as ledger:
                    ledger.entombed(_id_of(waiting), outgoing.key, outgoing.sha256)
                outgoing.path.unlink()
        except LedgerMissing:
            return False
        except (OSError, ValueError, sqlite3.DatabaseError, KioskError) as error:
            if not self._told:
                log.warning("tombstones wait: %s", error)
            self._told = True
            return False
        self._told = False
        return arrived

    def _is_damaged(self, name: str) -> bool:
        """Whether a document isn't what was signed; then it's gone, and the journal is read again from the start."""
        path = self._directory / name
        if self._pen.public is None or self._pen.wrote("tombstone", path.read_bytes()):
            return False
        log.error("%s is damaged and not uploaded; it is made anew", path)
        path.unlink()
        self._read = ("", 0)
        return True

    def _make(self, ledger: Ledger) -> None:
        epoch, head = ledger.epoch(), ledger.head()[0]
        since = self._read[1] if self._read[0] == epoch else 0
        if head == since:
            return
        done = ledger.tombstones(since)
        for order, why, names in ledger.erasures(since):
            if order not in done and not (self._directory / f"erase-{order}.json").exists():
                self._keep(self._tombstone(ledger, order, why, names))
        self._read = (epoch, head)

    def _tombstone(self, ledger: Ledger, order: str, why: str, names: list[SegmentName]) -> Tombstone:
        segments = [(name.run, name.seq, known.key if (known := ledger.segment(name)) else None) for name in names]
        return Tombstone(self._site, self._device, order, timestamp(ledger.now_ns()), why, segments)

    def _keep(self, tombstone: Tombstone) -> None:
        if not self._directory.exists():
            self._directory.mkdir()
            sync_directory(self._directory.parent)
        content = self._pen.written("tombstone", tombstone.document())
        replace_file(self._directory / tombstone.name, content, durable=True)

    def _outgoing(self, name: str) -> Outgoing:
        path = self._directory / name
        content = path.read_bytes()
        return Outgoing(
            path=path,
            key=self._prefix + name,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            metadata={"kr-meta-version": META_VERSION},
        )


def _id_of(name: str) -> str:
    return name.removeprefix("erase-").removesuffix(".json")
