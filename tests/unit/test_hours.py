"""Hours of the week, above all where the clock is changed."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.hours import ALWAYS, DAY_MINUTES, Hours, Week, is_open, next_change, overlaps
from agent.units import MisreadError

MADRID = ZoneInfo("Europe/Madrid")
CLOSED: Week = ((),) * 7


def on(day: int, *written: str) -> Week:
    """A week with hours on one day, Monday being 0."""
    return tuple(tuple(map(Hours.parse, written)) if number == day else () for number in range(7))


def daily(*written: str) -> Week:
    return (tuple(map(Hours.parse, written)),) * 7


def madrid(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=MADRID, fold=fold)


def openings(week: Week, begin: datetime, end: datetime) -> list[str]:
    """Every change between two instants, as UTC "HH:MM"."""
    found = []
    moment = next_change(week, MADRID, begin)
    while moment is not None and moment < end:
        found.append(moment.astimezone(UTC).strftime("%H:%M"))
        moment = next_change(week, MADRID, moment)
    return found


@pytest.mark.parametrize(
    ("written", "start", "end", "minutes"),
    [
        ("08:00-13:00", 480, 780, 300),
        ("8:00 - 13:00", 480, 780, 300),
        ("22:00-06:00", 1320, 360, 480),
        ("00:00-24:00", 0, 1440, 1440),
        ("22:00-24:00", 1320, 1440, 120),
        ("22:00-00:00", 1320, 1440, 120),
    ],
)
def test_hours_are_read_as_people_write_them(written: str, start: int, end: int, minutes: int) -> None:
    hours = Hours.parse(written)
    assert (hours.start, hours.end, hours.minutes) == (start, end, minutes)


@pytest.mark.parametrize(
    ("written", "cause"),
    [
        ("8-13", "isn't a stretch of hours"),
        ("", "isn't a stretch of hours"),
        ("08:00", "isn't a stretch of hours"),
        ("\u0968\u0968:00-13:00", "isn't a stretch of hours"),
        ("08:60-13:00", "has a time no clock shows"),
        ("24:00-06:00", "has a time no clock shows"),
        ("08:00-24:01", "has a time no clock shows"),
        ("08:00-08:00", "ends where it begins"),
        ("00:00-00:00", "ends where it begins"),
    ],
)
def test_what_no_clock_shows_is_refused(written: str, cause: str) -> None:
    with pytest.raises(MisreadError) as refused:
        Hours.parse(written)
    assert refused.value.cause == cause


def test_the_start_is_included_and_the_end_is_not() -> None:
    week = on(0, "08:00-13:00")
    assert not is_open(week, MADRID, madrid("2025-06-02T07:59:59.999999"))
    assert is_open(week, MADRID, madrid("2025-06-02T08:00"))
    assert is_open(week, MADRID, madrid("2025-06-02T12:59:59.999999"))
    assert not is_open(week, MADRID, madrid("2025-06-02T13:00"))


def test_hours_over_midnight_belong_to_the_day_they_begin_on_even_from_sunday_to_monday() -> None:
    week = on(6, "22:00-06:00")
    assert is_open(week, MADRID, madrid("2025-06-08T22:00"))
    assert is_open(week, MADRID, madrid("2025-06-09T05:59"))
    assert not is_open(week, MADRID, madrid("2025-06-09T06:00"))
    assert not is_open(week, MADRID, madrid("2025-06-08T05:00"))
    assert next_change(week, MADRID, madrid("2025-06-08T23:30")) == madrid("2025-06-09T06:00")
    assert next_change(week, MADRID, madrid("2025-06-09T06:00")) == madrid("2025-06-15T22:00")


def test_adjacent_windows_are_one_without_a_change_between_them() -> None:
    assert next_change(on(0, "08:00-13:00", "13:00-18:00"), MADRID, madrid("2025-06-02T08:00")) == madrid(
        "2025-06-02T18:00"
    )
    assert next_change(daily("22:00-24:00", "00:00-06:00"), MADRID, madrid("2025-06-02T23:00")) == madrid(
        "2025-06-03T06:00"
    )


@pytest.mark.parametrize(
    "week", [CLOSED, ALWAYS, daily("00:00-12:00", "12:00-24:00"), daily("12:00-06:00", "06:00-12:00")]
)
def test_a_week_that_never_changes_has_no_next_change(week: Week) -> None:
    assert next_change(week, MADRID, madrid("2025-03-29T12:00")) is None


def test_a_whole_day_opens_at_its_midnight_and_closes_at_the_next() -> None:
    week = on(2, "00:00-24:00")
    assert next_change(week, MADRID, madrid("2025-06-02T12:00")) == madrid("2025-06-04T00:00")
    assert next_change(week, MADRID, madrid("2025-06-04T00:00")) == madrid("2025-06-05T00:00")


class TestInSpringWhenTwoBecomesThree:
    """Sunday 30 March 2025: at 01:00 UTC Madrid's clocks go from 02:00 to 03:00."""

    begin, end = madrid("2025-03-30T00:00"), madrid("2025-03-31T00:00")

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("02:30-05:00", ["01:00", "03:00"]),  # the skipped start moves forward to the change
            ("01:30-02:30", ["00:30", "01:00"]),  # so does the skipped end
            ("02:00-03:00", []),  # the hour that wasn't
            ("02:10-02:50", []),
            ("01:00-02:00", ["00:00", "01:00"]),
            ("03:00-04:00", ["01:00", "02:00"]),
            ("01:00-04:00", ["00:00", "02:00"]),  # three hours on the clock, two of the sun
            ("00:00-24:00", ["22:00"]),  # of the day after: 23 hours
        ],
    )
    def test_times_that_never_show_stand_for_the_change(self, written: str, expected: list[str]) -> None:
        week = on(6, written)
        assert openings(week, self.begin, self.end + timedelta(minutes=1)) == expected

    def test_a_window_it_swallowed_opens_two_weeks_after_the_last(self) -> None:
        week = on(6, "02:00-03:00")
        assert next_change(week, MADRID, madrid("2025-03-23T03:00")) == madrid("2025-04-06T02:00")

    def test_a_night_that_contains_it_is_an_hour_shorter(self) -> None:
        week = on(5, "22:00-06:00")
        opened, closed = madrid("2025-03-29T22:00"), madrid("2025-03-30T06:00")
        assert next_change(week, MADRID, opened) == closed
        assert closed.astimezone(UTC) - opened.astimezone(UTC) == timedelta(hours=7)


