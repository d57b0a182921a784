"""The recorder process: the one place where its objects are built, and its supervision.

Three threads: `capture` (microphone → ring), `card` (ring → card, and the status picture once a turn), main (this
one: watching the others; it never touches the card). When the card can't be used, a fourth records in memory
(agent.recorder.paths). Capture starts first, so that the room is heard while recovery still looks at a large spool. A
thread that dies ends the process; whoever started it starts it again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final
from zoneinfo import ZoneInfo

from agent.contract.keys import utc
from agent.contract.metrics import RecorderState
from agent.errors import EXIT_AGAIN, EXIT_FOUND_WRONG, EXIT_GOOD, EXIT_UNUSABLE, KioskError
from agent.hours import is_open
from agent.ledger import Boot, ClockState
from agent.notify import Supervisor
from agent.recorder.capture import PERIOD_S, Capture, Withheld
from agent.recorder.drift import Drift
from agent.recorder.encryption import Recipients
from agent.recorder.orders import EXPOSED_HINT, Hands, Orders
from agent.recorder.panel import Panel
from agent.recorder.paths import STALL_S, Paths
from agent.recorder.progress import halted
from agent.recorder.quiet import left_ns
from agent.recorder.ring import Ring
from agent.recorder.vitals import Vitals
from agent.settings import Settings
from agent.status import RecorderStatus, runtime_directory, write_status
from agent.units import NS_PER_S
from hw.alsa import Microphone
from hw.clock import Clock
from hw.memory import resident_bytes
from hw.process import forbid_core_dumps, lock_memory, on_request_to_end, swap_in_use

log = logging.getLogger(__name__)

_WATCH_S: Final = 5.0
"""How often the main thread looks at the others; what is ordered wakes it."""

_STARTING_S: Final = 0.5
"""The same until everything goes, so that whoever waits for the start isn't kept."""

_STALE_NS: Final = 3 * NS_PER_S
"""A status picture that old is renewed by the main thread: the writer may be stuck."""

_LAST_WORDS_S: Final = 20.0
"""At the end: how long to wait for a thread that a stuck card doesn't let go."""


