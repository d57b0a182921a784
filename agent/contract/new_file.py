"""Files that are made once, whole, and never replaced: keys."""

from __future__ import annotations

import os
from pathlib import Path

from agent.spool import sync_directory


def make(path: Path, content: bytes, *, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Durable when it returns. `owner` are the user and group it is given to.

    Raises FileExistsError, with the file that is there untouched, and OSError.
    """
    # Under another name first: a power cut must not leave half a key where a key is looked for.
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        if owner is not None:
            os.fchown(descriptor, *owner)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    try:
        os.link(fresh, path)
    finally:
        fresh.unlink()
    sync_directory(path.parent)
