"""Papers on their way to the store: what a manifest and a tombstone have in common.

1. a paper becomes a file in `state/custody/`, durable before the first attempt
2. it is uploaded as a recording is, the same bytes however often that takes
3. whoever made it has the journal say that the store has it; then the file goes
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Final

from agent.contract.custody import custody_prefix
from agent.contract.keys import META_VERSION
from agent.courier.targets import Outgoing
from agent.courier.worker import Worker
from agent.errors import KioskError
from agent.ledger import LedgerMissing
from agent.settings import Settings
from agent.spool import Layout, files_below, replace_file, sync_directory
from hw.clock import Clock

log = logging.getLogger(__name__)

_POLL_S: Final = 10.0


class Papers:
    """Belongs to one thread, which makes one kind of them."""

    def __init__(
        self, what: str, settings: Settings, layout: Layout, prefix: str, worker: Worker, clock: Clock
    ) -> None:
        """`what` they are called where they wait; `prefix` is the target's."""
        self._what = what
        self._directory = layout.state / "custody"
        self._prefix = custody_prefix(prefix, settings.device.site, settings.device.id)
        self._worker = worker
        self._clock = clock
        self._told = False

    def run(self, step: Callable[[], bool], stop: threading.Event) -> None:
        """Again and again, at once while there may be more to do, until the process ends."""
        while not stop.is_set():
            self._clock.wait(stop, 0 if step() else _POLL_S)

    def attempt(self, errand: Callable[[], bool]) -> bool:
        """What `errand` returns; False when something keeps it from being done, which is told once."""
        try:
            done = errand()
        except LedgerMissing:
            return False
        except (OSError, ValueError, sqlite3.DatabaseError, KioskError) as error:
            if not self._told:
                log.warning("%s wait: %s", self._what, error)
            self._told = True
            return False
        self._told = False
        return done

    def names(self) -> Iterator[str]:
        """Of all that wait, in no order, other threads' among them. Raises OSError, as all that follows."""
        return (entry.name for entry in files_below(self._directory))

    def has(self, name: str) -> bool:
        """Whether one waits."""
        return (self._directory / name).exists()

    def read(self, name: str) -> bytes:
        """One, as it was kept."""
        return (self._directory / name).read_bytes()

    def keep(self, name: str, content: bytes) -> None:
        """Have it wait; durable on return."""
        if not self._directory.exists():
            self._directory.mkdir()
            sync_directory(self._directory.parent)
        replace_file(self._directory / name, content, durable=True)

    def tear_up(self, name: str) -> None:
        """One that is damaged: it is made anew from the journal."""
        log.error("%s is damaged and not uploaded; it is made anew from the journal", self._directory / name)
        self.remove(name)

    def remove(self, name: str) -> None:
        """One that needn't wait any more."""
        (self._directory / name).unlink()

    def bring(self, name: str) -> Outgoing | None:
        """Upload one; what is in the store then, or None while it isn't."""
        content = self.read(name)
        outgoing = Outgoing(
            path=self._directory / name,
            key=self._prefix + name,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            metadata={"kr-meta-version": META_VERSION},
        )
        outcome, _ = self._worker.bring(outgoing)
        return outgoing if outcome in ("stored", "already_there") else None
