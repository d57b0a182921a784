"""One check of one kiosk: what it looks at, how, and what one area leaves for the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from agent.settings import Settings
from agent.spool import Layout
from agent.status import RecorderStatus, read_status
from hw.clock import Clock

MACHINE: Final = Path("/")


@dataclass(frozen=True, slots=True)
class Sample:
    """A recording to go by: what it says about the kiosk is said of the real thing."""

    flac: bytes | None
    """None when it only is here as it was sealed."""
    seconds: float
    origin: str
    """Where it comes from, for people."""
    sealed: bytes | None = None
    """As only those with a key can open it; None where recordings aren't sealed."""

    @property
    def content(self) -> bytes:
        """As it would lie on the card and in the store."""
        return self.sealed if self.sealed is not None else self.flac or b""

    @property
    def suffix(self) -> str:
        """Of such a file."""
        return "flac" if self.sealed is None else "flac.age"


@dataclass(slots=True)
class Visit:
    """Belongs to one thread."""

    settings: Settings
    layout: Layout
    zone: ZoneInfo
    clock: Clock
    runtime: Path
    recorder_pid: int | None
    """The recorder that has the microphone now."""
    courier_pid: int | None
    seconds: float
    """How long to listen."""
    clap: bool
    """Whether somebody is there to clap."""
    ask: Callable[[str], None]
    """Tell the person in front of the terminal what to do now."""
    progress: Callable[[str], None]
    """What is going on, for whoever waits."""
    identities: tuple[Path, ...] = ()
    """Files with keys that should open recordings."""
    root: Path = MACHINE
    """The machine's."""
    sample: Sample | None = None
    """What was made for this check, and may be uploaded: of what was heard, or made up while the recorder hears."""
    kept: Sample | None = None
    """The running recorder's newest recording, where it's still here: not ours to upload."""
    bytes_per_hour: float | None = None
    """What recording takes on the card, once that is known."""
    store_ahead_s: float | None = None
    """How far the store's clock is ahead of this machine's, once that is known."""

    def picture(self) -> RecorderStatus | None:
        """What the running recorder last said of itself; None where none runs, or it hasn't said anything."""
        told = read_status(self.runtime)
        known = told is not None and (told.pid, told.boot) == (self.recorder_pid, self.clock.boot)
        return told if known else None

    def wait(self, seconds: float) -> None:
        """Let real time pass. Ctrl-C ends it."""
        self.clock.wait(threading.Event(), seconds)
