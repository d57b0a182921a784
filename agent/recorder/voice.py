"""Voice mode: only what is said is kept.

An energy detector with an adaptive floor decides about each batch (about a second). It errs towards recording: the
floor rises slowly, so that a monologue is never mistaken for noise, and falls at once. Audio from before the voice
was noticed is held in RAM and recorded with it; audio goes on being recorded for a while after the last voice.
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.recorder.levels import slice_rms_dbfs
from agent.recorder.ring import Break
from agent.settings import Voice
from agent.units import Nanoseconds
from hw.alsa import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SLICE_S: Final = 0.1

_VOICED_SLICES: Final = 2
"""A door slams for one slice of 100 ms; a syllable lasts two."""

_FLOOR_PERCENTILE: Final = 20
_FLOOR_RISE_DB_PER_S: Final = 0.1
_QUIETEST_FLOOR_DBFS: Final = -80.0
"""Below this a microphone's own noise would set the floor, and rustling paper would count as voice."""


class VoiceDetector:
    """Tells voice from the room's noise by its level above a floor that follows the room."""

    def __init__(self, rate: int, threshold_db: float) -> None:
        self._slice_frames = round(rate * _SLICE_S)
        self._rate = rate
        self._threshold_db = threshold_db
        self._floor_dbfs: float | None = None

    def heard(self, samples: NDArray[np.int16]) -> bool:
        """Whether somebody speaks in `samples`, shape (frames, channels). Moves the floor."""
        levels = slice_rms_dbfs(samples, self._slice_frames)
        if not len(levels):
            return False
        quiet = max(float(np.percentile(levels, _FLOOR_PERCENTILE)), _QUIETEST_FLOOR_DBFS)
        if self._floor_dbfs is None or quiet < self._floor_dbfs:
            self._floor_dbfs = quiet
        else:
            rise = _FLOOR_RISE_DB_PER_S * len(samples) / self._rate
            self._floor_dbfs = min(quiet, self._floor_dbfs + rise)
        return int(np.count_nonzero(levels > self._floor_dbfs + self._threshold_db)) >= _VOICED_SLICES


class VoiceGate:
    """Lets batches through while somebody speaks, with what came just before and a while after."""

    def __init__(self, voice: Voice, rate: int) -> None:
        self._detector = VoiceDetector(rate, voice.threshold_db)
        self._preroll_ns = voice.preroll.ns
        self._hangover_ns = voice.hangover.ns
        self._rate = rate
        self._held: deque[Block] = deque()
        self._last_voice_ns: Nanoseconds | None = None

    def successor(self) -> VoiceGate:
        """One that goes on from here, without the audio held back."""
        gate = deepcopy(self)
        gate.drop_preroll()
        return gate

    def drop_preroll(self) -> None:
        """Forget what is held back."""
        self._held.clear()

    @property
    def open(self) -> bool:
        """Whether audio passes."""
        return self._last_voice_ns is not None

    def feed(self, block: Block, samples: NDArray[np.int16]) -> list[Block | Break]:
        """What of this batch, and of those held before it, is to be recorded."""
        was_open = self.open
        if self._detector.heard(samples):
            self._last_voice_ns = block.ended_ns
        if self._last_voice_ns is None:
            self._hold(block)
            return []
        passing: list[Block | Break] = [*self._held, block]
        self._held.clear()
        if was_open and block.ended_ns - self._last_voice_ns >= self._hangover_ns:
            self._last_voice_ns = None
            passing.append(Break("voice", block.ended_ns))
        return passing

    def interrupted(self) -> None:
        """The stream broke: what is held belongs to a run that is over."""
        self.drop_preroll()
        self._last_voice_ns = None

    def _hold(self, block: Block) -> None:
        self._held.append(block)
        oldest_ns = block.ended_ns - self._preroll_ns
        while self._held and self._held[0].ended_ns <= oldest_ns:
            self._held.popleft()
