"""What must hold between the keys of a configuration beyond their types: times, memory, room on the card.

Each check is a pure function of the settings and yields mistakes; `CHECKS` says which keys it looks at, so that it is
left out when one of those is already known to be wrong.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from functools import partial

from agent.config import places
from agent.config.keys import shown
from agent.contract.age import MOST_RECIPIENTS
from agent.contract.alerts import BY_NAME, NAMES
from agent.errors import Mistake
from agent.hours import Week, overlaps
from agent.settings import Settings, Voice
from agent.units import Duration, Size, Written, human_bytes

_MOST_RING_BYTES = 128 * 2**20
"""A Pi Zero 2 has 512 MiB, and the ring is locked into memory."""

_HANGOVER_S = (1, 600)
_MANIFEST_EVERY_S = (10, 7 * 86400)

_CARD_NUMBER = re.compile(r"(plughw|hw|sysdefault|front|dsnoop):(CARD=)?\d.*")


def zone_exists(settings: Settings) -> Iterator[Mistake]:
    """`device.timezone` is a zone this machine knows."""
    import zoneinfo

    name = settings.device.timezone
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = {zone.casefold(): zone for zone in zoneinfo.available_timezones()}
        near = difflib.get_close_matches(name.casefold(), known, n=1)
        if not known:
            hint = "this machine has no time zones at all: install the package tzdata"
        elif near:
            hint = f'did you mean "{known[near[0]]}"?'
        else:
            hint = 'write an IANA name such as "Europe/Madrid"; `timedatectl list-timezones` lists them'
        yield Mistake("device.timezone", f"{shown('device.timezone', name)} is no time zone known here", hint)


def microphone_has_a_stable_name(settings: Settings) -> Iterator[Mistake]:
    """`capture.pcm` doesn't count cards: the count changes with what is plugged in."""
    pcm = settings.capture.pcm
    if not pcm.strip() or not pcm.isprintable():
        yield Mistake("capture.pcm", "names no microphone", '`kiosk-recorder mics` lists them; "default" is the first')
    elif _CARD_NUMBER.fullmatch(pcm):
        yield Mistake(
            "capture.pcm",
            f"{shown('capture.pcm', pcm)} goes by the card's number, which changes with what is plugged in",
            '`kiosk-recorder mics` lists the stable names, such as "hw:CARD=KioskMic"',
        )


def ring_fits_into_memory(settings: Settings) -> Iterator[Mistake]:
    """The ring leaves memory for the rest of a small Pi."""
    capture = settings.capture
    per_second = capture.rate * capture.channels * 2
    if capture.ring_seconds * per_second > _MOST_RING_BYTES:
        yield Mistake(
            "capture.ring_seconds",
            f"{capture.ring_seconds} s at this rate take {human_bytes(capture.ring_seconds * per_second)} of memory",
            f"use at most {_MOST_RING_BYTES // per_second}, or a lower capture.rate",
        )


def schedule_goes_with_its_mode(settings: Settings) -> Iterator[Mistake]:
    """Hours are given if and only if they are kept to: whoever writes them relies on the silence between them."""
    scheduled = settings.capture.mode == "scheduled"
    if scheduled and not any(settings.schedule.week):
        yield Mistake(
            "capture.mode", 'is "scheduled" without any hours', 'add a section [schedule] with mon = ["08:00-18:00"]'
        )
    elif not scheduled and any(settings.schedule.week):
        yield Mistake(
            "schedule",
            f'has hours, yet recording doesn\'t keep to them while capture.mode is "{settings.capture.mode}"',
            'set capture.mode = "scheduled", or remove the hours',
        )


def voice_goes_with_its_mode(settings: Settings) -> Iterator[Mistake]:
    """The detector is tuned only where it's used, for the same reason."""
    if settings.voice != Voice() and settings.capture.mode != "voice":
        yield Mistake(
            "voice",
            f'is set, yet everything is recorded while capture.mode is "{settings.capture.mode}"',
            'set capture.mode = "voice", or remove the section',
        )


