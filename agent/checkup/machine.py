"""The Pi: temperature, power, swap, memory, and the room's button and light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from agent.checkup.finding import Finding, of_error
from agent.checkup.sealing import recipients_of
from agent.checkup.stead import in_stead_of
from agent.checkup.visit import Visit
from agent.errors import KioskError, without_hint
from agent.limits import Alerts
from agent.units import human_bytes
from hw.board import Board, Sensors, throttled_words
from hw.gpio import try_pins
from hw.memory import Memory, read_memory

_PINS: Final = "button and light"
_TIGHT_BYTES: Final = 64 << 20

_SUPPLY: Final = "use the Raspberry Pi's own power supply and a short cable: cards are damaged by weak ones"


def look(visit: Visit) -> Iterator[Finding]:
    """What the board and the kernel tell; what they don't is grey, never invented."""
    with Sensors(visit.root) as sensors:
        board = sensors.read()
    yield temperature(board, visit.settings.alerts)
    yield power(board)
    memory = read_memory(visit.root)
    yield swap(memory, sealed=bool(recipients_of(visit)))
    yield _memory(memory)
    if visit.settings.gpio.led or visit.settings.gpio.button:
        yield from _pins(visit) if visit.recorder_pid else in_stead_of("kiosk-recorder", _tried_pins, visit)


def _pins(visit: Visit) -> Iterator[Finding]:
    """The running recorder has them: by its word."""
    picture = visit.picture()
    if picture is None:
        yield Finding(_PINS, "grey", "the recorder has them, and hasn't told yet how it gets on", "check again")
    elif picture.pins:
        what, hint = without_hint(picture.pins)
        yield Finding(_PINS, "red", f"as the running recorder tells: {what}", hint)
    else:
        yield Finding(_PINS, "green", f"the running recorder has {_lines(visit)}")


def _tried_pins(visit: Visit) -> list[Finding]:
    gpio = visit.settings.gpio
    with TemporaryDirectory(prefix="kiosk-recorder-check-") as scratch:
        try:
            try_pins(gpio.led, gpio.button, Path(scratch))
        except KioskError as error:
            return [of_error(_PINS, error)]
    return [Finding(_PINS, "green", f"{_lines(visit)} can be used")]


def _lines(visit: Visit) -> str:
    gpio = visit.settings.gpio
    return " and ".join(
        f"GPIO {line} for the {what}" for what, line in (("light", gpio.led), ("button", gpio.button)) if line
    )


def temperature(board: Board, limits: Alerts) -> Finding:
    """By the limits of the alert."""
    found, limit = board.temperature_c, limits.temperature
    if found is None:
        return Finding("temperature", "grey", "not available: only a Raspberry Pi tells")
    text, facts = f"{found:.1f} °C", {"temperature_c": found}
    air = "give the case air, or a fan; keep it out of the sun"
    if limit.critical is not None and found > limit.critical:
        return Finding("temperature", "red", text, air, facts)
    if limit.warning is not None and found > limit.warning:
        return Finding("temperature", "yellow", text, air, facts)
    return Finding("temperature", "green", text, facts=facts)


def power(board: Board) -> Finding:
    """What the undervoltage alarm and the firmware say."""
    if board.undervoltage:
        return Finding("power supply", "red", "too little voltage now", _SUPPLY)
    now, since_start = throttled_words(board.throttled or 0)
    if now or since_start:
        told = "; ".join(
            f"{when}: {', '.join(words)}" for when, words in (("now", now), ("since the start", since_start)) if words
        )
        return Finding("power supply", "yellow", told, _SUPPLY)
    if board.undervoltage is None and board.throttled is None:
        return Finding("power supply", "grey", "not available: this machine doesn't tell")
    return Finding("power supply", "green", "enough voltage")


def swap(memory: Memory, *, sealed: bool) -> Finding:
    """What was heard must not reach the card by way of swap where recordings are sealed."""
    if memory.swaps is None:
        return Finding("swap", "grey", "not available")
    on_disk = [each for each in memory.swaps if each.goes_to == "disk"]
    if not on_disk:
        kinds = "none" if not memory.swaps else "to compressed memory alone"
        return Finding("swap", "green", kinds)
    text = f"to {', '.join(each.path for each in on_disk)}: it wears the card, and memory reaches it in plain"
    return Finding(
        "swap", "red" if sealed else "yellow", text, "turn it off, or use zram: `swapoff -a`, then dphys-swapfile"
    )


def _memory(memory: Memory) -> Finding:
    if memory.available_bytes is None:
        return Finding("memory", "grey", "not available")
    text = f"{human_bytes(memory.available_bytes)} available"
    facts = {"available_bytes": memory.available_bytes}
    if memory.available_bytes < _TIGHT_BYTES:
        return Finding("memory", "yellow", text, "end what else runs here", facts)
    return Finding("memory", "green", text, facts=facts)
