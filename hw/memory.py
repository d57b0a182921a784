"""Memory: what the machine has left, where it swaps to, and what one process takes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hw.kernel import count_of, told

_MACHINE: Final = Path("/")
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Swap:
    """One swap area."""

    path: str
    goes_to: Literal["memory", "disk"]
    """A zram device is compressed memory, unless it writes back what is idle to a disk, as that of trixie does."""
    size_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The machine's memory at one moment. None is what the kernel doesn't tell."""

    total_bytes: int | None
    available_bytes: int | None
    """What can be had without swapping, by the kernel's own estimate."""
    pressure_pct: float | None
    """How much of the last minute somebody waited for memory. Raspberry Pi OS tells it only when started with psi=1."""
    swaps: tuple[Swap, ...] | None


def read_memory(root: Path = _MACHINE) -> Memory:
    """Of the machine (proc_meminfo(5), proc_swaps(5), Documentation/accounting/psi.rst)."""
    meminfo = told(root / "proc/meminfo") or ""
    swaps = told(root / "proc/swaps")
    return Memory(
        _of_meminfo(meminfo, "MemTotal"),
        _of_meminfo(meminfo, "MemAvailable"),
        pressure_of(told(root / "proc/pressure/memory") or ""),
        None if swaps is None else swaps_of(swaps, root),
    )


def pressure_of(text: str) -> float | None:
    """The minute's "some" in the text of /proc/pressure/memory."""
    found = re.search(r"^some .*\bavg60=([0-9]{1,3}\.[0-9]{2})\b", text, re.MULTILINE)
    return float(found[1]) if found else None


def swaps_of(text: str, root: Path = _MACHINE) -> tuple[Swap, ...]:
    """The areas in the text of /proc/swaps; a line that makes no sense is none."""
    swaps: list[Swap] = []
    for line in text.splitlines()[1:]:
        match line.split():
            case [path, _, size, used, _]:
                kib = count_of(size), count_of(used)
                if kib[0] is not None and kib[1] is not None:
                    swaps.append(Swap(path, _goes_to(path, root), kib[0] * _KIB, kib[1] * _KIB))
            case _:
                pass
    return tuple(swaps)


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process; None when it is gone or hidden."""
    match (told(Path(f"/proc/{pid}/statm")) or "").split():
        case [_, resident, *_]:
            pages = count_of(resident)
            return None if pages is None else pages * os.sysconf("SC_PAGE_SIZE")
        case _:
            return None


def _of_meminfo(text: str, name: str) -> int | None:
    found = re.search(rf"^{name}: +([0-9]{{1,15}}) kB$", text, re.MULTILINE)
    return int(found[1]) * _KIB if found else None


def _goes_to(path: str, root: Path) -> Literal["memory", "disk"]:
    """Without writeback, or a kernel that could do it, a zram device is memory alone (blockdev/zram.rst)."""
    device = re.fullmatch(r"/dev/(zram[0-9]+)", path)
    if device is None:
        return "disk"
    backing = told(root / f"sys/block/{device[1]}/backing_dev")
    return "memory" if backing in (None, "none") else "disk"
