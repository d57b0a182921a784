"""The recorder's own directory in memory: what it would keep on the card, for while the card can't be used.

    <runtime>/direct/    orders.json, recipients.json, erase/, and the spool of the direct path (agent.recorder.direct)

Beside it anybody of the group may put things. So systemd-tmpfiles makes it, before anybody is started; where it is made
otherwise and isn't the recorder's, nothing in there counts, and nothing is put there.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


def memory_of(runtime: Path) -> Path:
    """Where it is."""
    return runtime / "direct"


def is_own(memory: Path) -> bool:
    """Whether it is there, and nobody else's. Root, who only looks, believes what it finds."""
    try:
        found = os.lstat(memory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and os.geteuid() in (0, found.st_uid)


def make_own(memory: Path) -> None:
    """Make it if it's missing. Raises OSError, also when it is another's."""
    memory.mkdir(mode=0o750, parents=True, exist_ok=True)
    if not is_own(memory):
        raise PermissionError(errno.EPERM, "it is another user's", str(memory))


def kept_in(card: Path, memory: Path, name: str) -> Iterator[Path]:
    """Where a file that is kept twice may be; what is in memory that isn't our own is told of and passed over."""
    yield card / name
    if is_own(memory):
        yield memory / name
    elif os.path.lexists(memory):
        log.error("%s is another user's: nothing in there counts", memory)