class RecorderService:
    """One recorder. `run` blocks until it's told to stop or a thread dies."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._runtime = runtime_directory()
        self._vitals = Vitals()
        self._ring = Ring(settings.capture.ring_seconds * settings.capture.rate)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._state: RecorderState = "starting"
        self._began_ns = self._since_ns = clock.monotonic_ns()
        self._published_ns = self._since_ns
        synchronised: ClockState = "synchronised" if clock.synchronised() else "unsynchronised"
        self._vitals.boot = Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), synchronised)
        self._recipients = Recipients(settings.seal.recipients)
        self._paths = Paths(
            settings, self._ring, clock, self._vitals, self._recipients, self._runtime, self._stop, self._after_turn
        )
        self._restarting = False
        self._unlocked = ""
        """Why memory can't be locked; empty while it is."""
        self._supervisor = Supervisor()
        self._zone = ZoneInfo(settings.device.timezone)
        self._capture = Capture(
            self._open_microphone,
            self._ring,
            clock,
            self._stop,
            self._vitals,
            self._withheld,
            Drift(settings.capture.rate),
            # The writer's turns are 2 s apart while nothing is heard: too long for a switch of paths.
            self._paths.look,
        )
        erasures = self._paths.erasures
        hands = Hands(
            hush=self._capture.wake,
            restart=self._restart,
            identify=self._identify,
            lit=lambda: self._panel.lit,
            erase=erasures.order,
            erased=erasures.done.get,
            exposed=self._exposed,
        )
        self._orders = Orders(settings, clock, self._vitals, self._recipients, self._runtime, hands)
        self._panel = Panel(
            settings.gpio,
            self._runtime,
            clock,
            self._orders,
            self._current,
            self._schedule_allows,
            lambda: self._vitals.microphone == "recording",
        )

    def run(self) -> int:
        """Record until SIGTERM or SIGINT. Returns the exit status; raises KioskError when it can't begin."""
        self._paths.lock()
        self._runtime.mkdir(parents=True, exist_ok=True)
        self._orders.remember()
        self._panel.open()
        forbid_core_dumps()
        try:
            lock_memory()
        except OSError as error:
            self._unlocked = error.strerror or str(error)
            self._think_of_swap()
        on_request_to_end(self.stop)
        # Daemons: what a card has stuck in the kernel must not keep the process from ending.
        threads = [
            threading.Thread(target=self._guarded, args=(body,), name=name, daemon=True)
            for name, body in (("capture", self._capture.run), ("card", self._paths.run))
        ]
        for thread in threads:
            thread.start()
        self._guarded(self._supervise)
        self._supervisor.stopping()
        self._wait_for(threads)
        self._panel.close()
        self._publish("stopped")
        return self._exit_status()

    def _think_of_swap(self) -> None:
        """What is encrypted on the card must not lie beside it in plain. Raises KioskError."""
        if self._recipients.now and (cause := self._exposed()):
            raise KioskError("encrypt recordings", cause=cause, hint=EXPOSED_HINT)
        log.info("memory is not locked (%s): audio could reach swap, if there is any", self._unlocked)

    def _exposed(self) -> str:
        if not (self._unlocked and swap_in_use()):
            return ""
        return f"memory can't be locked ({self._unlocked}), and this machine swaps"

    def stop(self) -> None:
        """Close the microphone, seal what is open, end."""
        self._stop.set()
        self._orders.awake.set()
        self._capture.wake()

    def _identify(self, minutes: int) -> None:
        self._panel.identify(minutes)

    def _restart(self) -> None:
        self._restarting = True
        self.stop()

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 (kept for `_exit_status`, whatever it is)
            self._failure = self._failure or error
            self._ring.close()
            self.stop()

    def _supervise(self) -> None:
        self._publish(self._current())
        rest_s = _WATCH_S
        while not self._stop.is_set():
            watch_s = _WATCH_S if self._report() else _STARTING_S
            self._clock.wait(self._orders.awake, min(rest_s, watch_s))
            rest_s = min(self._orders.step(), self._panel.step())
            self._look_around()

    def _look_around(self) -> None:
        self._paths.watch()
        if self._clock.monotonic_ns() - self._published_ns > _STALE_NS:
            self._publish(self._current())

    def _report(self) -> bool:
        """Tell systemd how it goes; False while it doesn't."""
        vitals = self._vitals
        cause = halted(
            self._clock.monotonic_ns(), vitals.microphone, vitals.turned_ns, vitals.heard_ns, vitals.written_ns
        )
        if cause:
            self._supervisor.stuck(cause)
            return False
        self._supervisor.getting_on(self._trouble() or self._current())
        return True

    def _wait_for(self, threads: list[threading.Thread]) -> None:
        """Until everybody has ended; a stuck card is given a while, and then up."""
        deadline_s = time.monotonic() + STALL_S + _LAST_WORDS_S
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline_s:
            for thread in threads:
                thread.join(1.0)
            self._guarded(self._paths.watch)

    def _exit_status(self) -> int:
        failure = self._failure
        if failure is None:
            return EXIT_AGAIN if self._restarting else EXIT_GOOD
        if isinstance(failure, KioskError):
            log.error("%s", failure)
            return EXIT_FOUND_WRONG if failure.retryable else EXIT_UNUSABLE
        log.critical("a thread died", exc_info=failure)
        return EXIT_FOUND_WRONG

    def _open_microphone(self) -> Microphone:
        capture = self._settings.capture
        return Microphone(capture.pcm, capture.rate, capture.channels, clock=self._clock, period_s=PERIOD_S)

    def _after_turn(self) -> None:
        self._publish(self._current())
        self._orders.poke()
        self._panel.poke()

    def _withheld(self) -> Withheld | None:
        quiet = self._orders.quiet()
        if quiet is not None:
            return quiet.reason
        return None if self._schedule_allows() else "schedule"

    def _schedule_allows(self) -> bool:
        """While the clock can't be trusted everything is recorded, and judged later (DESIGN §4)."""
        if self._settings.capture.mode != "scheduled":
            return True
        wall_ns = self._vitals.wall_ns(self._clock.monotonic_ns())
        return wall_ns is None or is_open(self._settings.recording_week, self._zone, utc(wall_ns))

    def _current(self) -> RecorderState:
        vitals = self._vitals
        return vitals.storage if vitals.microphone == "recording" else vitals.microphone

    def _trouble(self) -> str:
        return self._vitals.trouble or self._paths.trouble or self._vitals.storage_trouble or self._panel.trouble

    def _publish(self, state: RecorderState) -> None:
        now_ns = self._published_ns = self._clock.monotonic_ns()
        if state != self._state:
            self._state, self._since_ns = state, now_ns
        vitals = self._vitals
        levels = vitals.levels if vitals.microphone == "recording" else None
        quiet = self._orders.quiet()
        left = left_ns(quiet, self._orders.now()) if quiet else None
        status = RecorderStatus(
            pid=os.getpid(),
            boot=self._clock.boot,
            state=state,
            since_ns=self._since_ns,
            updated_ns=now_ns,
            trouble=self._trouble(),
            level_rms_dbfs=round(levels.rms_dbfs, 1) if levels else None,
            level_peak_dbfs=round(levels.peak_dbfs, 1) if levels else None,
            clipped_pct=round(levels.clipped_pct, 2) if levels else None,
            first_frame_ns=vitals.first_frame_ns,
            path=self._paths.path,
            detour=self._paths.trouble,
            pins=self._panel.trouble,
            run=vitals.run,
            segment_seconds=round(vitals.segment_seconds, 1),
            ring_seconds=round(self._ring.frames / self._settings.capture.rate, 1),
            spool_bytes=vitals.used_bytes,
            spool_bytes_open=vitals.open_bytes,
            fsync_p99_ms=_p99_ms(list(vitals.sync_seconds)),
            flags=self._paths.switch.variants,
            quiet_until_ns=None if left is None else now_ns + left,
            drift_ppm=None if vitals.drift_ppm is None else round(vitals.drift_ppm, 1),
            memory_rss_bytes=resident_bytes(os.getpid()),
            clock_synchronised=self._clock.synchronised(),
            recipients=self._recipients.labels,
            rotated_ns=self._orders.rotated_ns,
            began_ns=self._began_ns,
        )
        try:
            write_status(self._runtime, status)
        except OSError as error:
            log.debug("status picture not written: %s", error)


def _p99_ms(seconds: list[float]) -> float | None:
    if not seconds:
        return None
    return round(sorted(seconds)[int(len(seconds) * 0.99)] * 1000, 1)
