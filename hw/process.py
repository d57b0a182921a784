"""What a process that holds speech asks of the kernel: stay out of swap, leave no core dump."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # bits of mlockall(2)


def lock_memory() -> None:
    """Keep every page that is used out of swap, without using more pages. Raises OSError when not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def forbid_core_dumps() -> None:
    """A crash must not write what was heard to the card."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def swap_in_use(table: Path = Path("/proc/swaps")) -> bool:
    """Whether this machine writes memory elsewhere; zram counts, for it may write back to a disk."""
    try:
        return len(table.read_text().splitlines()) > 1
    except OSError:
        return False
