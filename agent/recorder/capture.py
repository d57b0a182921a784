"""The capture thread: microphone to ring, for ever.

It never waits for anything but the microphone. An absent, vanished or frozen microphone is a state, not an error:
it's looked for about once a second. Outside the schedule's hours, and while somebody wants quiet, the PCM is closed, so
the room can't be heard.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, Literal

from agent.contract.metrics import RecorderState
from agent.errors import KioskError
from agent.ledger import GapReason
from agent.recorder.drift import Drift
from agent.recorder.ring import Ring
from agent.recorder.vitals import Vitals
from hw.alsa import Block, Microphone, Overrun
from hw.clock import Clock

log = logging.getLogger(__name__)

PERIOD_S: Final = 0.5
"""How often the microphone wakes us. Each wake-up costs a quarter of a millisecond whatever is in it; of a buffer of
2 s this leaves 1.5 s of slack (docs/adr/0005)."""

FROZEN_AFTER_S: Final = 2.5
"""DESIGN §4: a frozen microphone is noticed within 3 s."""

RETRY_S: Final = 1.0
"""DESIGN §4: recording resumes within 5 s of the microphone's return."""

_QUIET_CHECK_S: Final = 1.0

Withheld = Literal["schedule", "paused", "muted"]
"""Why the room may not be heard."""

_STATES: Final[dict[Withheld, RecorderState]] = {"schedule": "idle", "paused": "paused", "muted": "muted"}


class Capture:
    """Reads one microphone into the ring. `run` is the thread's body; everything in it belongs to that thread."""

    def __init__(
        self,
        open_microphone: Callable[[], Microphone],
        ring: Ring,
        clock: Clock,
        stop: threading.Event,
        vitals: Vitals,
        withheld: Callable[[], Withheld | None],
        drift: Drift,
        waiting: Callable[[], None],
    ) -> None:
        """`withheld` says why the room may not be heard now, if so; `waiting` is called while nothing is heard."""
        self._open = open_microphone
        self._ring = ring
        self._clock = clock
        self._stop = stop
        self._vitals = vitals
        self._withheld = withheld
        self._drift = drift
        self._waiting = waiting
        self._microphone: Microphone | None = None

    def run(self) -> None:
        """Until `stop`. Raises KioskError when the very first attempt shows that the request can never be granted."""
        try:
            while not self._stop.is_set():
                self.step()
        finally:
            self._close()
            self._ring.close()

    def step(self) -> None:
        """One turn: listen for a while, or wait for what is missing."""
        self._vitals.turned_ns = self._clock.monotonic_ns()
        withheld = self._withheld()
        if withheld is not None:
            self._idle(withheld)
        elif self._microphone is None:
            self._try_to_open()
        else:
            self._listen(self._microphone)

    def wake(self) -> None:
        """From another thread: end the wait for audio at once."""
        microphone = self._microphone
        if microphone is not None:
            microphone.wake()

    def _idle(self, withheld: Withheld) -> None:
        state = _STATES[withheld]
        if self._vitals.microphone != state:
            self._lose(withheld)
            self._vitals.microphone = state
            self._vitals.trouble = ""
        self._waiting()
        self._clock.wait(self._stop, _QUIET_CHECK_S)

    def _try_to_open(self) -> None:
        try:
            self._microphone = self._open()
        except KioskError as error:
            if not error.retryable and self._vitals.microphone == "starting":
                raise
            self._missing(error)

    def _listen(self, microphone: Microphone) -> None:
        try:
            heard = microphone.read(FROZEN_AFTER_S)
        except KioskError as error:
            self._missing(error)
            return
        if self._withheld() is not None:
            # What was heard while somebody asked for quiet isn't kept; the next step closes the microphone.
            return
        if isinstance(heard, Block):
            self._heard(heard)
        elif isinstance(heard, Overrun):
            log.warning("overrun: sound was lost before it could be read (%s)", heard.cause)
            self._drift.broken()
            self._ring.interrupt("overrun", heard.noticed_ns)
        elif not self._stop.is_set():
            self._missing(
                KioskError(
                    "hear microphone",
                    cause=f"it gave no sound for {FROZEN_AFTER_S:g} s",
                    hint="it is opened anew by itself; if this stays, pull and replug it",
                    retryable=True,
                )
            )

    def _heard(self, block: Block) -> None:
        self._ring.put(block)
        vitals = self._vitals
        if vitals.microphone != "recording":
            vitals.microphone = "recording"
            vitals.trouble = ""
            log.info("microphone is heard")
            if vitals.first_frame_ns is None:
                vitals.first_frame_ns = block.ended_ns
        vitals.heard_ns = block.ended_ns
        vitals.drift_ppm = self._drift.heard(block.frames, block.ended_ns)

    def _missing(self, error: KioskError) -> None:
        """Look for the microphone: at once, then every `RETRY_S`, also for one that opens but can't be read."""
        known, self._vitals.trouble = self._vitals.trouble, str(error)
        if self._vitals.microphone != "waiting_for_microphone":
            log.error("%s", error)
            self._lose("unplugged")
            self._vitals.microphone = "waiting_for_microphone"
            return
        if not error.retryable and str(error) != known:
            # Another microphone came back, or a setting is wrong: that needs a person, unlike mere absence.
            log.error("%s", error)
        self._close()
        self._waiting()
        self._clock.wait(self._stop, RETRY_S)

    def _lose(self, reason: GapReason) -> None:
        self._close()
        self._drift.broken()
        self._ring.interrupt(reason, self._clock.monotonic_ns())

    def _close(self) -> None:
        if self._microphone is not None:
            self._microphone.close()
            self._microphone = None
