"""Brings the journal to the store: a signed manifest of what is new, every `custody.manifest_every`.

    1. the stretch is signed and becomes a file in `state/custody/`, durable before the first attempt
    2. it is uploaded as a recording is, the same bytes however often that takes
    3. the journal says that the store has it; then the file goes

What a manifest tells and is older than `custody.history` is pruned from the journal then. One that waits from an
earlier ledger still goes out: it tells what the lost ledger knew.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from typing import Final

from agent.contract.custody import Manifest, Stretch, canonical, custody_prefix
from agent.contract.keys import META_VERSION, timestamp
from agent.courier.pen import Pen
from agent.courier.targets import Outgoing
from agent.courier.worker import Worker
from agent.errors import KioskError
from agent.ledger import Entry, Ledger, LedgerMissing
from agent.settings import Settings
from agent.spool import Layout, files_below, replace_file, sync_directory
from hw.clock import Clock

log = logging.getLogger(__name__)

_MOST_ENTRIES: Final = 4000
_MOST_CHARACTERS: Final = 1_000_000
"""A manifest of more than either is two: whoever reads thousands of them holds one at a time."""

_SILENT_KINDS: Final = frozenset({"manifest", "checkpoint", "tombstone"})
"""What custody says of itself: no reason for another manifest."""

POLL_S: Final = 10.0


class Custodian:
    """Belongs to one thread. Opens the ledger for one errand at a time: the recorder may begin another."""

    def __init__(self, settings: Settings, layout: Layout, prefix: str, worker: Worker, pen: Pen, clock: Clock) -> None:
        """`prefix` is the target's. The pen must have a key."""
        device = settings.device
        self._site, self._device = device.site, device.id
        self._settings = settings.custody
        self._layout = layout
        self._directory = layout.state / "custody"
        self._prefix = custody_prefix(prefix, device.site, device.id)
        self._worker = worker
        self._pen = pen
        self._clock = clock
        self._epoch = ""
        self._due_ns = 0
        self._told = False

    def run(self, stop: threading.Event) -> None:
        """Until the process ends."""
        while not stop.is_set():
            self._clock.wait(stop, 0 if self.step() else POLL_S)

    def step(self) -> bool:
        """Bring what waits, or make what is due. Whether there may be more to do at once."""
        try:
            with Ledger(self._layout.ledger, self._clock) as ledger:
                self._learn(ledger)
                waiting = self._waiting(ledger)
                if waiting is None and self._clock.monotonic_ns() >= self._due_ns:
                    waiting = self._make(ledger)
                if waiting is None:
                    return False
            outcome, _ = self._worker.bring(self._outgoing(waiting))
            if outcome in ("stored", "already_there"):
                with Ledger(self._layout.ledger, self._clock) as ledger:
                    self._enter(ledger, waiting)
        except LedgerMissing:
            return False
        except (OSError, ValueError, sqlite3.DatabaseError, KioskError) as error:
            if not self._told:
                log.warning("manifests wait: %s", error)
            self._told = True
            return False
        self._told = False
        return outcome in ("stored", "already_there")

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
        found = sorted(filter(None, (Stretch.parse(entry.name) for entry in files_below(self._directory))))
        epoch, reached = ledger.epoch(), self._pen.reached[1]
        for stretch in found:
            path = self._directory / stretch.name
            told = stretch.epoch == epoch and stretch.last <= reached
            if not told and self._pen.wrote("manifest", path.read_bytes()):
                return stretch
            if not told:
                log.error("%s is damaged and not uploaded; what is still in the ledger is told again", path)
            path.unlink()
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
        self._keep(stretch, self._pen.sign("manifest", manifest.document()))
        return stretch

    def _keep(self, stretch: Stretch, content: bytes) -> None:
        if not self._directory.exists():
            self._directory.mkdir()
            sync_directory(self._directory.parent)
        replace_file(self._directory / stretch.name, content, durable=True)

    def _outgoing(self, stretch: Stretch) -> Outgoing:
        path = self._directory / stretch.name
        content = path.read_bytes()
        return Outgoing(
            path=path,
            key=self._prefix + stretch.name,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            metadata={"kr-meta-version": META_VERSION},
        )

    def _enter(self, ledger: Ledger, stretch: Stretch) -> None:
        outgoing = self._outgoing(stretch)
        ledger.manifested(stretch, outgoing.key, outgoing.sha256)
        if stretch.epoch == ledger.epoch() == self._epoch:
            self._pen.reached = (stretch.epoch, stretch.last)
            self._prune(ledger)
        outgoing.path.unlink()
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
