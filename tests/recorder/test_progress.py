from __future__ import annotations

import pytest

from agent.contract.metrics import RecorderState
from agent.recorder.progress import HEARD_WITHIN_NS, WRITTEN_WITHIN_NS, halted

NOW_NS = 10**12


def at(seconds_ago: float) -> int:
    return NOW_NS - round(seconds_ago * 10**9)


def test_who_hears_and_writes_gets_on() -> None:
    assert halted(NOW_NS, "recording", at(1), at(1), at(1)) == ""


@pytest.mark.parametrize("microphone", ["idle", "paused", "muted", "waiting_for_microphone"])
def test_who_may_not_hear_or_looks_for_the_microphone_gets_on(microphone: RecorderState) -> None:
    assert halted(NOW_NS, microphone, at(1), None, at(2)) == ""
    assert halted(NOW_NS, microphone, at(1), at(3600), at(2)) == ""


@pytest.mark.parametrize("microphone", ["recording", "idle", "waiting_for_microphone"])
def test_a_capture_that_hangs_does_not_whatever_it_was_at(microphone: RecorderState) -> None:
    turned_ns = NOW_NS - HEARD_WITHIN_NS - 1
    assert halted(NOW_NS, microphone, turned_ns, at(1), at(1)) == "capture hangs since 15 s"


def test_a_microphone_that_turns_without_a_frame_is_no_progress() -> None:
    heard_ns = NOW_NS - HEARD_WITHIN_NS - 1
    for newest in (heard_ns, None):
        assert "no sound" in halted(NOW_NS, "recording", at(1), newest, at(1))


def test_a_stuck_card_is_given_the_time_to_be_left_and_no_more() -> None:
    assert halted(NOW_NS, "recording", at(1), at(1), at(40)) == ""
    written_ns = NOW_NS - WRITTEN_WITHIN_NS - 1
    assert halted(NOW_NS, "recording", at(1), at(1), written_ns) == "nothing was written since 45 s"


def test_a_start_is_done_when_both_have_begun() -> None:
    assert halted(NOW_NS, "starting", None, None, None) != ""
    assert halted(NOW_NS, "starting", at(1), None, at(1)) != ""
    assert halted(NOW_NS, "recording", at(1), at(1), None) == "the spool isn't ready yet"
