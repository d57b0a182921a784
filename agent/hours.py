"""Hours of the week in which something may happen: recording, uploading.

Hours are read off the wall clock of the kiosk's zone and nothing else, which settles both changes of the clock:

- Spring, 02:00 becomes 03:00: a time in between never shows on the clock and stands for the moment of the change, so
  "02:30-05:00" opens then, and "02:10-02:50" doesn't open that day.
- Autumn, 03:00 becomes 02:00: the clock shows this hour twice and it counts twice, so "02:00-03:00" lasts two hours
  and "02:30-03:00" opens, closes and opens again.

Everything here is a pure function of its arguments. An instant is any aware `datetime`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Self

from agent.units import MisreadError, Written

DAY_MINUTES = 24 * 60

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""The days of a `Week`, in its order; also their keys in `[schedule]`."""

_HORIZON_DAYS = 16
"""A window of one day of the week opens after seven days at the latest, or after fourteen when a clock change swallowed
it once; the rest is for zones that are a day ahead of the instant's."""


@dataclass(frozen=True, slots=True, order=True)
class Hours(Written):
    """A stretch of one day, begun on that day, its end excluded. "22:00-06:00" ends on the day after."""

    start: int
    """Minutes after midnight, 0 to 1439."""
    end: int
    """Minutes after midnight, 1 to 1440; less than `start` when midnight is passed."""

    pattern = r"^\s*\d{1,2}:\d{2}\s*-\s*\d{1,2}:\d{2}\s*$"
    example = "08:00-13:00"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "08:00-13:00", "22:00-06:00" or, for the whole day, "00:00-24:00". Raises MisreadError."""
        match = re.fullmatch(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*", text, re.ASCII)
        if match is None:
            raise MisreadError("isn't a stretch of hours", f'write from and to, such as "{cls.example}"')
        start_hour, start_minute, end_hour, end_minute = map(int, match.groups())
        start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
        if max(start_minute, end_minute) > 59 or start >= DAY_MINUTES or end > DAY_MINUTES:
            raise MisreadError("has a time no clock shows", "times run from 00:00 to 24:00")
        if start == end:
            raise MisreadError("ends where it begins", 'the whole day is "00:00-24:00"')
        return cls(start, end or DAY_MINUTES)

    @property
    def minutes(self) -> int:
        """Length on a day without clock change."""
        return (self.end - self.start) % DAY_MINUTES or DAY_MINUTES

    @property
    def passes_midnight(self) -> bool:
        """Whether it ends on the day after."""
        return self.end < self.start

    def __str__(self) -> str:
        return f"{self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}"


Week = tuple[tuple[Hours, ...], ...]
"""Seven days, Monday first."""

ALWAYS: Week = ((Hours(0, DAY_MINUTES),),) * 7
"""Every hour of the week."""


def is_open(week: Week, zone: tzinfo, instant: datetime) -> bool:
    """Whether `instant` lies within `week` as the wall clock of `zone` shows it."""
    local = _aware(instant).astimezone(zone)
    minute = local.hour * 60 + local.minute
    today, yesterday = week[local.weekday()], week[local.weekday() - 1]
    return any(hours.start <= minute and (minute < hours.end or hours.passes_midnight) for hours in today) or any(
        hours.passes_midnight and minute < hours.end for hours in yesterday
    )


def next_change(week: Week, zone: tzinfo, instant: datetime) -> datetime | None:
    """The first instant after `instant`, in UTC, at which `is_open` answers otherwise; None when it never does."""
    now = is_open(week, zone, instant)
    return next(
        (moment for moment in sorted(_moments(week, zone, instant)) if is_open(week, zone, moment) is not now), None
    )


def closed_throughout(week: Week, zone: tzinfo, begin: datetime, end: datetime) -> bool:
    """Whether no moment from `begin` to `end` lies within `week`."""
    if is_open(week, zone, begin):
        return False
    opens = next_change(week, zone, begin)
    return opens is None or opens >= end


def overlaps(week: Week) -> Iterator[tuple[tuple[str, Hours], tuple[str, Hours]]]:
    """Every two windows that share time, each with the day it begins on; windows that only touch don't."""
    week_minutes = DAY_MINUTES * len(DAYS)
    windows = [(number, hours) for number, day in enumerate(week) for hours in sorted(day)]
    for place, (day, hours) in enumerate(windows):
        for other_day, other in windows[place + 1 :]:
            ahead = (other_day - day) * DAY_MINUTES + other.start - hours.start
            if ahead % week_minutes < hours.minutes or -ahead % week_minutes < other.minutes:
                yield (DAYS[day], hours), (DAYS[other_day], other)


def _moments(week: Week, zone: tzinfo, after: datetime) -> set[datetime]:
    """Every instant of the coming days at which the answer can change.

    These are the bounds of all windows on every day, in both passes of a repeated hour, and the clock changes that jump
    over one of them or back across it.
    """
    bounds = {minute % DAY_MINUTES for day in week for hours in day for minute in (hours.start, hours.end)}
    first = after.astimezone(zone).date() - timedelta(days=1)
    found = set()
    for days in range(_HORIZON_DAYS):
        for minute in bounds:
            local = datetime.combine(first + timedelta(days=days), time(minute // 60, minute % 60), zone)
            passes = sorted(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
            found.update(passes)
            if passes[0] != passes[1]:
                found.add(_clock_change(zone, *passes))
    return {moment for moment in found if moment > after}


def _clock_change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The first second from `before` on at which `zone` has the offset it has at `after`; both in UTC."""
    target = after.astimezone(zone).utcoffset()
    low, high = 0, int((after - before).total_seconds())
    while low < high:
        middle = (low + high) // 2
        if (before + timedelta(seconds=middle)).astimezone(zone).utcoffset() == target:
            high = middle
        else:
            low = middle + 1
    return before + timedelta(seconds=low)


def _aware(instant: datetime) -> datetime:
    """Refuse a naive time: `astimezone` would take it for the machine's own zone."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone")
    return instant
