"""How loud the room is. Full scale (0 dBFS) is the largest 16-bit sample; silence is `FLOOR_DBFS`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_SCALE: Final = 32768.0

FLOOR_DBFS: Final = -120.0
"""What digital silence reads as: below anything 16 bits can hold (a single ±1 in a second is about -130 dBFS RMS)."""

CLIPPED: Final = 32767


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of one batch, over all channels."""

    rms_dbfs: float
    peak_dbfs: float
    clipped_pct: float
    dc_offset: float
    """How far the mean of the worst channel is from zero, in parts of full scale."""

    @property
    def silent(self) -> bool:
        """Every sample is zero: no microphone is that quiet, so it's dead or unplugged at the jack."""
        return self.peak_dbfs <= FLOOR_DBFS


def measure(samples: NDArray[np.int16]) -> Levels:
    """Levels of `samples`, shape (frames, channels), at least one frame."""
    squares = peak = clipped = 0.0
    offset = 0.0
    for channel in range(samples.shape[1]):
        # Contiguous first: reducing over interleaved samples costs many times the copy.
        plane = np.ascontiguousarray(samples[:, channel])
        high, low = int(plane.max()), int(plane.min())
        peak = max(peak, high, -low)
        if high >= CLIPPED or low <= -CLIPPED:
            clipped += int(np.count_nonzero(np.abs(plane.astype(np.int32)) >= CLIPPED))
        values = plane.astype(np.float32)
        squares += float(np.dot(values, values))
        offset = max(offset, abs(float(np.add.reduce(values, dtype=np.float64))) / len(values))
    return Levels(
        rms_dbfs=dbfs(math.sqrt(squares / samples.size)),
        peak_dbfs=dbfs(peak),
        clipped_pct=100.0 * clipped / samples.size,
        dc_offset=offset / FULL_SCALE,
    )


def slice_rms_dbfs(samples: NDArray[np.int16], frames: int) -> NDArray[np.float32]:
    """RMS of each whole slice of `frames` frames, first channel, in dBFS; shape (slices,)."""
    slices = len(samples) // frames
    values = np.ascontiguousarray(samples[: slices * frames, 0]).astype(np.float32).reshape(slices, frames)
    power = np.einsum("ij,ij->i", values, values) / frames
    levels: NDArray[np.float32] = np.maximum(10.0 * np.log10(np.maximum(power, 1e-12) / FULL_SCALE**2), FLOOR_DBFS)
    return levels


def dbfs(amplitude: float) -> float:
    """An amplitude in sample units as dBFS."""
    return max(20.0 * math.log10(amplitude / FULL_SCALE), FLOOR_DBFS) if amplitude > 0 else FLOOR_DBFS
