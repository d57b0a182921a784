"""The row of intervals of each boot, and what is said when it doesn't add up (`agent.timeline`)."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.ledger import Boot, Gap, Segment
from agent.timeline import Beginning, Fault, Timeline, lay_out, power_off_seconds
from agent.units import NS_PER_S

BOOT, NEXT = "1" * 32, "2" * 32
RUN = "0123456789ab"


def segment(begin_s: float, end_s: float, seq: int = 0, run: str = RUN, boot: str = BOOT) -> Segment:
    return Segment(
        run=run,
        seq=seq,
        boot=boot,
        begin_ns=round(begin_s * NS_PER_S),
        end_ns=round(end_s * NS_PER_S),
        frames=round((end_s - begin_s) * 8000),
        rate=8000,
        channels=1,
        bytes=1,
        meta_bytes=1,
        sha256="",
    )


def gap(begin_s: float, end_s: float, boot: str = BOOT, previous: str | None = None) -> Gap:
    reason = "power_off" if previous else "overrun"
    return Gap(boot, round(begin_s * NS_PER_S), round(end_s * NS_PER_S), reason, previous)  # type: ignore[arg-type]


def boots(*names: str) -> list[Boot]:
    return [Boot(name, number * 10**12, "synchronised") for number, name in enumerate(names)]


def shapes(timeline: Timeline) -> list[tuple[float, float, str]]:
    """Begin, end and name of every interval, in seconds."""
    return [
        (interval.begin_ns / NS_PER_S, interval.end_ns / NS_PER_S, interval.reason or interval.run)
        for account in timeline.accounts
        for interval in account.intervals
    ]


def faults(timeline: Timeline) -> list[tuple[str, float, float]]:
    return [(fault.kind, fault.begin_ns / NS_PER_S, fault.end_ns / NS_PER_S) for fault in timeline.faults]


def test_an_empty_ledger_has_an_empty_timeline() -> None:
    assert lay_out([], [], boots(BOOT)) == Timeline()


def test_segments_of_a_run_are_one_recording() -> None:
    timeline = lay_out([segment(0, 2, 0), segment(2, 4, 1), segment(4, 5, 2)], [], boots(BOOT))
    assert shapes(timeline) == [(0, 5, RUN)]
    (recording,) = timeline.accounts[0].intervals
    assert (recording.first_seq, recording.segments, recording.audio_seconds) == (0, 3, 5.0)
    assert timeline.faults == []


def test_segments_entered_out_of_order_are_put_in_order() -> None:
    timeline = lay_out([segment(2, 4, 1), segment(0, 2, 0)], [], boots(BOOT))
    assert shapes(timeline) == [(0, 4, RUN)]
    assert timeline.faults == []


def test_pieces_of_a_gap_are_one_gap() -> None:
    timeline = lay_out([segment(0, 1), segment(4, 5, run="f" * 12)], [gap(1, 3), gap(3, 4)], boots(BOOT))
    assert shapes(timeline) == [(0, 1, RUN), (1, 4, "overrun"), (4, 5, "f" * 12)]
    assert timeline.faults == []


def test_a_missing_segment_is_a_hole_with_its_neighbours_named() -> None:
    timeline = lay_out([segment(0, 2, 0), segment(4, 6, 2)], [], boots(BOOT))
    assert timeline.faults == [Fault("hole", BOOT, 2 * NS_PER_S, 4 * NS_PER_S, f"recording {RUN}", f"recording {RUN}")]
    assert timeline.faults[0].seconds == 2.0


def test_a_nanosecond_counts() -> None:
    late = replace(segment(2, 4, 1), begin_ns=2 * NS_PER_S + 1)
    assert [fault.kind for fault in lay_out([segment(0, 2), late], [], boots(BOOT)).faults] == ["hole"]


def test_time_told_twice_is_an_overlap() -> None:
    timeline = lay_out([segment(0, 4)], [gap(3, 5)], boots(BOOT))
    assert faults(timeline) == [("overlap", 3, 4)]
    assert timeline.faults[0].before == f"recording {RUN}"
    assert timeline.faults[0].after == "overrun"


def test_what_lies_within_another_overlaps_it_once_and_leaves_no_hole() -> None:
    timeline = lay_out([segment(0, 9)], [gap(3, 5), gap(9, 10)], boots(BOOT))
    assert faults(timeline) == [("overlap", 3, 5)]


def test_an_interval_that_ends_before_it_begins_is_told() -> None:
    assert ("overlap", 1, 2) in faults(lay_out([segment(2, 1)], [], boots(BOOT)))


def test_a_power_off_joins_two_boots() -> None:
    timeline = lay_out(
        [segment(0, 100), segment(7, 9, boot=NEXT, run="f" * 12)], [gap(100, 7, NEXT, BOOT)], boots(BOOT, NEXT)
    )
    assert timeline.faults == []
    assert [account.boot.boot for account in timeline.accounts] == [BOOT, NEXT]


def test_a_power_off_that_begins_before_the_boots_end_or_after_it_is_told() -> None:
    later = segment(7, 9, boot=NEXT)
    for begin_s, told in ((90, ("overlap", 90, 100)), (110, ("hole", 100, 110))):
        timeline = lay_out([segment(0, 100), later], [gap(begin_s, 7, NEXT, BOOT)], boots(BOOT, NEXT))
        assert faults(timeline) == [told]
        assert timeline.faults[0].boot == BOOT


def test_time_between_a_power_off_and_the_first_recording_is_a_hole() -> None:
    timeline = lay_out([segment(0, 100), segment(8, 9, boot=NEXT)], [gap(100, 7, NEXT, BOOT)], boots(BOOT, NEXT))
    assert faults(timeline) == [("hole", 7, 8)]


def test_two_boots_without_anything_between_them_are_told() -> None:
    timeline = lay_out([segment(0, 100), segment(8, 9, boot=NEXT)], [], boots(BOOT, NEXT))
    assert faults(timeline) == [("unlinked", 8, 8)]
    assert timeline.faults[0].boot == NEXT


def test_two_power_offs_before_one_boot_are_told() -> None:
    off = gap(100, 7, NEXT, BOOT)
    timeline = lay_out([segment(0, 100), segment(7, 9, boot=NEXT)], [off, off], boots(BOOT, NEXT))
    assert ("overlap", 7, 7) in faults(timeline)


def test_a_boot_in_which_nothing_was_entered_is_passed_over() -> None:
    third = "3" * 32
    timeline = lay_out(
        [segment(0, 100), segment(7, 9, boot=third)], [gap(100, 7, third, BOOT)], boots(BOOT, NEXT, third)
    )
    assert timeline.faults == []
    assert [account.boot.boot for account in timeline.accounts] == [BOOT, third]


def test_boots_stand_in_the_order_of_their_power_offs_whatever_their_clocks_say() -> None:
    # A board without a battery clock wakes up in 1970 each time.
    clocks = [Boot(BOOT, 10**12, "synchronised"), Boot(NEXT, 0, "unsynchronised")]
    timeline = lay_out([segment(7, 9, boot=NEXT), segment(0, 100)], [gap(100, 7, NEXT, BOOT)], clocks)
    assert [account.boot.boot for account in timeline.accounts] == [BOOT, NEXT]
    assert timeline.faults == []


def test_what_a_lost_ledger_took_along_is_unknown_and_no_fault() -> None:
    # An earlier boot and the first half of this one were rebuilt from the spool.
    rebuilt = [segment(0, 2), segment(5, 6, run="a" * 12), segment(10, 12, boot=NEXT, run="b" * 12)]
    entered = [segment(20, 21, boot=NEXT, run="c" * 12)]
    beginning = Beginning(NEXT, 15 * NS_PER_S, 10**12 + 15 * NS_PER_S)
    known = [Boot(NEXT, 10**12, "synchronised"), Boot(BOOT, 0, "synchronised")]
    timeline = lay_out([*rebuilt, *entered], [gap(12, 20, NEXT)], known, beginning)
    assert timeline.faults == []
    assert shapes(timeline) == [
        (0, 2, RUN),
        (2, 5, "unknown"),
        (5, 6, "a" * 12),
        (10, 12, "b" * 12),
        (12, 20, "overrun"),
        (20, 21, "c" * 12),
    ]


def test_boots_entered_before_the_one_that_rebuilt_the_ledger_are_rebuilt_whatever_their_clocks_said() -> None:
    rebuilt = [segment(0, 2), segment(5, 6, run="a" * 12)]
    entered = [segment(20, 21, boot=NEXT, run="c" * 12)]
    known = [Boot(BOOT, 10**15, "synchronised"), Boot(NEXT, 0, "synchronised")]
    timeline = lay_out([*rebuilt, *entered], [], known, Beginning(NEXT, 20 * NS_PER_S, 20 * NS_PER_S))
    assert timeline.faults == []
    assert (2, 5, "unknown") in shapes(timeline)


def test_what_is_missing_after_the_ledger_was_begun_is_a_fault_still() -> None:
    beginning = Beginning(BOOT, 3 * NS_PER_S, 3 * NS_PER_S)
    timeline = lay_out([segment(0, 2), segment(5, 6, 1)], [], boots(BOOT), beginning)
    assert faults(timeline) == [("hole", 2, 5)]


def test_a_power_off_is_never_shorter_than_nothing() -> None:
    timeline = lay_out([segment(0, 100), segment(7, 9, boot=NEXT)], [gap(100, 7, NEXT, BOOT)], boots(BOOT, NEXT))
    off = timeline.accounts[1].before[0]
    earlier, later = Boot(BOOT, 500 * NS_PER_S, "synchronised"), Boot(NEXT, 600 * NS_PER_S, "synchronised")
    assert power_off_seconds(off, earlier, later) == (7.0, True)
    assert power_off_seconds(off, earlier, replace(later, offset_ns=0)) == (0.0, False)
    assert power_off_seconds(off, earlier, replace(later, clock="server")) == (7.0, False)
    assert power_off_seconds(off, replace(earlier, clock="unsynchronised"), later) == (7.0, False)


Lives = st.lists(
    st.tuples(st.sampled_from(["record", "overrun", "unplugged"]), st.integers(1, 10)), min_size=3, max_size=30
)


def lived(life: list[tuple[str, int]]) -> tuple[list[Segment], list[Gap]]:
    segments, gaps, at = [], [], 5
    for number, (what, seconds) in enumerate(life):
        if what == "record":
            segments.append(segment(at, at + seconds, run=f"{number:012x}"))
        else:
            gaps.append(Gap(BOOT, at * NS_PER_S, (at + seconds) * NS_PER_S, what))  # type: ignore[arg-type]
        at += seconds
    return segments, gaps


@given(Lives)
def test_every_life_without_fault_tiles_and_keeps_all_of_its_time(life: list[tuple[str, int]]) -> None:
    timeline = lay_out(*lived(life), boots(BOOT))
    assert timeline.faults == []
    assert sum(interval.seconds for interval in timeline.accounts[0].intervals) == sum(length for _, length in life)


@given(Lives, st.data())
def test_any_interval_taken_out_of_the_middle_leaves_a_hole_of_its_size(
    life: list[tuple[str, int]], data: st.DataObject
) -> None:
    taken = data.draw(st.integers(1, len(life) - 2))
    begin = 5 + sum(length for _, length in life[:taken])
    segments, gaps = lived(life)
    timeline = lay_out(
        [each for each in segments if each.begin_ns != begin * NS_PER_S],
        [each for each in gaps if each.begin_ns != begin * NS_PER_S],
        boots(BOOT),
    )
    assert faults(timeline) == [("hole", begin, begin + life[taken][1])]
