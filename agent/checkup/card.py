"""The card: whether it takes what is recorded fast enough, and for how long there is room."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.checkup.finding import Finding
from agent.checkup.visit import Visit
from agent.hours import Week
from agent.settings import Settings
from agent.spool import files_below
from agent.units import human_bytes, human_seconds
from hw.storage import Storage, read_storage, sync_latencies

_SYNCS: Final = 40
_SYNC_BYTES: Final = 8192
"""About what two seconds of speech take, and what the recorder syncs at a time."""
_SLOW_S: Final = 0.25
_BUSY: Final = 0.25
"""Each sync of the recorder is two of these: at a quarter of `sync_seconds` the card is busy half of the time."""

_DAY_S: Final = 86400.0
_LEAST_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes on the spool's file system."""

    size: int
    free: int
    spool: int
    """What the spool takes now."""


def look(visit: Visit) -> Iterator[Finding]:
    """Can it be written, how fast, is it sound, how long does it last."""
    root = visit.layout.root
    there = next(each for each in (root, *root.parents) if each.exists())
    visit.progress("measuring the card")
    try:
        latencies = sync_latencies(there, _SYNCS, _SYNC_BYTES)
    except PermissionError:
        yield Finding("speed", "grey", f"this user may not write to {there}", "run the command with sudo")
    except OSError as error:
        yield Finding(
            "speed",
            "red",
            f"{there} can't be written: {error.strerror}",
            "make room, mount it writable, or take another card",
        )
    else:
        yield speed(latencies, visit.settings.spool.sync_seconds)
    storage = read_storage(there, visit.root)
    yield from _health(storage)
    if storage.size_bytes is not None and storage.free_bytes is not None:
        room = Room(storage.size_bytes, storage.free_bytes, _taken(visit.layout.spool))
        yield space(room, visit.settings, visit.bytes_per_hour)


def speed(latencies_s: Sequence[float], sync_seconds: float) -> Finding:
    """How long the card takes to make data durable, as it is written to all day."""
    ordered = sorted(latencies_s)
    median, slow = statistics.median(ordered), ordered[-1 - len(ordered) // 20]
    facts = {"median_ms": round(1e3 * median, 1), "p95_ms": round(1e3 * slow, 1), "worst_ms": round(1e3 * ordered[-1])}
    text = (
        f"{len(ordered)} syncs: half of them within {_ms(median)}, 95 % within {_ms(slow)}, all within "
        f"{_ms(ordered[-1])}"
    )
    if median > _BUSY * sync_seconds:
        way_out = "take another card, one for continuous recording (A1 or A2, endurance)"
        return Finding("speed", "red", f"{text}: recording can't keep up", way_out, facts)
    if slow > _SLOW_S:
        way_out = "check again when nothing else writes; if it stays, take a faster card (A1 or A2, endurance)"
        return Finding("speed", "yellow", f"slow: {text}", way_out, facts)
    return Finding("speed", "green", text, facts=facts)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def space(room: Room, settings: Settings, bytes_per_hour: float | None) -> Finding:
    """How long recordings can stay here, by what was measured, or by what they can take at most."""
    spool = settings.spool
    least = bytes_per_hour is None
    hourly = bytes_per_hour or settings.segment_reserve_bytes * 3600 / spool.segment_seconds
    daily_s = hours_a_week(settings.recording_week) / 7 * 3600
    usable = max(0, min(int(spool.cap), room.free + room.spool - int(spool.keep_free)))
    holds_s = usable / hourly * _DAY_S / (daily_s / 3600) if daily_s else 0.0
    facts = {"usable_bytes": usable, "bytes_per_hour": round(hourly), "holds_days": round(holds_s / _DAY_S, 2)}
    hours = f"{human_bytes(round(hourly))} an hour, {daily_s / 3600:.3g} hours a day"
    if not daily_s:
        return Finding("space", "red", "[schedule] has no hours: nothing is ever recorded", "fill in its days", facts)
    text = f"{human_bytes(usable)} holds {'at least ' * least}{human_seconds(holds_s)} at these settings ({hours})"
    if room.free < spool.keep_free:
        return Finding(
            "space",
            "red",
            f"{human_bytes(room.free)} is free, and spool.keep_free is {spool.keep_free}: recordings are given up to "
            "make room",
            "make room (`du -x`), take a larger card, or lower `spool.keep_free`",
            facts,
        )
    if holds_s < _LEAST_S:
        return Finding("space", "red", text, "take a larger card, or raise `spool.cap`", facts)
    if usable < spool.cap:
        return Finding(
            "space",
            "yellow",
            f"{text}; spool.cap is {spool.cap}, for which this file system of {human_bytes(room.size)} has no room "
            f"beside what is on it and spool.keep_free",
            f"lower `spool.cap` below {human_bytes(usable)}, or take a larger card",
            facts,
        )
    if settings.upload.target and holds_s < _DAY_S:
        return Finding("space", "yellow", f"{text}: no day without a network", "raise `spool.cap`", facts)
    return Finding("space", "green", text + _retention(settings, holds_s), facts=facts)


def _retention(settings: Settings, holds_s: float) -> str:
    max_age = settings.spool.max_age
    if max_age and max_age < holds_s:
        return f"; spool.max_age gives them up after {max_age}"
    return "" if settings.upload.target else "; then the oldest are given up"


def hours_a_week(week: Week) -> float:
    """How long recording may run."""
    return sum(hours.minutes for day in week for hours in day) / 60


def _health(storage: Storage) -> Iterator[Finding]:
    if storage.read_only:
        yield Finding(
            "file system", "red", "it is mounted read-only", "`dmesg` tells why; a card that turned so is failing"
        )
    elif storage.errors:
        yield Finding(
            "file system",
            "red",
            f"ext4 has met {storage.errors} errors since it was made or repaired",
            "repair it (e2fsck at the next start: `touch /forcefsck`), or take another card",
        )
    elif storage.errors is None:
        yield Finding("file system", "grey", "it doesn't count its errors")
    else:
        yield Finding("file system", "green", "no errors")
    card = storage.card
    if card is not None and card.life_used_pct is not None:
        worn = card.life_used_pct > 80 or card.spare in ("warning", "urgent")
        text = f"{card.kind} {card.name or ''}: at most {card.life_used_pct} % of its life is used"
        yield Finding("wear", "yellow" if worn else "green", text, "replace it soon" if worn else "")


def _taken(directory: Path) -> int:
    total = 0
    for part in ("open", "sealed", "quarantine"):
        for entry in files_below(directory / part):
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except OSError:
                continue
    return total
