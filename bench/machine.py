"""The machine a result belongs to, in general terms: enough to judge it, nothing that identifies it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path


def describe() -> dict[str, str | int]:
    """Processor, cores, memory, kernel, and the versions of what is compared."""
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(int(memory.split()[1]) / 2**20),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        **{name: _version(*command) for name, command in _TOOLS.items()},
    }


_TOOLS = {
    "arecord": ("arecord", "--version"),
    "flac": ("flac", "--version"),
    "ffmpeg": ("ffmpeg", "-version"),
    "sox": ("sox", "--version"),
    "rclone": ("rclone", "version"),
}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _version(*command: str) -> str:
    try:
        words = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        return "not installed"
    return next((word.lstrip("v") for word in words if word.lstrip("v")[:1].isdigit()), "unknown")


class Bustle:
    """How busy the machine is with everything, ours included: a noisy neighbour shows here."""

    def __init__(self) -> None:
        self._busy, self._all = _jiffies()
        self._began = time.monotonic()

    def busy_pct(self) -> float:
        """Percent of all cores in use since construction."""
        busy, total = _jiffies()
        return round(100 * (busy - self._busy) / max(1, total - self._all), 1)


def _jiffies() -> tuple[int, int]:
    with Path("/proc/stat").open() as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)
