"""Files that hold secrets: passwords, keys, tokens."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

_CREDENTIALS: Final = Path("/run/credentials")
"""What systemd gives a service alone (LoadCredential=). An access list lets it read what root owns, and that list's
mask stands where the group's permissions otherwise would."""


def others_may_read(path: Path) -> bool:
    """Whether anybody but the owner of a file may use it. Raises OSError when it isn't there or out of sight."""
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o077) and not path.is_relative_to(_CREDENTIALS)
