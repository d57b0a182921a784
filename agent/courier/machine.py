"""What the operating system knows about the courier's machine: memory, room on the card, wear."""

from __future__ import annotations

import os
from pathlib import Path

from agent.spool import files_below


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process; None when it is gone or hidden."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def free_bytes(directory: Path) -> int | None:
    """Room that ordinary users have on the file system of `directory`."""
    try:
        usage = os.statvfs(directory)
    except OSError:
        return None
    return usage.f_bavail * usage.f_frsize


def directory_bytes(directory: Path) -> int:
    """Sum of the sizes of the files directly in `directory`."""
    total = 0
    for entry in files_below(directory):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total


def lifetime_written_bytes(directory: Path) -> int | None:
    """Bytes ever written to the ext4 file system of `directory`; None where the kernel doesn't count them."""
    try:
        device = directory.stat().st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve(strict=True).name
        return int(Path(f"/sys/fs/ext4/{name}/lifetime_write_kbytes").read_text()) * 1024
    except (OSError, ValueError):
        return None