def voice_is_within_reach(settings: Settings) -> Iterator[Mistake]:
    """The ring holds the pre-roll, and the hang-over ends."""
    voice, ring = settings.voice, settings.capture.ring_seconds
    if voice.preroll > ring:
        yield Mistake(
            "voice.preroll",
            f"{voice.preroll} is more than the {ring} s that capture.ring_seconds keeps in memory",
            f'use at most "{ring}s", or raise capture.ring_seconds',
        )
    low, high = _HANGOVER_S
    if not low <= voice.hangover <= high:
        yield Mistake("voice.hangover", f"{voice.hangover} is out of range", f'use "{low}s" to "{Duration(high)}"')


def schedule_hours_are_apart(settings: Settings) -> Iterator[Mistake]:
    """No two windows of the week share time."""
    yield from _overlapping(settings.schedule.week, "schedule.{}")


def upload_hours_are_apart(settings: Settings) -> Iterator[Mistake]:
    """No two windows of the day share time."""
    if settings.upload.hours:
        yield from list(_overlapping(settings.upload.week, "upload.hours"))[:1]


def _overlapping(week: Week, key: str) -> Iterator[Mistake]:
    for (day, hours), (other_day, other) in overlaps(week):
        named = key.format(other_day)
        first = f'"{hours}"' if key.format(day) == named else f'"{hours}" of {key.format(day)}'
        yield Mistake(named, f'"{other}" overlaps {first}', "write each time once: join the two or part them")


def two_segments_fit(settings: Settings) -> Iterator[Mistake]:
    """While one segment is being sealed the next is being written."""
    spool, capture, need = settings.spool, settings.capture, 2 * settings.segment_reserve_bytes
    if spool.cap < need:
        yield Mistake(
            "spool.cap",
            f"{spool.cap} can't hold two segments: {spool.segment_seconds} s of {capture.channels} × {capture.rate} Hz "
            f"take up to {human_bytes(need // 2)}",
            f'set it to at least "{math.ceil(need / 2**20)}MiB", or shorten spool.segment_seconds',
        )


def memory_holds_recordings(settings: Settings) -> Iterator[Mistake]:
    """Should the card fail, there is room to go on."""
    cap, need = settings.spool.direct_cap, settings.least_direct_cap
    if cap < need:
        yield Mistake(
            "spool.direct_cap",
            f"{cap} can't hold two seconds of recordings: should the card fail, nothing could be recorded",
            f'set it to at least "{math.ceil(need / 2**20)}MiB"',
        )


