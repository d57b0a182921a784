"""The uploads as a whole: a dispatcher, its workers, and what they share."""

from __future__ import annotations

import logging
from dataclasses import replace

from agent.courier.activity import Activity
from agent.courier.crew import Crew
from agent.courier.dispatcher import Dispatcher
from agent.courier.pace import Pace
from agent.courier.standing import Standing
from agent.courier.targets import Target
from agent.courier.worker import Lines, Worker
from agent.errors import KioskError
from agent.ledger import Ledger, Tally
from agent.settings import Settings
from agent.spool import Layout
from agent.units import Duration
from hw.clock import Clock

log = logging.getLogger(__name__)

_ATTEMPTS_ONCE = 4
_GRACE_S = 0.7


class Uploads:
    """Carries recordings from the spool to `target`."""

    def __init__(
        self, settings: Settings, layout: Layout, target: Target, lines: Lines, activity: Activity, clock: Clock
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._target = target
        self._lines = lines
        self._clock = clock
        self._pace = Pace(settings.upload.max_rate, clock, lines.stop)
        self._activity = activity

    def start(self, crew: Crew) -> None:
        """Upload in threads of `crew` until it is stopped, whatever the store says."""
        self._start_workers(crew, attempts=None)
        crew.start("dispatcher", self._run)

    def once(self, crew: Crew) -> KioskError | None:
        """Upload what is due now, without waiting for the clock.

        Raises the KioskError of a store that doesn't take it; returns that of a recording that is damaged or can't be
        read, or None.
        """
        self._start_workers(crew, attempts=_ATTEMPTS_ONCE)
        upload = replace(self._settings.upload, clock_wait=Duration(0))
        with Ledger(self._layout.ledger, self._clock) as ledger:
            dispatcher = self._dispatcher(ledger, replace(self._settings, upload=upload))
            dispatcher.drain()
            dispatcher.finish(_GRACE_S)
            left = ledger.tally().get("pending", Tally()).count
        waiting = f"; {left} wait for their hours, their clock or a sound file" if left else ""
        log.info("what was due is uploaded%s", waiting)
        return dispatcher.passed_over

    def stop(self) -> None:
        """Wake whoever waits, after `lines.stop` was set."""
        self._lines.reports.put(None)
        for _ in range(self._settings.upload.parallel):
            self._lines.jobs.put(None)

    def _run(self) -> None:
        with Ledger(self._layout.ledger, self._clock) as ledger:
            dispatcher = self._dispatcher(ledger, self._settings)
            dispatcher.run()
            dispatcher.finish(_GRACE_S)

    def _dispatcher(self, ledger: Ledger, settings: Settings) -> Dispatcher:
        return Dispatcher(ledger, self._layout, self._target, settings, self._lines, self._activity, self._clock)

    def _start_workers(self, crew: Crew, attempts: int | None) -> None:
        standing = Standing(self._clock, quiet=attempts is not None)
        for number in range(self._settings.upload.parallel):
            worker = Worker(
                self._target, self._pace, self._lines, self._activity, standing, self._clock, attempts=attempts
            )
            crew.start(f"upload-{number}", worker.run)
