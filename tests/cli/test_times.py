"""Moments as people write them (`agent.commands.times`)."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agent.commands.times import iso, local, moment
from agent.errors import KioskError
from agent.units import NS_PER_S

MADRID = ZoneInfo("Europe/Madrid")
NOW = datetime(2026, 3, 2, 0, 30, tzinfo=MADRID)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-03-01 08:00", datetime(2026, 3, 1, 8, tzinfo=MADRID)),
        ("2026-03-01T08:00:05.250", datetime(2026, 3, 1, 8, 0, 5, 250_000, tzinfo=MADRID)),
        ("2026-03-01T08:00Z", datetime(2026, 3, 1, 8, tzinfo=UTC)),
        ("2026-03-01 08:00+05:30", datetime(2026, 3, 1, 2, 30, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=MADRID)),
        ("08:15", datetime(2026, 3, 2, 8, 15, tzinfo=MADRID)),
        ("today", datetime(2026, 3, 2, tzinfo=MADRID)),
        ("yesterday", datetime(2026, 3, 1, tzinfo=MADRID)),
        ("2h", datetime(2026, 3, 1, 22, 30, tzinfo=MADRID)),
        ("7d", datetime(2026, 2, 23, 0, 30, tzinfo=MADRID)),
    ],
)
def test_a_moment_is_read_in_the_zone_of_the_kiosk(text: str, meant: datetime) -> None:
    now_ns = round(NOW.timestamp()) * NS_PER_S
    assert moment(text, MADRID, now_ns) == round(meant.timestamp() * 1000) * 1_000_000


@pytest.mark.parametrize("text", ["", "soon", "25:00", "2026-13-01", "8", "-2h"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(KioskError, match="isn't a date or time"):
        moment(text, MADRID, 0)


def test_people_are_shown_the_wall_clock_and_programs_its_offset_too() -> None:
    wall_ns = 1_800_000_000_250_000_000
    assert local(wall_ns, MADRID) == "2027-01-15 09:00:00"
    assert iso(wall_ns, MADRID) == "2027-01-15T09:00:00.250+01:00"
