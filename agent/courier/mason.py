"""Tombstones: what was erased, told in the store, so that the fleet can remove there what the kiosk may not.

One document for each order that the journal says was carried out, several where it meant very many recordings; signed
where the device has a key (agent.courier.papers).
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

from agent.contract.custody import Tombstone, tombstone_id, tombstone_name
from agent.contract.keys import timestamp
from agent.courier.papers import Papers
from agent.courier.pen import Pen
from agent.courier.worker import Worker
from agent.ledger import Ledger
from agent.settings import Settings
from agent.spool import Layout, SegmentName
from hw.clock import Clock

log = logging.getLogger(__name__)

MOST_SEGMENTS: Final = 5000
"""Of one tombstone: whoever reads it takes 8 MiB (agent.contract.signed), and S3's longest key has 1 KiB."""


class Mason:
    """Belongs to one thread. Opens the ledger for one errand at a time: the recorder may begin another."""

    def __init__(self, settings: Settings, layout: Layout, prefix: str, worker: Worker, pen: Pen, clock: Clock) -> None:
        """`prefix` is the target's."""
        self._site, self._device = settings.device.site, settings.device.id
        self._layout = layout
        self._papers = Papers("tombstones", settings, layout, prefix, worker, clock)
        self._pen = pen
        self._clock = clock
        self._read = ("", 0)
        """Epoch, and up to which of its entries every order has its document."""

    def run(self, stop: threading.Event) -> None:
        """Until the process ends."""
        self._papers.run(self.step, stop)

    def step(self) -> bool:
        """Make what is missing, and bring one of those that wait. Whether there may be more to do at once."""
        return self._papers.attempt(self._bring)

    def _bring(self) -> bool:
        with Ledger(self._layout.ledger, self._clock) as ledger:
            self._make(ledger)
        order = next(filter(None, map(tombstone_id, self._papers.names())), None)
        if order is None:
            return False
        waiting = tombstone_name(order)
        if self._pen.public is not None and not self._pen.wrote("tombstone", self._papers.read(waiting)):
            self._papers.tear_up(waiting)
            self._read = ("", 0)
            return True
        brought = self._papers.bring(waiting)
        if brought is not None:
            with Ledger(self._layout.ledger, self._clock) as ledger:
                ledger.entombed(order, brought.key, brought.sha256)
            self._papers.remove(waiting)
        return brought is not None

    def _make(self, ledger: Ledger) -> None:
        epoch, head = ledger.epoch(), ledger.head()[0]
        since = self._read[1] if self._read[0] == epoch else 0
        if head == since:
            return
        done = ledger.tombstones(since)
        for order, why, names in ledger.erasures(since):
            for part, some in _parts(order, names):
                if part not in done and not self._papers.has(tombstone_name(part)):
                    tombstone = self._tombstone(ledger, part, why, some)
                    self._papers.keep(tombstone.name, self._pen.written("tombstone", tombstone.document()))
        self._read = (epoch, head)

    def _tombstone(self, ledger: Ledger, order: str, why: str, names: list[SegmentName]) -> Tombstone:
        segments = [(name.run, name.seq, known.key if (known := ledger.segment(name)) else None) for name in names]
        return Tombstone(self._site, self._device, order, timestamp(ledger.now_ns()), why, segments)


def _parts(order: str, names: list[SegmentName]) -> Iterator[tuple[str, list[SegmentName]]]:
    """What an order meant, by the tombstones that tell it: the first has the order's id, the others one made of it."""
    for begin in range(0, len(names), MOST_SEGMENTS) or (0,):
        part = hashlib.sha256(f"{order}/{begin}".encode()).hexdigest()[:32] if begin else order
        yield part, names[begin : begin + MOST_SEGMENTS]
