"""Moments as people write and read them, in the zone of the kiosk."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, tzinfo

from agent.contract.keys import utc
from agent.errors import KioskError
from agent.units import NS_PER_S, Duration, MisreadError


def moment(text: str, zone: tzinfo, now_ns: int) -> int:
    """Nanoseconds since 1970 of "2026-03-01 08:00", "2026-03-01", "08:00" (today) or "2h" (ago). Raises KioskError."""
    try:
        return now_ns - Duration.parse(text).ns
    except MisreadError:
        pass
    today = utc(now_ns).astimezone(zone).date()
    named = {"today": today, "yesterday": today - timedelta(days=1)}
    try:
        return _wall_ns(named.get(text.strip()) or _read(text.strip(), today), zone)
    except ValueError:
        raise KioskError(
            "read time",
            place=f'"{text}"',
            cause="isn't a date or time",
            hint='write "2026-03-01 08:00", "2026-03-01", "08:00" for today, "yesterday", or "2h" for two hours ago',
        ) from None


def _read(text: str, today: date) -> date:
    if ":" in text and "-" not in text:
        return datetime.combine(today, time.fromisoformat(text))
    return datetime.fromisoformat(text)


def _wall_ns(value: date, zone: tzinfo) -> int:
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=zone)
    return round(value.timestamp() * 1_000_000) * (NS_PER_S // 1_000_000)


def local(wall_ns: int, zone: tzinfo) -> str:
    """For people: "2026-03-01 08:00:02"."""
    return f"{utc(wall_ns).astimezone(zone):%Y-%m-%d %H:%M:%S}"


def iso(wall_ns: int, zone: tzinfo) -> str:
    """For programs: "2026-03-01T08:00:02.250+01:00"."""
    return utc(wall_ns).astimezone(zone).isoformat(timespec="milliseconds")