def quarantine_leaves_room(settings: Settings) -> Iterator[Mistake]:
    """Files nobody understands never crowd out recording."""
    spool = settings.spool
    most = max(0, min(spool.cap // 2, spool.cap - 2 * settings.segment_reserve_bytes))
    if spool.quarantine_cap > most:
        yield Mistake(
            "spool.quarantine_cap",
            f"{spool.quarantine_cap} leaves too little of spool.cap ({spool.cap}) for recordings",
            f'use at most "{Size(most // 2**20 * 2**20 or most)}"',
        )


def ages_are_in_order(settings: Settings) -> Iterator[Mistake]:
    """A recording lives longer than it takes to make, and isn't to be kept beyond its own end."""
    spool = settings.spool
    if 0 < spool.max_age < spool.segment_seconds:
        yield Mistake(
            "spool.max_age",
            f"{spool.max_age} is shorter than one segment: every recording would go as soon as it is there",
            'use days, such as "30d", or "0s" for no limit',
        )
    elif 0 < spool.max_age < spool.keep_uploaded:
        yield Mistake(
            "spool.keep_uploaded",
            f"{spool.keep_uploaded} is longer than spool.max_age ({spool.max_age}), which ends it",
            "shorten it, or raise spool.max_age",
        )


def recipients_are_few_and_distinct(settings: Settings) -> Iterator[Mistake]:
    """Every recipient takes room in every file, and one that is given twice was meant to be another."""
    recipients = settings.seal.recipients
    if len(recipients) > MOST_RECIPIENTS:
        yield Mistake("seal.recipients", f"names {len(recipients)} keys", f"name at most {MOST_RECIPIENTS}")
    for number, each in enumerate(recipients):
        if each in recipients[:number]:
            yield Mistake(f"seal.recipients[{number}]", "is there twice", "name each key once")


def manifests_are_in_time(settings: Settings) -> Iterator[Mistake]:
    """A proof that comes a month late is none, and each manifest costs the card a commit or two."""
    low, high = _MANIFEST_EVERY_S
    every = settings.custody.manifest_every
    if not low <= every <= high:
        yield Mistake(
            "custody.manifest_every",
            f"{every} is out of range",
            f'use "{Duration(low)}" to "{Duration(high)}"',
        )


def limits_are_in_order(name: str, settings: Settings) -> Iterator[Mistake]:
    """What is critical is worse than what is a warning, and what is over is not beyond it."""
    limits, row = settings.alerts.limits(name), BY_NAME[name]
    if limits.warning is None or limits.critical is None:
        return
    worse = limits.critical > limits.warning if row.direction == "above" else limits.critical < limits.warning
    if not worse:
        critical, warning = (
            str(limit) if isinstance(limit, Written) else f"{limit:g}" for limit in (limits.critical, limits.warning)
        )
        yield Mistake(
            f"alerts.{name}.critical",
            f"{critical} isn't worse than the warning at {warning}",
            f'set it {row.direction} {warning}, or warning = "off" for no warning',
        )


def lines_are_two(settings: Settings) -> Iterator[Mistake]:
    """A line is a light or a button."""
    gpio = settings.gpio
    if gpio.led and gpio.led == gpio.button:
        yield Mistake("gpio.button", f"is line {gpio.button}, which is the LED's", "use another line, such as 27")


CHECKS: tuple[tuple[Callable[[Settings], Iterator[Mistake]], tuple[str, ...]], ...] = (
    (zone_exists, ("device.timezone",)),
    (microphone_has_a_stable_name, ("capture.pcm",)),
    (ring_fits_into_memory, ("capture.ring_seconds", "capture.rate", "capture.channels")),
    (schedule_goes_with_its_mode, ("capture.mode", "schedule")),
    (voice_goes_with_its_mode, ("capture.mode", "voice")),
    (voice_is_within_reach, ("voice", "capture.ring_seconds")),
    (schedule_hours_are_apart, ("schedule",)),
    (upload_hours_are_apart, ("upload.hours",)),
    (places.spool_path_is_absolute, ("spool.path",)),
    (
        two_segments_fit,
        ("spool.cap", "spool.segment_seconds", "spool.sync_seconds", "capture.rate", "capture.channels"),
    ),
    (memory_holds_recordings, ("spool.direct_cap", "spool.sync_seconds", "capture.rate", "capture.channels")),
    (recipients_are_few_and_distinct, ("seal.recipients",)),
    (quarantine_leaves_room, ("spool", "capture.rate", "capture.channels")),
    (ages_are_in_order, ("spool.max_age", "spool.keep_uploaded", "spool.segment_seconds")),
    (places.target_is_one_of_three, ("upload.target", "spool.path")),
    (places.store_is_reached_safely, ("upload.target", "upload.endpoint_url", "upload.region")),
    (places.broker_is_reached_safely, ("mqtt.url",)),
    (places.broker_keys_belong_together, ("mqtt",)),
    (places.broker_files_are_absolute, ("mqtt",)),
    (places.discovery_prefix_is_a_topic, ("mqtt.discovery_prefix",)),
    (places.metrics_go_where_they_are_looked_for, ("export.textfile", "spool.path")),
    (lines_are_two, ("gpio",)),
    (places.custody_key_is_absolute, ("custody.key",)),
    (places.secrets_are_private, ("mqtt", "custody.key")),
    (manifests_are_in_time, ("custody.manifest_every",)),
    *((partial(limits_are_in_order, name), (f"alerts.{name}",)) for name in NAMES),
)
