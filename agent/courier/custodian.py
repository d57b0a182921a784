"""Brings the journal to the store: a signed manifest of what is new, every `custody.manifest_every`.

How it goes there tells agent.courier.papers. What a manifest tells and is older than `custody.history` is pruned from
the journal then. One that waits from an earlier ledger still goes out: it tells what the lost ledger knew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Final

from agent.contract.custody import Manifest, Stretch, canonical
from agent.contract.keys import timestamp
from agent.courier.papers import Papers
from agent.courier.pen import Pen
from agent.courier.targets import Outgoing
from agent.courier.worker import Worker
from agent.errors import KioskError
from agent.ledger import Entry, Ledger
from agent.settings import Settings
from agent.spool import Layout
from hw.clock import Clock

log = logging.getLogger(__name__)

_MOST_ENTRIES: Final = 4000
_MOST_CHARACTERS: Final = 1_000_000
"""A manifest of more than either is two: whoever reads thousands of them holds one at a time."""

_SILENT_KINDS: Final = frozenset({"manifest", "checkpoint", "tombstone"})
"""What custody says of itself: no reason for another manifest."""


class Custodian:
    """Belongs to one thread. Opens the ledger for one errand at a time: the recorder may begin another."""

    def __init__(self, settings: Settings, layout: Layout, prefix: str, worker: Worker, pen: Pen, clock: Clock) -> None:
        """`prefix` is the target's. The pen must have a key."""
        self._site, self._device = settings.device.site, settings.device.id
        self._settings = settings.custody
        self._layout = layout
        self._papers = Papers("manifests", settings, layout, prefix, worker, clock)
        self._pen = pen
        self._clock = clock
        self._epoch = ""
        self._due_ns = 0

    def run(self, stop: threading.Event) -> None:
        """Until the process ends."""
        self._papers.run(self.step, stop)

    def step(self) -> bool:
        """Bring what waits, or make what is due. Whether there may be more to do at once."""
        return self._papers.attempt(self._bring)

    def _bring(self) -> bool:
        with Ledger(self._layout.ledger, self._clock) as ledger:
            self._learn(ledger)
            waiting = self._waiting(ledger)
            if waiting is None and self._clock.monotonic_ns() >= self._due_ns:
                waiting = self._make(ledger)
            if waiting is None:
                return False
        brought = self._papers.bring(waiting.name)
        if brought is not None:
            with Ledger(self._layout.ledger, self._clock) as ledger:
                self._enter(ledger, waiting, brought)
        return brought is not None

    def _learn(self, ledger: Ledger) -> None:
        """What another ledger has told, when this is another one than at the last step."""
        epoch = ledger.epoch()
        if epoch == self._epoch:
            return
        last = ledger.last_manifest()
        self._pen.reached = (epoch, last.body["last"] if last else 0)
        since = last or next(ledger.entries(), None)
        here = since is not None and since.boot == self._clock.boot
        self._due_ns = since.mono_ns + self._settings.manifest_every.ns if since is not None and here else 0
        self._epoch = epoch

    def _waiting(self, ledger: Ledger) -> Stretch | None:
        """The oldest manifest that the store hasn't got yet. What it has is removed: the process may have died."""
        found = sorted(filter(None, map(Stretch.parse, self._papers.names())))
        epoch, reached = ledger.epoch(), self._pen.reached[1]
        for stretch in found:
            if stretch.epoch == epoch and stretch.last <= reached:
                self._papers.remove(stretch.name)
            elif self._pen.wrote("manifest", self._papers.read(stretch.name)):
                return stretch
            else:
                self._papers.tear_up(stretch.name)
        return None

    def _make(self, ledger: Ledger) -> Stretch | None:
        """Sign what is new; None when nothing is."""
        self._due_ns = self._clock.monotonic_ns() + self._settings.manifest_every.ns
        since = self._pen.reached[1]
        before = ledger.hash_of(since)
        if before is None:
            raise KioskError(
                "make manifest",
                place=str(self._layout.ledger),
                cause=f"the journal has lost what follows entry {since}",
                hint="`kiosk-recorder verify` tells where the chain is broken",
            )
        chosen = list(_portion(ledger.entries(since)))
        if all(entry.kind in _SILENT_KINDS for entry in chosen):
            return None
        boots = {boot.boot: boot.clock for boot in ledger.boots()}
        stretch = Stretch(self._epoch, chosen[0].seq, chosen[-1].seq)
        if stretch.last < ledger.head()[0]:
            self._due_ns = 0
        manifest = Manifest(
            site=self._site,
            device=self._device,
            stretch=stretch,
            before=before,
            after=chosen[-1].hash,
            made=timestamp(ledger.now_ns()),
            clock=boots.get(self._clock.boot, "unsynchronised"),
            entries=[entry.content for entry in chosen],
        )
        self._papers.keep(stretch.name, self._pen.written("manifest", manifest.document()))
        return stretch

    def _enter(self, ledger: Ledger, stretch: Stretch, brought: Outgoing) -> None:
        ledger.manifested(stretch, brought.key, brought.sha256)
        if stretch.epoch == ledger.epoch() == self._epoch:
            self._pen.reached = (stretch.epoch, stretch.last)
            self._prune(ledger)
        self._papers.remove(stretch.name)
        log.debug("manifest %s is in the store", stretch.name)

    def _prune(self, ledger: Ledger) -> None:
        """Let go of what is old and told, a manifest's worth at a time."""
        if not self._settings.history:
            return
        old_ns = ledger.now_ns() - self._settings.history.ns
        until = 0
        for entry in _portion(ledger.entries(until=self._pen.reached[1])):
            if entry.at_ns >= old_ns:
                break
            until = entry.seq
        if until:
            ledger.prune(until)


def _portion(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The first of them, one at least, as many as one manifest tells."""
    characters = 0
    for count, entry in enumerate(entries, 1):
        characters += len(canonical(entry.content))
        if count > 1 and (count > _MOST_ENTRIES or characters > _MOST_CHARACTERS):
            return
        yield entry
