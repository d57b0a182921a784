from __future__ import annotations

import pytest

from agent.recorder.drift import Drift
from agent.units import NS_PER_S

RATE = 16000


def hear(drift: Drift, seconds: int, *, ppm: float, begin_s: int = 0) -> float | None:
    """A block a second of the clock, from a crystal that is fast by `ppm`."""
    told = None
    for second in range(begin_s, begin_s + seconds):
        frames = round((second + 1) * RATE * (1 + ppm / 1e6)) - round(second * RATE * (1 + ppm / 1e6))
        told = drift.heard(frames, (second + 1) * NS_PER_S)
    return told


@pytest.mark.parametrize("ppm", [-300.0, 0.0, 300.0])
def test_a_crystals_drift_is_told_after_a_while(ppm: float) -> None:
    assert hear(Drift(RATE), 1000, ppm=ppm) == pytest.approx(ppm, abs=1)


def test_nothing_is_told_too_early() -> None:
    assert hear(Drift(RATE), 50, ppm=300) is None


def test_lost_frames_are_not_taken_for_drift() -> None:
    drift = Drift(RATE)
    hear(drift, 100, ppm=0)
    drift.broken()
    assert hear(drift, 100, ppm=0, begin_s=130) == pytest.approx(0, abs=1)
