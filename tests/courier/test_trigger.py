"""Hysteresis and minimum durations, as values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.courier.trigger import Limit, Trigger, next_trigger
from agent.units import NS_PER_S

ABOVE = Limit("above", 10, hysteresis=2, raise_after_s=60, clear_after_s=30)
BELOW = Limit("below", 90, hysteresis=2, raise_after_s=60, clear_after_s=30)

Look = tuple[float, float | None]
"""Seconds since the look before, and what was seen."""


def watched(limit: Limit, looks: Sequence[Look]) -> list[bool]:
    """Whether it was on after each look."""
    trigger, now_s, states = Trigger(), 0.0, []
    for seconds, value in looks:
        now_s += seconds
        trigger = next_trigger(limit, trigger, value, round(now_s * NS_PER_S))
        states.append(trigger.on)
    return states


@pytest.mark.parametrize(("limit", "good", "bad"), [(ABOVE, 10, 10.1), (BELOW, 90, 89.9)])
def test_the_limit_itself_is_still_good(limit: Limit, good: float, bad: float) -> None:
    assert watched(limit, [(0, good), (1000, good)]) == [False, False]
    assert watched(limit, [(0, bad), (60, bad)]) == [False, True]


def test_it_takes_the_whole_time_to_be_raised_and_one_good_look_to_begin_anew() -> None:
    assert watched(ABOVE, [(0, 11), (59.9, 11), (0.1, 11)]) == [False, False, True]
    assert watched(ABOVE, [(0, 11), (59, 11), (1, 10), (59, 11), (59, 11), (1, 11)])[-2:] == [False, True]


@pytest.mark.parametrize(("limit", "bad", "between", "good"), [(ABOVE, 11, 8.1, 8), (BELOW, 89, 91.9, 92)])
def test_it_is_over_only_behind_the_hysteresis_and_for_long_enough(
    limit: Limit, bad: float, between: float, good: float
) -> None:
    raised: list[Look] = [(0, bad), (60, bad)]
    assert watched(limit, [*raised, (10, between), (1000, between)])[-1]
    assert watched(limit, [*raised, (10, good), (29.9, good), (0.1, good)])[-3:] == [True, True, False]


def test_what_nobody_can_tell_changes_nothing_and_has_the_waiting_begin_anew() -> None:
    assert watched(ABOVE, [(0, 11), (60, 11), (10, None), (100000, None)])[-1]
    assert not watched(ABOVE, [(0, None), (100000, None)])[-1]
    assert watched(ABOVE, [(0, 11), (59, None), (1, 11), (59, 11), (1, 11)])[-2:] == [False, True]
    assert watched(ABOVE, [(0, 11), (60, 11), (0, 8), (29, None), (1, 8), (29, 8), (1, 8)])[-2:] == [True, False]


def test_without_durations_each_look_counts() -> None:
    assert watched(Limit("above", 0), [(0, 1), (0, 0), (0, 1)]) == [True, False, True]


values = st.none() | st.floats(-20, 40)
limits = st.builds(
    Limit,
    st.sampled_from(["above", "below"]),
    st.just(10.0),
    hysteresis=st.floats(0, 10),
    raise_after_s=st.floats(0, 100),
    clear_after_s=st.floats(0, 100),
)


@given(limits, st.lists(st.tuples(st.floats(0, 50), values), max_size=200))
def test_whatever_flaps_the_transitions_are_bounded_by_durations_and_by_crossings(
    limit: Limit, looks: list[Look]
) -> None:
    states = [False, *watched(limit, looks)]
    turns = sum(before != after for before, after in itertools.pairwise(states))
    raised, cleared = (turns + 1) // 2, turns // 2
    passed_s = sum(seconds for seconds, _ in looks[1:])
    rounding_s = 1e-6 * (1 + len(looks))
    assert raised * limit.raise_after_s + cleared * limit.clear_after_s <= passed_s + rounding_s
    assert turns <= crossings(limit, [value for _, value in looks if value is not None])


def crossings(limit: Limit, seen: Sequence[float]) -> int:
    """How often numbers went from one edge of the hysteresis all the way beyond the other."""
    sign = 1 if limit.direction == "above" else -1
    count, bad = 0, False
    for value in seen:
        beyond = sign * (value - limit.threshold)
        if beyond > (-limit.hysteresis if bad else 0):
            count += not bad
            bad = True
        elif bad:
            count += 1
            bad = False
    return count


@given(st.floats(10.01, 40), st.integers(1, 20))
def test_a_number_that_stays_bad_is_raised_once_and_stays_so(value: float, looks: int) -> None:
    states = watched(ABOVE, [(5, value)] * (12 + looks))
    assert states == [False] * 12 + [True] * looks
