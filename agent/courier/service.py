"""The courier process: the one place where its objects are built, and its supervision."""

from __future__ import annotations

import logging
import signal
from types import FrameType

from agent.courier.activity import Activity
from agent.courier.crew import Crew
from agent.courier.measures import Measures
from agent.courier.reporter import Reporter
from agent.courier.targets import open_target
from agent.courier.uploads import Uploads
from agent.courier.worker import Lines
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, KioskError
from agent.ledger import Ledger
from agent.settings import Settings
from agent.spool import InstanceLock, Layout
from agent.status import runtime_directory
from hw.clock import Clock

log = logging.getLogger(__name__)

_LEDGER_POLL_S = 0.5
_GOODBYE_S = 1.0


class CourierService:
    """Everything the courier is made of."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Raises KioskError for a target that can't be used. Connects to nothing yet."""
        self._settings = settings
        self._clock = clock
        self._layout = Layout(settings.spool.path)
        self._lines = Lines()
        upload = settings.upload
        self._target = open_target(
            upload.target, endpoint_url=upload.endpoint_url, region=upload.region, connections=upload.parallel
        )
        activity = Activity(clock)
        self._uploads = (
            None
            if self._target is None
            else Uploads(settings, self._layout, self._target, self._lines, activity, clock)
        )
        measures = Measures(settings, self._layout, activity, clock, runtime_directory())
        self._reporter = (
            Reporter(settings, self._layout, measures, clock, self._lines.stop) if settings.mqtt.url else None
        )

    def run(self) -> int:
        """Upload and report until SIGTERM or SIGINT. The exit status: not good only when a thread died."""
        self._heed_signals()
        if not self._wait_for_ledger():
            return EXIT_GOOD
        lock = InstanceLock(self._layout, "courier")
        crew = Crew(self._lines.stop)
        if self._uploads is None:
            log.info("no `upload.target`: recordings stay in the spool")
        else:
            log.info("uploads go to %s", self._describe())
            self._uploads.start(crew)
        if self._reporter is not None:
            crew.start("reporter", self._reporter.run)
        self._lines.stop.wait()
        self._say_goodbye(crew)
        lock.close()
        return EXIT_FOUND_WRONG if crew.casualty else EXIT_GOOD

    def once(self) -> int:
        """Upload what is due now. Raises KioskError when the store doesn't take it; nothing is lost by that."""
        self._heed_signals()
        Ledger(self._layout.ledger, self._clock).close()
        lock = InstanceLock(self._layout, "courier")
        crew = Crew(self._lines.stop)
        try:
            if self._uploads is None:
                raise KioskError("upload once", cause="there is no `upload.target`", hint="set one")
            trouble = self._uploads.once(crew)
        finally:
            self._lines.stop.set()
            self._say_goodbye(crew)
            lock.close()
        return EXIT_FOUND_WRONG if trouble or crew.casualty else EXIT_GOOD

    def stop(self) -> None:
        """Ask everything to end."""
        self._lines.stop.set()
        if self._uploads is not None:
            self._uploads.stop()
        if self._reporter is not None:
            self._reporter.wake()

    def _describe(self) -> str:
        return self._target.describe() if self._target is not None else ""

    def _heed_signals(self) -> None:
        def heed(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        signal.signal(signal.SIGTERM, heed)
        signal.signal(signal.SIGINT, heed)

    def _wait_for_ledger(self) -> bool:
        """Wait until the recorder has made the ledger; False when asked to end before."""
        told = False
        while not self._lines.stop.is_set():
            try:
                Ledger(self._layout.ledger, self._clock).close()
            except KioskError as error:
                if not error.retryable:
                    raise
                if not told:
                    log.info("waiting for the recorder: %s", error)
                told = True
                self._clock.wait(self._lines.stop, _LEDGER_POLL_S)
            else:
                return True
        return False

    def _say_goodbye(self, crew: Crew) -> None:
        self.stop()
        crew.join(_GOODBYE_S)
        if self._target is not None:
            self._target.close()
