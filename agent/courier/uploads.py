"""The uploads from one spool: a dispatcher, its workers, and what they share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from agent.courier.activity import Activity
from agent.courier.crew import Crew
from agent.courier.dispatcher import Dispatcher
from agent.courier.openings import Openings
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

_LEDGER_POLL_S = 1.0
_ATTEMPTS_ONCE = 4
_GRACE_S = 0.7


class Uploads:
    """Carries recordings from the spool of `settings` to `target`."""

    def __init__(
        self,
        settings: Settings,
        target: Target,
        lines: Lines,
        pace: Pace,
        activity: Activity,
        clock: Clock,
        tell: Callable[[KioskError | None], None] = lambda _: None,
        openings: Openings | None = None,
    ) -> None:
        """`pace` is for all spools together; `lines` are for this one alone; `tell` hears what is wrong."""
        self._settings = settings
        self._layout = Layout(settings.spool.path)
        self._target = target
        self._lines = lines
        self._clock = clock
        self._pace = pace
        self._activity = activity
        self._tell = tell
        self._openings = openings

    @property
    def ready(self) -> bool:
        """Whether there is a ledger. Raises KioskError when there is one that can't ever be used."""
        return self._missing() is None

    def start(self, crew: Crew, name: str) -> None:
        """Upload in threads of `crew` until it is stopped, whatever the store says; as soon as there is a ledger."""
        crew.start(f"dispatcher-{name}", lambda: self._run(crew, name))

    def once(self, crew: Crew) -> KioskError | None:
        """Upload what is due now, without waiting for the clock.

        Raises the KioskError of a store that doesn't take it; returns that of a recording that is damaged or can't be
        read, or None.
        """
        self._start_workers(crew, "once", attempts=_ATTEMPTS_ONCE)
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

    def _run(self, crew: Crew, name: str) -> None:
        if not self._wait_for_ledger():
            return
        self._start_workers(crew, name, attempts=None)
        with Ledger(self._layout.ledger, self._clock) as ledger:
            dispatcher = self._dispatcher(ledger, self._settings)
            dispatcher.run()
            dispatcher.finish(_GRACE_S)

    def _dispatcher(self, ledger: Ledger, settings: Settings) -> Dispatcher:
        return Dispatcher(
            ledger, self._layout, self._target, settings, self._lines, self._activity, self._clock, self._openings
        )

    def _wait_for_ledger(self) -> bool:
        """Wait until the recorder has made it, or the card gives it out again; False when asked to end before."""
        seen = told = ""
        while not self._lines.stop.is_set():
            missing = self._missing()
            if missing is None:
                return True
            # One that is only just being made is there at the next look.
            if missing.cause == seen != told and self._layout.ledger.exists():
                log.warning("uploads from %s wait: %s", self._layout.root, missing)
                told = missing.cause
            seen = missing.cause
            self._clock.wait(self._lines.stop, _LEDGER_POLL_S)
        return False

    def _missing(self) -> KioskError | None:
        try:
            Ledger(self._layout.ledger, self._clock).close()
        except KioskError as error:
            if not error.retryable:
                raise
            return error
        return None

    def _start_workers(self, crew: Crew, name: str, attempts: int | None) -> None:
        standing = Standing(self._clock, self._tell, quiet=attempts is not None)
        for number in range(self._settings.upload.parallel):
            worker = Worker(
                self._target, self._pace, self._lines, self._activity, standing, self._clock, attempts=attempts
            )
            crew.start(f"upload-{name}-{number}", worker.run)
