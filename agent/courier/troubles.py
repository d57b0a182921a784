"""What is wrong at the far ends, told to everybody on this machine: a picture in memory, painted when it changes."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from agent.errors import KioskError
from agent.status import CourierStatus, FarEnd, write_courier_status
from hw.clock import Clock

log = logging.getLogger(__name__)


class Troubles:
    """May be told from every thread."""

    def __init__(self, runtime: Path, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._lock = threading.Lock()
        self._far_ends: dict[str, FarEnd] = {}

    def tell(self, whose: str, error: KioskError | None) -> None:
        """What is wrong with one far end now; None when all is well again."""
        with self._lock:
            known = self._far_ends.get(whose)
            if error is None and known is None:
                return
            if error is None:
                del self._far_ends[whose]
            else:
                self._far_ends[whose] = FarEnd(known.since_ns if known else self._clock.monotonic_ns(), str(error))
            self.paint()

    def paint(self) -> None:
        """Say what is known, also that it is nothing: an earlier courier may have left another picture."""
        try:
            self._runtime.mkdir(parents=True, exist_ok=True)
            write_courier_status(self._runtime, CourierStatus(os.getpid(), self._clock.boot, self._far_ends))
        except OSError as error:
            log.debug("picture of the far ends not painted: %s", error)
