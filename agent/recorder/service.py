"""The recorder process: the one place where its objects are built, and its supervision.

Three threads: `capture` (microphone → ring), `writer` (ring → card, and the status picture once a turn), main (this
one: the clock, watching the others). Capture starts first, so that the room is heard while recovery still looks at a
large spool. A thread that dies ends the process; whoever started it starts it again.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo

from agent.contract.keys import utc
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, EXIT_UNUSABLE, KioskError
from agent.hours import is_open
from agent.ledger import Ledger
from agent.recorder.capture import PERIOD_S, Capture
from agent.recorder.drift import Drift
from agent.recorder.rebuild import open_recovered
from agent.recorder.retention import Retention
from agent.recorder.ring import Ring
from agent.recorder.timekeeper import Timekeeper
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.settings import Settings
from agent.spool import InstanceLock, Layout
from agent.status import RecorderState, RecorderStatus, runtime_directory, write_status
from hw.alsa import Microphone
from hw.clock import Clock
from hw.process import forbid_core_dumps, lock_memory

log = logging.getLogger(__name__)

_STATUS_S: Final = 1.0
_CLOCK_CHECK_S: Final = 5.0


class RecorderService:
    """One recorder. `run` blocks until it's told to stop or a thread dies."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._layout = Layout(settings.spool.path)
        self._runtime = runtime_directory()
        self._vitals = Vitals()
        self._ring = Ring(settings.capture.ring_seconds * settings.capture.rate)
        self._stop = threading.Event()
        self._ready = threading.Event()
        """Set when the writer has opened the ledger and recovered the spool."""
        self._failure: BaseException | None = None
        self._state: RecorderState = "starting"
        self._since_ns = clock.monotonic_ns()
        self._vitals.offset_ns = clock.wall_ns() - clock.monotonic_ns()
        self._vitals.clock_trusted = clock.synchronised()
        self._zone = ZoneInfo(settings.device.timezone)
        self._capture = Capture(
            self._open_microphone,
            self._ring,
            clock,
            self._stop,
            self._vitals,
            self._schedule_allows,
            Drift(settings.capture.rate),
        )

    def run(self) -> int:
        """Record until SIGTERM or SIGINT. Returns the exit status; raises KioskError when it can't begin."""
        self._layout.create()
        self._runtime.mkdir(parents=True, exist_ok=True)
        lock = InstanceLock(self._layout, "recorder")
        forbid_core_dumps()
        try:
            lock_memory()
        except OSError as error:
            log.info("memory is not locked (%s): audio could reach swap, if there is any", error.strerror)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        threads = [
            threading.Thread(target=self._guarded, args=(body,), name=name)
            for name, body in (("capture", self._capture.run), ("writer", self._write))
        ]
        for thread in threads:
            thread.start()
        self._guarded(self._supervise)
        for thread in threads:
            thread.join()
        self._publish("stopped")
        lock.release()
        return self._exit_status()

    def stop(self) -> None:
        """Close the microphone, seal what is open, end."""
        self._stop.set()
        self._capture.wake()

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 (kept for `_exit_status`, whatever it is)
            self._failure = self._failure or error
            self._ring.close()
            self.stop()

    def _write(self) -> None:
        ledger, recovered = open_recovered(self._layout, self._clock)
        with ledger:
            if recovered:
                log.info("recovered segments: %s", recovered)
            # After recovery, which may have to enter earlier boots first.
            synchronised = self._clock.synchronised()
            offset_ns = self._clock.wall_ns() - self._clock.monotonic_ns()
            ledger.begin_boot(offset_ns, "synchronised" if synchronised else "unsynchronised")
            retention = Retention(self._layout, self._settings, ledger, self._clock)
            writer = Writer(self._settings, self._layout, ledger, retention, self._ring, self._clock, self._vitals)
            self._ready.set()
            while writer.step():
                self._publish(self._current_state())

    def _supervise(self) -> None:
        while not self._ready.is_set() and not self._stop.is_set():
            self._publish(self._current_state())
            self._clock.wait(self._ready, _STATUS_S)
        if self._stop.is_set():
            return
        with Ledger(self._layout.ledger, self._clock) as ledger:
            timekeeper = Timekeeper(ledger, self._clock)
            while not self._stop.is_set():
                boot = timekeeper.check()
                self._vitals.offset_ns = boot.offset_ns
                self._vitals.clock_trusted = boot.clock != "unsynchronised"
                self._clock.wait(self._stop, _CLOCK_CHECK_S)

    def _exit_status(self) -> int:
        failure = self._failure
        if failure is None:
            return EXIT_GOOD
        if isinstance(failure, KioskError):
            log.error("%s", failure)
            return EXIT_FOUND_WRONG if failure.retryable else EXIT_UNUSABLE
        log.critical("a thread died", exc_info=failure)
        return EXIT_FOUND_WRONG

    def _open_microphone(self) -> Microphone:
        capture = self._settings.capture
        return Microphone(capture.pcm, capture.rate, capture.channels, clock=self._clock, period_s=PERIOD_S)

    def _schedule_allows(self) -> bool:
        """While the clock can't be trusted everything is recorded, and judged later (DESIGN §4)."""
        if self._settings.capture.mode != "scheduled" or not self._vitals.clock_trusted:
            return True
        # By the ledger's offset: the machine's own clock may be wrong where the store's was found right.
        now = utc(self._vitals.offset_ns + self._clock.monotonic_ns())
        return is_open(self._settings.recording_week, self._zone, now)

    def _current_state(self) -> RecorderState:
        vitals = self._vitals
        return vitals.storage if vitals.microphone == "recording" else vitals.microphone

    def _publish(self, state: RecorderState) -> None:
        now_ns = self._clock.monotonic_ns()
        if state != self._state:
            self._state, self._since_ns = state, now_ns
        vitals = self._vitals
        levels = vitals.levels if vitals.microphone == "recording" else None
        status = RecorderStatus(
            pid=os.getpid(),
            boot=self._clock.boot,
            state=state,
            since_ns=self._since_ns,
            updated_ns=now_ns,
            trouble=vitals.trouble or vitals.storage_trouble,
            level_rms_dbfs=round(levels.rms_dbfs, 1) if levels else None,
            level_peak_dbfs=round(levels.peak_dbfs, 1) if levels else None,
            clipped_pct=round(levels.clipped_pct, 2) if levels else None,
            first_frame_ns=vitals.first_frame_ns,
            run=vitals.run,
            segment_seconds=round(vitals.segment_seconds, 1),
            ring_seconds=round(self._ring.frames / self._settings.capture.rate, 1),
            spool_bytes=vitals.used_bytes,
            spool_bytes_open=vitals.open_bytes,
            fsync_p99_ms=_p99_ms(list(vitals.sync_seconds)),
            drift_ppm=None if vitals.drift_ppm is None else round(vitals.drift_ppm, 1),
        )
        try:
            write_status(self._runtime, status)
        except OSError as error:
            log.debug("status picture not written: %s", error)


def _p99_ms(seconds: list[float]) -> float | None:
    if not seconds:
        return None
    return round(sorted(seconds)[int(len(seconds) * 0.99)] * 1000, 1)
