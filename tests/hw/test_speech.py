"""Sound like speech: levels as in a quiet room, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from hw.speech import speech_like


def levels_dbfs(channel: np.ndarray, rate: int) -> np.ndarray:
    """RMS of each tenth of a second."""
    slices = channel[: len(channel) // (rate // 10) * (rate // 10)].reshape(-1, rate // 10) / 32768
    return np.asarray(20 * np.log10(np.sqrt(np.mean(slices**2, axis=1))))


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 2)])
def test_phrases_are_loud_and_pauses_quiet(rate: int, channels: int) -> None:
    sound = speech_like(30, rate, channels, seed=7)
    assert sound.shape == (30 * rate, channels)
    assert sound.dtype == np.int16
    for channel in range(channels):
        levels = levels_dbfs(sound[:, channel], rate)
        assert np.percentile(levels, 10) == pytest.approx(-65, abs=1)
        assert -31 < np.median(levels[levels > -45]) < -19
        assert 0.3 < np.mean(levels > -45) < 0.9, "somebody talks about half of the time"
    assert np.abs(sound.astype(int)).max() < 32767, "nothing is clipped"


def test_the_same_seed_gives_the_same_sound_and_another_another() -> None:
    once = speech_like(3, 16000, 1, seed=1)
    np.testing.assert_array_equal(once, speech_like(3, 16000, 1, seed=1))
    assert (once != speech_like(3, 16000, 1, seed=2)).any()
