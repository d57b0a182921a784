"""The Raspberry Pi itself: which one it is, its temperature, and whether its power supply is up to it.

What isn't a Pi, or doesn't tell, gives None. docs/HARDWARE.md has the sources and why these; in short:

- Identity: the device tree, /proc/device-tree/{model,serial-number} (kernel, Documentation/ABI/testing/
  sysfs-firmware-ofw; the firmware fills them in). Anything else may have a model and a serial there as well: only what
  calls itself a Raspberry Pi is believed.
- Temperature: the thermal zone of type "cpu-thermal", in thousandths of a degree (Documentation/driver-api/thermal/
  sysfs-api.rst).
- Undervoltage: `in0_lcrit_alarm` of the hwmon device "rpi_volt", 1 or 0 (Documentation/hwmon/raspberrypi-hwmon.rst).
  Everybody may read it, and Raspberry Pi's kernels have it since 4.19. The driver asks the firmware every 2 s; the
  alarm stands for those 2 s. Zeros have no voltage detector, and so an alarm that means nothing.
- Throttling: only the firmware knows. It is asked as `vcgencmd get_throttled` does, by /dev/vcio_gencmd (kernels since
  May 2026) or /dev/vcio, where this user may open one: root may. `vcio` lets its user run code on the firmware's
  processor, which reaches all memory, so a process with a network shouldn't be given it.

Not read: /sys/…/soc:firmware/get_throttled. Kernels since March 2025 don't have it, and older ones put a warning with
a stack trace into the journal when it is read.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hw.kernel import entries, number_of, text_of, told

_MACHINE: Final = Path("/")

_PI: Final = "Raspberry Pi "
_NO_DETECTOR: Final = "Raspberry Pi Zero"
"""raspberrypi.com, "Power supply warnings": all models since the B+ detect low voltage "except the Zero range"."""

_CREDIBLE_C: Final = (-50.0, 150.0)
"""What is outside of it is no temperature of a processor that still computes."""

THROTTLED_WORDS: Final = {
    0: "undervoltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
"""The bits of `throttled`, now; 16 bits higher those of since the start (raspberrypi.com, `vcgencmd get_throttled`)."""

_SINCE_START: Final = 16

_GENCMD: Final = 0x00030080  # GET_GENCMD_RESULT
_ANSWER_BYTES: Final = 1024
_MAILBOX: Final = (3 << 30) | (ctypes.sizeof(ctypes.c_char_p) << 16) | (100 << 8)
"""IOCTL_MBOX_PROPERTY of drivers/char/broadcom/vcio.c: _IOWR(100, 0, char *)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which Raspberry Pi this is; both None if it isn't one."""

    model: str | None
    """Such as "Raspberry Pi 4 Model B Rev 1.4"."""
    serial: str | None
    """16 hex digits, burned in."""


@dataclass(frozen=True, slots=True)
class Board:
    """How the board is doing. None is what nothing tells."""

    temperature_c: float | None
    undervoltage: bool | None
    """Whether the supply is too low now or was since the reading before."""
    throttled: int | None
    """The firmware's bits, see THROTTLED_WORDS."""


def identity(root: Path = _MACHINE) -> Identity:
    """Which Raspberry Pi this is."""
    model = told(root / "proc/device-tree/model")
    if model is None or not model.startswith(_PI):
        return Identity(None, None)
    return Identity(model, told(root / "proc/device-tree/serial-number"))


class Sensors:
    """Reads the board again and again. Belongs to one thread."""

    def __init__(self, root: Path = _MACHINE) -> None:
        self._root = root
        model = identity(root).model
        self._is_pi = model is not None
        has_detector = model is not None and not model.startswith(_NO_DETECTOR)
        self._alarm = Alarm(root) if has_detector else None

    def read(self) -> Board:
        """What the board tells now. May take a second, but only when the firmware hangs, which then answers nothing."""
        throttled = _throttled(self._root) if self._is_pi else None
        undervoltage = None
        if self._alarm is not None:
            undervoltage = self._alarm.read()
            if undervoltage is None and throttled is not None:
                undervoltage = bool(throttled & 1)
        return Board(_temperature_c(self._root), undervoltage, throttled)

    def close(self) -> None:
        """Let go of the alarm's file."""
        if self._alarm is not None:
            self._alarm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def throttled_words(bits: int) -> tuple[list[str], list[str]]:
    """What the bits say of now, and of the time since the start."""
    return (
        [word for bit, word in THROTTLED_WORDS.items() if bits >> bit & 1],
        [word for bit, word in THROTTLED_WORDS.items() if bits >> bit + _SINCE_START & 1],
    )


class Alarm:
    """The undervoltage alarm. Kept open: sysfs tells a file's reader by poll(2) that it changed since it was read.

    A supply that gives in under load does so for moments: whoever only looks twice a minute would hardly ever see it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptor: int | None = None

    def read(self) -> bool | None:
        """Whether it is raised, or was since the last time; None when there is none."""
        changed = self.changed()
        if self._descriptor is None:
            self._descriptor = _open_alarm(self._root)
        if self._descriptor is None:
            return None
        try:
            value = text_of(os.pread(self._descriptor, 16, 0))
        except OSError:
            # The driver is gone; it may come back.
            self.close()
            return None
        return {"0": changed, "1": True}.get(value or "")

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def changed(self) -> bool:
        """Whether a file that was read before has told something else meanwhile."""
        if self._descriptor is None:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLPRI)
        return any(event & select.POLLPRI for _, event in poll.poll(0))


def _open_alarm(root: Path) -> int | None:
    for device in entries(root / "sys/class/hwmon"):
        # Numbers are given in the order in which drivers come up: only the name stays.
        if told(device / "name") == "rpi_volt":
            with contextlib.suppress(OSError):
                return os.open(device / "in0_lcrit_alarm", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return None


def _temperature_c(root: Path) -> float | None:
    for zone in entries(root / "sys/class/thermal"):
        if told(zone / "type") == "cpu-thermal":
            thousandths = number_of(told(zone / "temp"))
            if thousandths is not None and _CREDIBLE_C[0] <= thousandths / 1000 <= _CREDIBLE_C[1]:
                return thousandths / 1000
    return None


def _throttled(root: Path) -> int | None:
    for device in ("vcio_gencmd", "vcio"):
        try:
            descriptor = os.open(root / "dev" / device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        message = gencmd("get_throttled")
        try:
            if _exchange(descriptor, message):
                return throttled_of(text_of(message.raw[24:]))
        finally:
            os.close(descriptor)
    return None


def gencmd(command: str) -> ctypes.Array[ctypes.c_char]:
    """A message to the firmware, laid out as in raspberrypi/utils, vcgencmd.c; the answer takes the command's place."""
    head = struct.pack("=6I", 28 + _ANSWER_BYTES, 0, _GENCMD, _ANSWER_BYTES, 0, 0)
    return ctypes.create_string_buffer(head + command.encode(), 28 + _ANSWER_BYTES)


def throttled_of(answer: str | None) -> int | None:
    """The bits in "throttled=0x50005"."""
    found = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})", answer or "")
    return int(found[1], 16) if found else None


def _exchange(descriptor: int, message: ctypes.Array[ctypes.c_char]) -> bool:
    """Have the firmware answer into `message`; False when it doesn't. The kernel waits a second at most.

    By ctypes, which lets go of the interpreter meanwhile; fcntl.ioctl does so only for smaller messages.
    """
    status: int = ctypes.CDLL(None).ioctl(descriptor, ctypes.c_ulong(_MAILBOX), message)
    return status == 0 and struct.unpack_from("=I", message.raw, 20)[0] == 0
