"""The feature flags that there are: what the fleet may choose, and what holds where nobody chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

VARIABLE_PREFIX: Final = "KIOSK_RECORDER_FLAG_"


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that can be chosen."""

    name: str
    variants: tuple[str, ...]
    default: str
    """What holds where nobody chose."""
    description: str

    @property
    def variable(self) -> str:
        """The environment variable that wins over everything."""
        return VARIABLE_PREFIX + self.name.upper()


OFFLINE_RECORDING: Final = Flag(
    "offline_recording",
    ("on", "off"),
    "on",
    "Recordings go to the spool on the card, and wait there for the network; off: to memory, uploaded at once.",
)

FLAGS: Final[Mapping[str, Flag]] = {flag.name: flag for flag in (OFFLINE_RECORDING,)}
"""All there are, by name."""
