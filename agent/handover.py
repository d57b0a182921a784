"""Settings on their way from the process that validated them into the one that lives by them (docs/adr/0002).

`kiosk-recorder record` reads the configuration with pydantic, lays the plain result into an anonymous file in memory
and then becomes `python -m agent.recorder`, which inherits the file by its number. Nothing is written to the card, and
no process but these two ever sees it.
"""

from __future__ import annotations

import os
import pickle

from agent.errors import KioskError
from agent.settings import Settings


def hand_over(settings: Settings) -> int:
    """Put `settings` into a memory file that `exec` leaves open; its descriptor."""
    descriptor = os.memfd_create("kiosk-recorder-settings", 0)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        pickle.dump(settings, file, pickle.HIGHEST_PROTOCOL)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def take_over(descriptor: int) -> Settings:
    """What `hand_over` put there; the descriptor is closed. Raises KioskError when it holds something else."""
    try:
        with os.fdopen(descriptor, "rb") as file:
            settings = pickle.load(file)  # noqa: S301 (written by this very program a moment ago, in memory)
    except (OSError, EOFError, ValueError, LookupError, AttributeError, ImportError, pickle.UnpicklingError) as error:
        raise _nothing_there(descriptor) from error
    if not isinstance(settings, Settings):
        raise _nothing_there(descriptor)
    return settings


def _nothing_there(descriptor: int) -> KioskError:
    return KioskError(
        "take over settings",
        place=f"descriptor {descriptor}",
        cause="no settings are there",
        hint="start it with `kiosk-recorder record` or `kiosk-recorder courier`, which read the configuration first",
    )
