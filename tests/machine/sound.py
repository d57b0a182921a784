"""What is played to a guest's card, and finding it again in what was recorded."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 16000
NOISE: Final = "noise.wav"
"""On the stick that comes with the kiosk."""

Sound = NDArray[np.int16]

_NEEDLE: Final = 16
"""So many samples of noise occur once."""


def make_noise(directory: Path, seconds: float) -> Sound:
    """Noise that never repeats and has no zero in it, as a file: what isn't zero in a recording was played.

    FLAC can't shrink it, so a page of a file is an eighth of a second.
    """
    generator = np.random.default_rng(12)
    count = round(seconds * RATE)
    samples = (generator.integers(1, 2**15, count) * generator.choice([-1, 1], count)).astype(np.int16)
    with wave.open(str(directory / NOISE), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return np.asarray(samples)


def sounds(run: Sound) -> Iterator[Sound]:
    """The stretches of a run in which something was heard."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], run != 0, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        yield run[begin:end]


def assert_played(sound: Sound, noise: Sound) -> None:
    """All of a recorded sound is a piece of the noise."""
    begin = noise.tobytes().find(sound[:_NEEDLE].tobytes()) // noise.itemsize
    assert begin >= 0, "its beginning was never played"
    np.testing.assert_array_equal(sound, noise[begin : begin + len(sound)])
