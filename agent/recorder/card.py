"""The card's spool, opened for the one thread that may touch it, and let go of completely when it fails."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import KioskError
from agent.recorder.homecoming import cuts_for_card
from agent.recorder.root import Root, open_root
from agent.recorder.vitals import Vitals
from agent.settings import Settings
from agent.spool import InstanceLock, Layout
from hw.clock import Clock

log = logging.getLogger(__name__)


class Card:
    """Locked and recovered each time it's opened."""

    def __init__(self, settings: Settings, direct: Layout, clock: Clock, vitals: Vitals) -> None:
        """`direct` may hold recordings that go with those here."""
        self._settings = settings
        self._direct = direct
        self._clock = clock
        self._vitals = vitals
        self._lock: InstanceLock | None = None
        self.served = False
        """Whether this process ever wrote here."""

    def lock(self) -> None:
        """Make sure that no other recorder serves this spool. A card that fails can't be asked: later, then.

        Raises KioskError.
        """
        layout = Layout(self._settings.spool.path)
        try:
            layout.create()
            self._lock = InstanceLock(layout, "recorder")
        except KioskError as error:
            if not error.retryable:
                raise
        except OSError as error:
            log.warning("can't lock %s: %s", layout.root, error)

    @contextmanager
    def opened(self) -> Iterator[Root]:
        """Raises KioskError, or CARD_ERRORS when it fails."""
        ledger = Layout(self._settings.spool.path).ledger
        if self.served and not ledger.exists():
            # Below the mount point of a card that was taken away another spool could be made, and be lost with it.
            raise FileNotFoundError(errno.ENOENT, "the spool is gone: is its card mounted?", str(ledger))
        if self._lock is None:
            self.lock()
        try:
            cuts = cuts_for_card(self._direct, self._clock)
            with open_root(self._settings, self._clock, self._vitals.boot, cuts) as root:
                yield root
        finally:
            # Nothing is held open on a card that failed: it can be unmounted, checked and mounted again.
            if self._lock is not None:
                self._lock.close()
                self._lock = None
