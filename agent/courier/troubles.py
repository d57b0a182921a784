"""What is wrong, told to everybody on this machine: a picture in memory, painted when it changes."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from agent.contract.alerts import Raised
from agent.courier.targets import NeedsPerson
from agent.errors import KioskError
from agent.status import CourierStatus, FarEnd, read_courier_status, write_courier_status
from hw.clock import Clock

log = logging.getLogger(__name__)


class Troubles:
    """May be told from every thread."""

    def __init__(self, runtime: Path, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self._lock = threading.Lock()
        self._far_ends: dict[str, FarEnd] = {}
        self._refusals: dict[str, str] = {}
        self._alerts: Mapping[str, Raised] = {}

    def tell(self, whose: str, error: KioskError | None) -> None:
        """What is wrong with one far end now; None when all is well again."""
        with self._lock:
            known = self._far_ends.get(whose)
            self._refusals.pop(whose, None)
            if isinstance(error, NeedsPerson):
                self._refusals[whose] = str(error)
            if error is None and known is None:
                return
            if error is None:
                del self._far_ends[whose]
            else:
                self._far_ends[whose] = FarEnd(known.since_ns if known else self._clock.monotonic_ns(), str(error))
            self.paint()

    @property
    def refusal(self) -> str:
        """What only a person can mend at a far end, with the way out; empty when there is nothing."""
        with self._lock:
            return next(iter(self._refusals.values()), "")

    @property
    def first(self) -> str:
        """One thing that is wrong, else that nothing is."""
        with self._lock:
            return next((end.trouble for end in self._far_ends.values()), "all is well")

    def alarm(self, alerts: Mapping[str, Raised]) -> None:
        """What is raised now."""
        with self._lock:
            if alerts != self._alerts:
                self._alerts = alerts
                self.paint()

    def earlier(self) -> Mapping[str, Raised]:
        """What an earlier courier had raised in this boot; to be asked before anything is painted."""
        told = read_courier_status(self._runtime)
        self._alerts = told.alerts if told is not None and told.boot == self._clock.boot else {}
        return self._alerts

    def paint(self) -> None:
        """Say what is known, also that it is nothing: an earlier courier may have left another picture."""
        try:
            self._runtime.mkdir(parents=True, exist_ok=True)
            status = CourierStatus(os.getpid(), self._clock.boot, self._far_ends, self._alerts)
            write_courier_status(self._runtime, status)
        except OSError as error:
            log.debug("picture of what is wrong not painted: %s", error)
