"""The light and the button in the room, as far as this kiosk has them.

The main thread alone changes the light; whoever turns often calls `poke`, which wakes it when there is something else
to show. Pins that can't be used are told of, and keep nobody from recording.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.contract.metrics import RecorderState
from agent.errors import KioskError
from agent.recorder.light import WARNING_S, Sign, Situation, sign_of
from agent.recorder.memory import make_own, memory_of
from agent.recorder.orders import Orders
from agent.settings import Gpio
from agent.status import uploading_mark
from agent.units import NS_PER_S
from hw.clock import Clock
from hw.gpio import Button, Light

log = logging.getLogger(__name__)

_REST_S: Final = 5.0
_SOON_S: Final = 0.1
"""How often to look while it isn't decided what to show."""

_UPLOADING_NS: Final = 5 * NS_PER_S
"""How long an upload is shown: most take less than a second, and a person looks up rarely."""


class Panel:
    """Belongs to the main thread, but for `poke` and what the button calls."""

    def __init__(
        self,
        gpio: Gpio,
        runtime: Path,
        clock: Clock,
        orders: Orders,
        state: Callable[[], RecorderState],
        may_resume: Callable[[], bool],
        hearing: Callable[[], bool],
    ) -> None:
        """`state` tells what the recorder does; `may_resume` whether it would record if nobody wanted quiet.

        `hearing` tells whether the microphone is open.
        """
        self._gpio = gpio
        self._runtime = runtime
        self._scratch = memory_of(runtime) / "pins"
        self._clock = clock
        self._orders = orders
        self._state = state
        self._may_resume = may_resume
        self._hearing = hearing
        self._light: Light | None = None
        self._button: Button | None = None
        self._shown: Sign | None = None
        self._identify_until_ns = 0
        self._mark = uploading_mark(runtime)
        self._uploading_until_ns = 0
        self.trouble = ""
        """What of it can't be used, for a person; empty when all can."""

    @property
    def lit(self) -> bool:
        """Whether there is a light that can show something."""
        return self._light is not None

    def open(self) -> None:
        """Take the pins. One that can't be used doesn't keep the other from being used."""
        if self._gpio.led:
            self._try(self._take_light)
        if self._gpio.button:
            self._try(self._take_button)

    def _take_light(self) -> None:
        self._light = Light(self._gpio.led, self._private())

    def _take_button(self) -> None:
        self._button = Button(self._gpio.button, self._private(), self._orders.press, self._orders.hold)

    def _private(self) -> Path:
        """Where lgpio's pipe can lie: whoever may write into that presses the button. Raises KioskError."""
        try:
            make_own(self._scratch.parent)
            self._scratch.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise KioskError("use pins", place=str(self._scratch), cause=error.strerror or str(error)) from error
        return self._scratch

    def _try(self, take: Callable[[], None]) -> None:
        try:
            take()
        except KioskError as error:
            self.trouble = str(error)
            log.error("%s", error)  # noqa: TRY400 (it says enough)

    def close(self) -> None:
        """Go dark: nobody records any more."""
        for part in (self._button, self._light):
            if part is not None:
                part.close()
        self._button = self._light = None

    def identify(self, minutes: int) -> None:
        """Show which kiosk this is."""
        self._identify_until_ns = self._clock.monotonic_ns() + minutes * 60 * NS_PER_S
        self._orders.awake.set()

    def poke(self) -> None:
        """Wake the main thread if there is something else to show."""
        if self._light is not None and self._sign() not in (self._shown, None):
            self._orders.awake.set()

    def step(self) -> float:
        """Show what is to be shown; seconds until that may be something else without anybody calling `poke`."""
        light = self._light
        if light is None:
            return _REST_S
        sign = self._sign()
        if sign is not None and sign != self._shown:
            light.show(sign.rhythm)
            self._shown = sign
        return self._rest_s(undecided=sign is None)

    def _rest_s(self, *, undecided: bool) -> float:
        quiet = self._orders.quiet() is not None
        if undecided or quiet != (self._state() in ("muted", "paused")):
            # Somebody wants quiet, and the microphone isn't closed yet or the card hasn't said that it knows.
            return _SOON_S
        left_s = self._left_s()
        if not quiet or left_s is None or left_s <= WARNING_S:
            return _REST_S
        return min(_REST_S, left_s - WARNING_S)

    def _sign(self) -> Sign | None:
        return sign_of(
            Situation(
                state=self._state(),
                left_s=self._left_s(),
                keeping=self._orders.keeping,
                uploading=self._uploading(),
                identifying=self._clock.monotonic_ns() < self._identify_until_ns,
                hearing=self._hearing(),
            )
        )

    def _left_s(self) -> float | None:
        left_ns = self._orders.until_heard_ns()
        return None if left_ns is None or not self._may_resume() else left_ns / NS_PER_S

    def _uploading(self) -> bool:
        mark, now_ns = uploading_mark(self._runtime), self._clock.monotonic_ns()
        if mark != self._mark:
            self._mark, self._uploading_until_ns = mark, now_ns + _UPLOADING_NS
        return now_ns < self._uploading_until_ns
