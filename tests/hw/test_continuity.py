"""Holes in a stream that only the clock can tell."""

from __future__ import annotations

import numpy as np
import pytest

from agent.units import NS_PER_S
from hw.continuity import Continuity

RATE = 16000
BLOCK = RATE // 2
BLOCK_NS = NS_PER_S // 2
MS = 10**6


@pytest.fixture
def continuity() -> Continuity:
    return Continuity(RATE, BLOCK_NS)


def test_a_block_that_cannot_have_been_heard_in_time_does_not_follow(continuity: Continuity) -> None:
    assert continuity.heard(BLOCK, 0, 1) == (1, True)
    late_ns = BLOCK_NS + 600 * MS
    assert continuity.heard(BLOCK, late_ns, late_ns + 1) == (late_ns + 1, False)
    assert continuity.heard(BLOCK, late_ns + BLOCK_NS, late_ns + BLOCK_NS + 1)[1], "a hole is told once"


def test_a_reader_that_had_to_wait_between_looking_and_taking_the_time_is_no_hole(continuity: Continuity) -> None:
    continuity.heard(BLOCK, 0, 0)
    ended_ns, whole = continuity.heard(BLOCK, BLOCK_NS, BLOCK_NS + 3 * NS_PER_S)
    assert whole
    assert ended_ns == pytest.approx(BLOCK_NS, abs=MS), "the blocks before say when it must have been"


def test_of_a_stream_that_has_ended_nothing_is_judged(continuity: Continuity) -> None:
    continuity.heard(BLOCK, 0, 0)
    ended_ns, whole = continuity.heard(BLOCK, None, 9 * NS_PER_S)
    assert whole
    assert ended_ns == pytest.approx(BLOCK_NS, abs=MS)


@pytest.mark.parametrize("drift_ppm", [-300, 0, 300])
def test_a_crystal_that_drifts_for_ten_hours_is_no_hole(continuity: Continuity, drift_ppm: float) -> None:
    jitter = np.random.default_rng(1).integers(0, 20 * MS, size=72_000)
    for number, late_ns in enumerate(jitter.tolist()):
        true_ns = round(number * BLOCK_NS / (1 + drift_ppm / 1e6))
        ended_ns, whole = continuity.heard(BLOCK, true_ns - 8 * MS, true_ns + late_ns)
        assert whole
        assert abs(ended_ns - true_ns) <= 20 * MS


def test_many_small_holes_add_up(continuity: Continuity) -> None:
    told = 0
    for number in range(100):
        true_ns = number * BLOCK_NS + number // 10 * 200 * MS
        told += not continuity.heard(BLOCK, true_ns, true_ns)[1]
    assert told == 3, "of 1.8 s in nine pieces never more than half a second is untold"


def test_after_a_break_that_was_told_the_next_block_need_not_follow(continuity: Continuity) -> None:
    continuity.heard(BLOCK, 0, 0)
    continuity.broken()
    assert continuity.heard(BLOCK, 60 * NS_PER_S, 60 * NS_PER_S) == (60 * NS_PER_S, True)
