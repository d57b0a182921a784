"""What a process asks of the kernel: keep speech out of swap, leave no core dump, tell when it shall end."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

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


def on_request_to_end(end: Callable[[], None]) -> None:
    """Have a thread of its own call `end` for each SIGTERM or SIGINT. From the main thread, once.

    A handler runs in the midst of whatever the main thread does. What it did with a lock or an event that the main
    thread has in hands at that very moment would wait for ever; to put into a SimpleQueue is all that it may.
    """
    requests: SimpleQueue[int] = SimpleQueue()

    def heed() -> None:
        while True:
            requests.get()
            end()

    threading.Thread(target=heed, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: requests.put(given))


def swap_in_use(table: Path = Path("/proc/swaps")) -> bool:
    """Whether this machine writes memory elsewhere; zram counts, for it may write back to a disk."""
    try:
        return len(table.read_text().splitlines()) > 1
    except OSError:
        return False