class TestInAutumnWhenThreeBecomesTwo:
    """Sunday 26 October 2025: at 01:00 UTC Madrid's clocks go from 03:00 back to 02:00."""

    begin, end = madrid("2025-10-26T00:00"), madrid("2025-10-27T00:00")

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("02:00-03:00", ["00:00", "02:00"]),  # the repeated hour counts twice
            ("02:30-03:00", ["00:30", "01:00", "01:30", "02:00"]),  # a part of it comes twice
            ("02:15-02:45", ["00:15", "00:45", "01:15", "01:45"]),
            ("02:30-05:00", ["00:30", "01:00", "01:30", "04:00"]),
            ("01:00-02:30", ["23:00", "00:30", "01:00", "01:30"]),
            ("01:00-02:00", ["23:00", "00:00"]),
            ("03:00-04:00", ["02:00", "03:00"]),
            ("00:00-24:00", ["23:00"]),  # of the day itself: 25 hours
        ],
    )
    def test_times_that_show_twice_count_twice(self, written: str, expected: list[str]) -> None:
        week = on(6, written)
        assert openings(week, self.begin, self.end + timedelta(minutes=1)) == expected

    def test_both_passes_are_open(self) -> None:
        week = on(6, "02:30-03:00")
        assert is_open(week, MADRID, madrid("2025-10-26T02:40", fold=0))
        assert is_open(week, MADRID, madrid("2025-10-26T02:40", fold=1))
        assert not is_open(week, MADRID, madrid("2025-10-26T02:10", fold=1))

    def test_a_night_that_contains_it_is_an_hour_longer(self) -> None:
        week = on(5, "22:00-06:00")
        opened, closed = madrid("2025-10-25T22:00"), madrid("2025-10-26T06:00")
        assert next_change(week, MADRID, opened) == closed
        assert closed.astimezone(UTC) - opened.astimezone(UTC) == timedelta(hours=9)


