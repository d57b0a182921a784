"""What the light in the room says: one table, of which docs/ROOM.md tells people. Pure.

Mostly lit is heard, mostly dark is not heard, and half and half is about to change or in need of somebody. Nobody is
told that the room is muted before a power cut couldn't undo it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from agent.contract.metrics import RecorderState
from hw.gpio import Rhythm

WARNING_S: Final = 60.0
"""DESIGN §5: how long before it recording is announced."""

Keeping = Literal["kept", "under way", "failed"]
"""Whether the card has what was ordered."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that the light can say."""

    rhythm: Rhythm
    seen: str
    """As a person in the room would put it."""
    means: str


DARK: Final = Sign(
    Rhythm(0, 1), "dark", "Nothing is recorded: it is outside the recording hours, or the device is off."
)
RECORDING: Final = Sign(Rhythm(1, 0), "steadily lit", "The room is being recorded.")
UPLOADING: Final = Sign(
    Rhythm(2.7, 0.3),
    "lit, going out briefly every 3 seconds",
    "The room is being recorded, and earlier recordings are being sent.",
)
QUIET: Final = Sign(
    Rhythm(0.1, 2.9),
    "dark, with a short flash every 3 seconds",
    "Muted: nothing is recorded. It stays so for the time that was set, even if the power fails.",
)
UNKEPT: Final = Sign(
    Rhythm(1, 2),
    "dark, with a long flash (1 second) every 3 seconds",
    "Muted: nothing is recorded. But the device couldn't write that down, and after a power failure it would record.",
)
SOON: Final = Sign(
    Rhythm(0.5, 0.5),
    "blinking once a second",
    "Nothing is recorded yet, but recording resumes in less than a minute. Press the button to stay muted.",
)
FAULT: Final = Sign(
    Rhythm(0.15, 0.15),
    "blinking fast",
    "Something is wrong: nothing is recorded, though it should be. Tell whoever looks after the device.",
)
IDENTIFY: Final = Sign(
    Rhythm(0.05, 0.05), "flickering", "Somebody is looking for this very device. It says nothing about recording."
)

SIGNS: Final = (RECORDING, UPLOADING, QUIET, SOON, UNKEPT, DARK, FAULT, IDENTIFY)
"""In the order in which people are told of them."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the light depends on."""

    state: RecorderState
    left_s: float | None
    """Until the room may be heard again, as far as people wanted quiet; None when nobody can say."""
    keeping: Keeping
    uploading: bool = False
    identifying: bool = False
    hearing: bool = False
    """Whether the microphone is open: what is heard is kept, also before the card is ready."""


def sign_of(situation: Situation) -> Sign | None:
    """What to show; None leaves what is shown, for it's not decided yet."""
    quiet = _quiet(situation) if situation.state in ("muted", "paused") else None
    if situation.identifying and quiet is not SOON:
        return IDENTIFY
    match situation.state:
        case "muted" | "paused":
            return quiet
        case "recording" | "listening":
            return UPLOADING if situation.uploading else RECORDING
        case "waiting_for_microphone" | "spool_full" | "disk_error":
            return FAULT
        case "starting" if situation.hearing:
            return RECORDING
        case _:
            return DARK


def _quiet(situation: Situation) -> Sign | None:
    if situation.keeping == "under way":
        return None
    if situation.left_s is not None and situation.left_s <= WARNING_S:
        return SOON
    return QUIET if situation.keeping == "kept" else UNKEPT
