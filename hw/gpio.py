"""A button and a light on the Raspberry Pi's pins, by gpiozero.

The only module that knows that library, which is loaded when the first pin is asked for: a kiosk without a button and a
light doesn't carry it. Numbers are those of the GPIO lines (BCM). The button connects its line to ground, the light
hangs on its own with a resistor. Which library drives the pins is gpiozero's affair: lgpio on a Pi, which comes from
PyPI as `lgpio`, and as `adafruit-lgpio` for Python 3.13.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.errors import KioskError

if TYPE_CHECKING:
    from types import ModuleType

DEBOUNCE_S: Final = 0.03
"""A switch's contacts bounce for up to 20 ms or so; a finger is slower."""

HOLD_S: Final = 3.0
"""From when on a press counts as holding."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a light is on and off by turns, for ever."""

    on_s: float
    """0: dark throughout."""
    off_s: float
    """0: lit throughout."""


class Light:
    """One LED, which shows a rhythm by a thread of gpiozero's; a steady one costs nothing."""

    def __init__(self, line: int, scratch: Path) -> None:
        """`scratch` is a directory in memory where lgpio keeps a pipe. Raises KioskError."""
        self._led = _made(line, scratch, lambda gpiozero: gpiozero.LED(line))

    def show(self, rhythm: Rhythm) -> None:
        """Change to `rhythm`."""
        if not rhythm.off_s:
            self._led.on()
        elif not rhythm.on_s:
            self._led.off()
        else:
            self._led.blink(rhythm.on_s, rhythm.off_s)

    def close(self) -> None:
        """Go dark, and give the line back: a line that is only given back may stay as it is."""
        self._led.off()
        self._led.close()


class Button:
    """A push button."""

    def __init__(self, line: int, scratch: Path, pressed: Callable[[], None], held: Callable[[], None]) -> None:
        """`pressed` is called when it goes down, `held` when it's still down `HOLD_S` later; by threads of gpiozero's.

        `scratch` is as for `Light`. Raises KioskError.
        """
        self._button = _made(
            line,
            scratch,
            lambda gpiozero: gpiozero.Button(line, bounce_time=DEBOUNCE_S, hold_time=HOLD_S),
        )
        self._button.when_pressed = pressed
        self._button.when_held = held

    def close(self) -> None:
        """Give the line back."""
        self._button.close()


def try_pins(led: int, button: int, scratch: Path) -> None:
    """Take the lines of a light and of a button, 0 for none, and give them back. Raises KioskError for the first."""
    if led:
        Light(led, scratch).close()
    if button:
        Button(button, scratch, lambda: None, lambda: None).close()


def _made(line: int, scratch: Path, make: Callable[[ModuleType], Any]) -> Any:  # noqa: ANN401 (gpiozero has no types)
    # Read when lgpio is loaded; else the pipe lies in the working directory, which a service can't write.
    os.environ.setdefault("LG_WD", str(scratch))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about each library that it tries in vain: the error says enough
            import gpiozero

            return make(gpiozero)
    except Exception as error:  # whatever a pin library raises, down to lgpio's own class: the room is heard without
        raise KioskError(
            "use pin",
            place=f"GPIO {line}",
            cause=_cause(error),
            hint="it takes a Raspberry Pi, lgpio and the group gpio; recording goes on anyway",
        ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "no library reaches the pins of this machine"
    return f"{error}" or type(error).__name__
