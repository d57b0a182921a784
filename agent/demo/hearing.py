"""What the demonstration listens to: a microphone, or a simulated room where there is none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.alsa import microphones
from hw.simulated import SimulatedRoom, default_cache
from hw.speech import speech_like

RATE = 16000
CHANNELS = 1

SIMULATED = "simroom"
"""The PCM of the simulated room; asked for by this name, it's taken even where there is a microphone."""

_ROOM_S = 30
"""Length of the sound that the simulated room plays over and over."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """A PCM, and what is known about it."""

    pcm: str
    title: str
    """What it is, for people."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What a process needs to open it."""
    played: NDArray[np.int16] | None = None
    """Shape (frames, CHANNELS): what a simulated room plays, over and over. Of a real room nobody knows."""

    @property
    def announcement(self) -> str:
        """One line, before it begins."""
        return f"Listening to {self.title}."

    @property
    def reference(self) -> str:
        """What a recording is compared with, sample for sample."""
        return "the recorder's own files" if self.played is None else "what the simulated room played"


def find(pcm: str | None, room: Path) -> Hearing:
    """`pcm`, else the first microphone of this machine, else a simulated room in the directory `room`.

    Raises KioskError when a room is needed and can't be built.
    """
    if pcm == SIMULATED:
        return _simulated(room, "as was asked")
    if pcm is not None:
        return Hearing(pcm, f"the microphone {pcm}")
    for microphone in microphones():
        # By way of alsa-lib's converter: any microphone will do here, also one without this rate.
        return Hearing(f"plug{microphone.pcm}", f"{microphone.card} ({microphone.pcm})")
    return _simulated(room, "no microphone was found")


def _simulated(directory: Path, why: str) -> Hearing:
    played = speech_like(_ROOM_S, RATE, CHANNELS)
    room = SimulatedRoom(directory, played, RATE, CHANNELS, pcm=SIMULATED, cache=_cache(directory))
    return Hearing(room.pcm, f"a simulated room, through alsa-lib ({why})", room.environment, played)


def _cache(directory: Path) -> Path:
    """Where the room's plugin is found again the next time, or `directory` for a user who has no home."""
    cache = default_cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return directory
    return cache if os.access(cache, os.W_OK) else directory
