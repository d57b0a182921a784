"""The machine's clocks: real time, monotonic time, which boot this is, and whether real time can be trusted.

Everything that needs a time or a pause takes a `Clock`, so that a test can own both.
"""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path
from typing import Protocol

from agent.units import Nanoseconds
from hw.kernel import entries, told

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_TIME_SERVICES = {
    "systemd-timesyn": "systemd-timesyncd",
    "chronyd": "chronyd",
    "ntpd": "ntpd",
    "ntp-daemon": "ntpd-rs",
    "openntpd": "openntpd",
}
"""What sets clocks on Debian, by the name that the kernel gives its process: 15 bytes of it (proc_pid_comm(5))."""

_TIME_ERROR = 5
"""What adjtimex(2) returns while the kernel's clock isn't synchronised."""


class Clock(Protocol):
    """Real time, monotonic time, pauses."""

    @property
    def boot(self) -> str:
        """This boot's id, 32 hex digits; monotonic times mean nothing without it."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, as the machine believes right now."""

    def monotonic_ns(self) -> Nanoseconds:
        """Nanoseconds on CLOCK_MONOTONIC: never stepped, starts over at each boot."""

    def synchronised(self) -> bool:
        """Whether the kernel says that real time is disciplined by a time source."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Pause until `event` is set (True) or `seconds` have passed (False)."""


def time_services(root: Path = Path("/")) -> list[str]:
    """What runs that sets this machine's clock."""
    processes = (entry for entry in entries(root / "proc") if entry.name.isdigit())
    names = {told(process / "comm") for process in processes}
    return [service for name, service in _TIME_SERVICES.items() if name in names]


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2). Only the size matters here: `modes = 0` reads and changes nothing."""

    _fields_ = (("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 256))


class SystemClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self._boot = _BOOT_ID.read_text().strip().replace("-", "")
        self._adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex

    @property
    def boot(self) -> str:
        return self._boot

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> Nanoseconds:
        return Nanoseconds(time.monotonic_ns())

    def synchronised(self) -> bool:
        state: int = self._adjtimex(ctypes.byref(_Timex(modes=0)))
        return 0 <= state < _TIME_ERROR

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)
