from __future__ import annotations

from agent.ledger import Gap
from agent.recorder.silence import CHECKPOINT_NS, Silence
from agent.recorder.succession import Accounted

BOOT = "b" * 32
EARLIER = "a" * 32


def test_the_very_first_start_leaves_no_gap() -> None:
    silence = Silence(BOOT, None)
    assert not silence.silent
    assert silence.end(500) == []


def test_pieces_tile_through_changing_reasons() -> None:
    silence = Silence(BOOT, Accounted(BOOT, 100))
    pieces = [*silence.change("unplugged", 200), *silence.change("schedule", 300), *silence.end(450)]
    assert pieces == [
        Gap(BOOT, 100, 200, "restart"),
        Gap(BOOT, 200, 300, "unplugged"),
        Gap(BOOT, 300, 450, "schedule"),
    ]
    assert not silence.silent


def test_the_same_reason_again_is_the_same_gap() -> None:
    silence = Silence(BOOT, Accounted(BOOT, 100))
    silence.change("unplugged", 200)
    assert silence.change("unplugged", 250) == []
    assert silence.end(300) == [Gap(BOOT, 200, 300, "unplugged")]


def test_the_time_between_boots_names_both() -> None:
    silence = Silence(BOOT, Accounted(EARLIER, 9000))
    assert silence.change("unplugged", 50) == [Gap(BOOT, 9000, 50, "power_off", EARLIER)]
    assert silence.end(70) == [Gap(BOOT, 50, 70, "unplugged")]


def test_a_gap_never_ends_before_it_began() -> None:
    silence = Silence(BOOT, Accounted(BOOT, 100))
    assert silence.earliest_begin(90) == 100
    assert silence.end(90) == []


def test_checkpoints_come_when_a_piece_is_long_enough_or_the_process_ends() -> None:
    silence = Silence(BOOT, Accounted(BOOT, 0))
    assert silence.checkpoint(CHECKPOINT_NS - 1) == []
    assert silence.checkpoint(CHECKPOINT_NS) == [Gap(BOOT, 0, CHECKPOINT_NS, "restart")]
    assert silence.checkpoint(CHECKPOINT_NS + 5, force=True) == [Gap(BOOT, CHECKPOINT_NS, CHECKPOINT_NS + 5, "restart")]
    assert silence.silent


def test_a_run_that_another_writer_goes_on_with_leaves_no_gap_whatever_the_clock_read() -> None:
    silence = Silence(BOOT, Accounted(BOOT, 100, None))
    begin_ns = silence.earliest_begin(103)
    assert begin_ns == 100
    assert silence.end(begin_ns) == []
    assert not silence.silent


def test_a_break_right_after_the_change_of_writers_explains_all_of_the_gap() -> None:
    silence = Silence(BOOT, Accounted(BOOT, 100, None))
    assert silence.change("unplugged", 150) == []
    assert silence.accounted == Accounted(BOOT, 100, "unplugged")
    assert silence.end(300) == [Gap(BOOT, 100, 300, "unplugged")]
