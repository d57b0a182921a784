"""What the kernel says on the machines of this directory (README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parent
TREES: Final = ("pi3", "pi3-debian", "pi4", "pi5", "zero2w", "cm4", "not-a-pi")
SPOOL: Final = Path("/var/lib/kiosk-recorder/spool")
