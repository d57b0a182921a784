"""Files that hold secrets: passwords, keys, tokens. Whoever reads one reads it by this module."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from agent.errors import KioskError

_CREDENTIALS: Final = Path("/run/credentials")
"""What systemd gives a service alone (LoadCredential=). An access list lets it read what root owns, and that list's
mask stands where the group's permissions otherwise would."""

_MOST_BYTES: Final = 1 << 20


def read(path: Path, operation: str, *, hint: str = "", retryable: bool = False) -> bytes:
    """What a file of secrets holds, its first MiB at most.

    Raises KioskError when others may read it, too, and when it can't be read; `hint` is for that.
    """
    try:
        with path.open("rb") as file:
            if _is_shared(path, os.fstat(file.fileno())):
                raise _shared(path, operation, retryable=retryable)
            return file.read(_MOST_BYTES)
    except OSError as error:
        raise KioskError(
            operation, place=str(path), cause=error.strerror or str(error), hint=hint, retryable=retryable
        ) from error


def password(path: Path, operation: str, *, hint: str = "", retryable: bool = False) -> str:
    """The first line of such a file. Raises as `read`, and when it isn't text."""
    try:
        lines = read(path, operation, hint=hint, retryable=retryable).decode().splitlines()
    except UnicodeDecodeError:
        # Python's own words show a part of what it stumbled over.
        raise KioskError(operation, place=str(path), cause="it isn't UTF-8 text", retryable=retryable) from None
    return lines[0] if lines else ""


def refuse_shared(path: Path, operation: str, *, retryable: bool = False) -> None:
    """KioskError when others may read what a library will read itself. Raises OSError as `others_may_read`."""
    if others_may_read(path):
        raise _shared(path, operation, retryable=retryable)


def others_may_read(path: Path) -> bool:
    """Whether anybody but the owner of a file may use it. Raises OSError when it isn't there or out of sight."""
    return _is_shared(path, path.stat())


def _is_shared(path: Path, found: os.stat_result) -> bool:
    return bool(stat.S_IMODE(found.st_mode) & 0o077) and not path.is_relative_to(_CREDENTIALS)


def _shared(path: Path, operation: str, *, retryable: bool) -> KioskError:
    return KioskError(
        operation, place=str(path), cause="others may read it", hint=f"chmod 600 {path}", retryable=retryable
    )