def test_an_instant_may_come_in_any_zone_but_not_without_one() -> None:
    week = on(0, "08:00-13:00")
    assert is_open(week, MADRID, datetime(2025, 6, 2, 6, 0, tzinfo=UTC))
    with pytest.raises(ValueError, match="no time zone"):
        is_open(week, MADRID, datetime(2025, 6, 2, 6, 0))  # noqa: DTZ001 (that's the point)
    with pytest.raises(ValueError, match="no time zone"):
        next_change(week, MADRID, datetime(2025, 6, 2, 6, 0))  # noqa: DTZ001


CHANGES = (
    datetime(2025, 3, 30, 1, tzinfo=UTC),  # Madrid, spring
    datetime(2025, 10, 26, 1, tzinfo=UTC),  # Madrid, autumn
    datetime(2025, 4, 24, 22, tzinfo=UTC),  # Cairo, midnight becomes 01:00
    datetime(2025, 10, 30, 21, tzinfo=UTC),  # Cairo, midnight becomes 23:00 of the same day
    datetime(2025, 4, 5, 15, tzinfo=UTC),  # Lord Howe, half an hour back
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia, a Friday that never was
)
ZONES = tuple(map(ZoneInfo, ("Europe/Madrid", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia", "UTC")))


@st.composite
def weeks(draw: st.DrawFn) -> Week:
    quarter_hours = st.integers(0, 95).map(lambda count: count * 15)
    windows = st.builds(lambda start, end: Hours(start, end or DAY_MINUTES), quarter_hours, quarter_hours)
    return draw(
        st.tuples(*[st.lists(windows.filter(lambda hours: hours.start != hours.end), max_size=3).map(tuple)] * 7)
    )


def minutes_of(week: Week) -> set[int]:
    """Every open minute of the week, counted from Monday's midnight."""
    return {
        (day * DAY_MINUTES + hours.start + minute) % (7 * DAY_MINUTES)
        for day, windows in enumerate(week)
        for hours in windows
        for minute in range(hours.minutes)
    }


@settings(max_examples=150)
@given(weeks(), st.sampled_from(ZONES), st.sampled_from(CHANGES), st.integers(-1500, 1500))
def test_every_change_is_found_and_none_is_invented(week: Week, zone: ZoneInfo, change: datetime, ahead: int) -> None:
    begin = change + timedelta(minutes=ahead)
    open_minutes = minutes_of(week)

    def expected(moment: datetime) -> bool:
        local = moment.astimezone(zone)
        return local.weekday() * DAY_MINUTES + local.hour * 60 + local.minute in open_minutes

    scanned = [begin + timedelta(minutes=minute) for minute in range(2 * DAY_MINUTES)]
    assert [is_open(week, zone, moment) for moment in scanned[::7]] == [expected(moment) for moment in scanned[::7]]
    first = next((moment for moment in scanned if expected(moment) != expected(begin)), None)
    found = next_change(week, zone, begin)
    if first is not None:
        assert found == first
    else:
        assert found is None or found > scanned[-1]


def test_windows_that_share_time_are_named_and_those_that_touch_are_not() -> None:
    assert list(overlaps(on(0, "08:00-13:00", "13:00-18:00"))) == []
    assert list(overlaps(daily("22:00-06:00", "06:00-22:00"))) == []
    ((day, hours), (other_day, other)) = next(overlaps(on(0, "12:00-14:00", "08:00-13:00")))
    assert (day, str(hours), other_day, str(other)) == ("mon", "08:00-13:00", "mon", "12:00-14:00")


def test_a_window_of_sunday_night_can_overlap_monday_morning() -> None:
    sunday, monday = Hours.parse("22:00-06:00"), Hours.parse("05:00-08:00")
    week: Week = ((monday,), (), (), (), (), (), (sunday,))
    assert list(overlaps(week)) == [(("mon", monday), ("sun", sunday))]


@given(weeks())
def test_windows_overlap_exactly_when_a_minute_is_counted_twice(week: Week) -> None:
    counted = sum(hours.minutes for windows in week for hours in windows)
    assert any(overlaps(week)) == (counted > len(minutes_of(week)))


@given(weeks())
def test_hours_are_written_as_they_are_read_and_survive_a_pickle(week: Week) -> None:
    for hours in (hours for windows in week for hours in windows):
        assert Hours.parse(str(hours)) == hours
        assert pickle.loads(pickle.dumps(hours)) == hours  # noqa: S301 (our own)
