"""What has to be true after any fault."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from agent.units import NS_PER_S
from tests.end_to_end.kiosk import decoded
from tests.faults.scene import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECOVERY_S = 60.0
"""How soon after the end of a fault it goes on."""

MEMORY_BYTES = 95 << 20
"""The most that the courier may ever take."""


def assert_nothing_is_lost(outcome: Outcome, source: NDArray[np.int16]) -> None:
    """Every recording is in the store, once, whole and under its own time, and the room has noticed nothing."""
    assert outcome.statuses == (0, 0), outcome.log
    assert_each_is_there_once_and_whole(outcome)
    assert_the_room_noticed_nothing(outcome, source)
    assert outcome.missing == [], "deleted before it was acknowledged"
    assert outcome.peak_bytes <= MEMORY_BYTES


def assert_each_is_there_once_and_whole(outcome: Outcome) -> None:
    assert {segment.state for segment in outcome.segments} == {"acknowledged"}
    assert sorted(outcome.objects) == sorted(str(segment.key) for segment in outcome.segments)
    for segment in outcome.segments:
        assert outcome.from_ns <= time_of(str(segment.key)) <= outcome.until_ns
        assert hashlib.sha256(outcome.objects[str(segment.key)]).hexdigest() == segment.sha256


def time_of(key: str) -> int:
    """The wall time that a key says its recording began at, to the next full second."""
    begin = datetime.strptime(key.rpartition("/")[2].partition("_")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return round(begin.timestamp() + 1) * NS_PER_S


def assert_the_room_noticed_nothing(outcome: Outcome, source: NDArray[np.int16]) -> None:
    assert len({segment.run for segment in outcome.segments}) == 1
    # What comes after the last frame is the end of the test.
    assert [gap for gap in outcome.gaps if gap.begin_ns < outcome.segments[-1].end_ns] == []
    recorded = np.concatenate([decoded(outcome.objects[str(segment.key)]) for segment in outcome.segments])
    np.testing.assert_array_equal(recorded, np.take(source, np.arange(len(recorded)) % len(source), axis=0))
