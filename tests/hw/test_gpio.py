"""Button and light on gpiozero's mock pins, and on real ones where there are some."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import Any

import pytest
from gpiozero import Device

from agent.errors import KioskError
from hw import gpio
from hw.gpio import Button, Light, Rhythm
from tests.soundcard import eventually

LED, BUTTON = 17, 27
STEADY, DARK = Rhythm(1, 0), Rhythm(0, 1)


def lit(pins: Any) -> bool:  # noqa: ANN401 (gpiozero has no types)
    return bool(pins.pin(LED).state)


def test_a_light_is_lit_dark_or_blinks_and_goes_dark_at_its_end(pins: Any, tmp_path: Path) -> None:  # noqa: ANN401
    light = Light(LED, tmp_path)
    assert not lit(pins)
    light.show(STEADY)
    assert lit(pins)
    light.show(DARK)
    assert not lit(pins)
    light.show(Rhythm(0.01, 0.01))
    for state in (True, False, True):
        eventually(lambda state=state: lit(pins) is state, "it blinks")  # type: ignore[misc]
    light.show(STEADY)
    assert lit(pins)
    light.close()
    assert not lit(pins)


def test_a_button_tells_of_a_press_at_once_and_of_holding_later(
    pins: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpio, "HOLD_S", 0.02)
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    button = Button(BUTTON, tmp_path, lambda: told.put("pressed"), lambda: told.put("held"))
    pin = pins.pin(BUTTON)
    assert pin.pull == "up"
    assert pin.bounce == gpio.DEBOUNCE_S
    pin.drive_low()
    assert told.get(timeout=10) == "pressed"
    assert told.get(timeout=10) == "held"
    pin.drive_high()
    pin.drive_low()
    assert told.get(timeout=10) == "pressed"
    button.close()


def test_pins_that_others_use_and_machines_without_pins_are_told_of(
    pins: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    light = Light(LED, tmp_path)
    with pytest.raises(KioskError, match="GPIO 17"):
        Light(LED, tmp_path)
    light.close()
    if Path("/proc/device-tree/model").exists():
        return
    Device.pin_factory = None
    with pytest.raises(KioskError, match="no library reaches the pins"):
        Light(LED, tmp_path)
    Device.pin_factory = pins


def test_real_pins_that_a_wire_joins_hear_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wired = os.environ.get("KIOSK_WIRED_PINS", "")
    if not wired:
        pytest.skip("no real pins: on a Pi, join two lines by a wire and name them: KIOSK_WIRED_PINS=17,27")
    first, second = map(int, wired.split(","))
    monkeypatch.setattr(gpio, "HOLD_S", 0.5)
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    light = Light(first, tmp_path)
    light.show(STEADY)
    button = Button(second, tmp_path, lambda: told.put("pressed"), lambda: told.put("held"))
    light.show(DARK)
    assert told.get(timeout=10) == "pressed"
    assert told.get(timeout=10) == "held"
    button.close()
    light.close()
