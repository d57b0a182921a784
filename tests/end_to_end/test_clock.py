"""Clocks that are wrong, and become right: real recorder, real courier, real SeaweedFS, a wall clock that goes by plan.

Minutes pass in seconds. A plan says when the wall clock jumps and whether the kernel would call it synchronised; the
monotonic clock never jumps, as on every machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from agent.contract.keys import utc
from agent.hours import Hours
from agent.ledger import Segment
from agent.settings import Capture, Device, Schedule, Settings, Spool, Upload
from agent.timeline import Timeline, power_off_seconds, read
from agent.units import NS_PER_S, Duration, Size
from hw.clock import SystemClock
from hw.simulated import SimulatedRoom
from hw.speech import speech_like
from tests.end_to_end.kiosk import Kiosk, stop
from tests.end_to_end.plan import Plan, Turn
from tests.servers import Bucket
from tests.soundcard import Soundcard, eventually

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 8000
SPEED = 60.0
SEGMENT_S = 20
FIRST, SECOND = "b1" * 16, "b2" * 16

ROOM_BEGAN_S = 1000.0
"""The room's own clock when it begins; a boot that begins with it is 20 s old then."""

AGE_S = 20.0

YEAR_S = 365.25 * 86400

Make = Callable[..., Kiosk]


@pytest.fixture(scope="module")
def speech() -> NDArray[np.int16]:
    return speech_like(60, RATE, 1)


@pytest.fixture
def room(soundcard: Soundcard, speech: NDArray[np.int16]) -> SimulatedRoom:
    return soundcard(speech, RATE, speed=SPEED, patient=True)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes kiosks that keep what they upload."""
    kiosks: list[Kiosk] = []

    def kiosk(target: str, environment: dict[str, str] | None = None, **upload: object) -> Kiosk:
        settings = Settings(
            device=Device(site="north", id="room-1", timezone="Europe/Madrid"),
            capture=Capture(pcm="simroom", rate=RATE, ring_seconds=300),
            spool=Spool(
                path=tmp_path / "kiosk",
                segment_seconds=SEGMENT_S,
                sync_seconds=60,
                keep_free=Size(0),
                keep_uploaded=Duration(86400),
            ),
            upload=Upload(target=target, **upload),  # type: ignore[arg-type]
        )
        kiosks.append(Kiosk(settings, environment or {}).__enter__())
        return kiosks[-1]

    yield kiosk
    for each in kiosks:
        each.__exit__()


@pytest.fixture
def cloud(make: Make, bucket: Bucket) -> Kiosk:
    """A kiosk that uploads to `bucket`."""
    return make(f"s3://{bucket.name}/clinics", bucket.store.kiosk.environment, endpoint_url=bucket.store.url)


def boot(*turns: Turn, name: str = FIRST, began_s: float = ROOM_BEGAN_S - AGE_S) -> Plan:
    return Plan(name, began_s, turns)


def began_now(room: SimulatedRoom) -> float:
    """When a boot began that is `AGE_S` old now."""
    return room.clock().monotonic_ns() / NS_PER_S - AGE_S


def recorded_until(kiosk: Kiosk, room_s: float) -> bool:
    return any(segment.end_ns >= room_s * NS_PER_S for segment in kiosk.segments())


def everything_is_uploaded(kiosk: Kiosk) -> bool:
    segments = kiosk.segments()
    return bool(segments) and all(segment.state == "acknowledged" for segment in segments)


def assert_dated(kiosk: Kiosk, plan: Plan, at_s: float) -> list[Segment]:
    """Every key of this boot carries the time that the wall clock of `plan` shows at `at_s`. Returns its segments."""
    with kiosk.ledger() as ledger:
        (offset_ns,) = (known.offset_ns for known in ledger.boots() if known.boot == plan.boot)
    assert abs(offset_ns - plan.offset_ns(at_s)) < NS_PER_S
    segments = [segment for segment in kiosk.segments() if segment.boot == plan.boot]
    for segment in segments:
        start = utc(offset_ns + segment.begin_ns)
        assert f"/{start:%Y/%m/%d}/{start:%Y%m%dT%H%M%SZ}_{segment.run}_" in str(segment.key)
    return segments


def assert_each_is_there_once(kiosk: Kiosk, bucket: Bucket) -> None:
    """As many objects as segments, each with the content that the kiosk still has: nothing was overwritten."""
    segments = kiosk.segments()
    assert sorted(bucket.keys()) == sorted(str(segment.key) for segment in segments)
    for segment in segments:
        content, metadata = bucket.get(str(segment.key))
        assert content == kiosk.layout.audio(segment.name).read_bytes()
        assert (metadata["kr-run"], metadata["kr-seq"]) == (segment.run, str(segment.seq))


def timeline(kiosk: Kiosk) -> Timeline:
    """It tiles; and no key was ever given twice or changed."""
    with kiosk.ledger() as ledger:
        found = read(ledger)
        keyed = [entry.body for entry in ledger.entries() if entry.kind == "keyed"]
        assert ledger.broken_link() is None
    assert found.faults == []
    assert len({body["key"] for body in keyed}) == len(keyed)
    assert {body["key"] for body in keyed} == {segment.key for segment in kiosk.segments()} - {None}
    return found


def metadata(bucket: Bucket, segment: Segment) -> dict[str, str]:
    return bucket.get(str(segment.key))[1]


def test_a_boot_in_1970_is_recorded_at_once_and_dated_when_the_time_server_answers_three_minutes_later(
    cloud: Kiosk, bucket: Bucket, room: SimulatedRoom
) -> None:
    right_s = datetime(2026, 3, 2, 0, 1, tzinfo=UTC).timestamp()
    plan = boot(Turn(0, 0, synchronised=False), Turn(200, right_s, synchronised=True))
    recorder, courier = cloud.record(room, plan=plan), cloud.upload_by(plan, room)
    eventually(lambda: recorded_until(cloud, 260), "four minutes are recorded", 60)
    assert stop(recorder) == 0
    eventually(lambda: everything_is_uploaded(cloud), "everything is uploaded", 60)
    assert stop(courier) == 0
    segments = assert_dated(cloud, plan, 200)
    assert segments == cloud.segments()
    assert segments[0].begin_ns / NS_PER_S < AGE_S + 5, "it was heard at once"
    for segment in segments:
        said = metadata(bucket, segment)
        assert said["kr-clock"] == "synchronised"
        moment = datetime.fromisoformat(said["kr-start"]).timestamp()
        assert moment == pytest.approx(right_s - 200 + segment.begin_ns / NS_PER_S, abs=1)
    keys = [str(segment.key) for segment in segments]
    assert keys == sorted(keys), "the keys tell the order"
    assert {"/2026/03/01/" in key for key in keys} == {True, False}, "midnight lies in between"
    assert not any("/1970/" in key for key in keys)
    assert_each_is_there_once(cloud, bucket)
    timeline(cloud)
    with cloud.ledger() as ledger:
        kinds = [entry.kind for entry in ledger.entries()]
    assert kinds.count("retimed") == 1
    assert kinds.index("retimed") < kinds.index("keyed"), "no key was fixed before"


def test_a_clock_that_was_five_hours_ahead_steps_back_and_overwrites_nothing(
    cloud: Kiosk, bucket: Bucket, room: SimulatedRoom
) -> None:
    """Synchronised all the while, with a time server that was wrong: what was uploaded before keeps its key."""
    right_s = datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()
    plan = boot(Turn(0, right_s + 5 * 3600, synchronised=True), Turn(120, right_s + 120, synchronised=True))
    courier, recorder = cloud.upload_by(plan, room), cloud.record(room, plan=plan)
    eventually(lambda: recorded_until(cloud, 220), "three minutes are recorded", 60)
    assert stop(recorder) == 0
    eventually(lambda: everything_is_uploaded(cloud), "everything is uploaded", 60)
    assert stop(courier) == 0
    hours = [str(segment.key).rsplit("/", 1)[1][9:11] for segment in cloud.segments()]
    assert hours == sorted(hours, reverse=True)
    assert set(hours) == {"14", "09"}, "before the step the wrong time was the best there was"
    assert_each_is_there_once(cloud, bucket)
    (account,) = timeline(cloud).accounts
    assert [interval.reason for interval in account.intervals] == ["", "restart"], "no time was lost by it"


def test_after_a_boot_with_a_clock_that_was_ahead_the_power_off_is_not_negative_and_not_certain(
    cloud: Kiosk, bucket: Bucket, room: SimulatedRoom
) -> None:
    """The wrong time was never put right in its own boot: the next one began before it, as the wall clock has it."""
    right_s = datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()
    ahead = boot(Turn(0, right_s + 5 * 3600, synchronised=True))
    recorder = cloud.record(room, plan=ahead)
    eventually(lambda: recorded_until(cloud, 60), "a minute is recorded", 60)
    assert stop(recorder) == 0
    right = boot(Turn(0, right_s + 600, synchronised=True), name=SECOND, began_s=began_now(room))
    recorder, courier = cloud.record(room, plan=right), cloud.upload_by(right, room)
    eventually(lambda: {segment.boot for segment in cloud.segments()} == {FIRST, SECOND}, "another minute", 60)
    assert stop(recorder) == 0
    eventually(lambda: everything_is_uploaded(cloud), "everything is uploaded", 60)
    assert stop(courier) == 0
    assert_each_is_there_once(cloud, bucket)
    assert power_offs(cloud) == [(0.0, False)]


def test_two_boots_in_1970_do_not_get_into_each_others_way(cloud: Kiosk, bucket: Bucket, room: SimulatedRoom) -> None:
    """The second begins at the very time at which the first did; nobody can say any more when that was."""
    first = boot(Turn(0, 0, synchronised=False))
    recorder = cloud.record(room, plan=first)
    eventually(lambda: recorded_until(cloud, 80), "a minute is recorded", 60)
    assert stop(recorder) == 0
    right_s = datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()
    began_s = ROOM_BEGAN_S + room.clock().monotonic_ns() / NS_PER_S - ROOM_BEGAN_S - AGE_S
    second = boot(Turn(0, 0, synchronised=False), Turn(100, right_s, synchronised=True), name=SECOND, began_s=began_s)
    recorder, courier = cloud.record(room, plan=second), cloud.upload_by(second, room)
    eventually(lambda: any(s.boot == SECOND and s.end_ns > 160 * NS_PER_S for s in cloud.segments()), "recorded", 60)
    assert stop(recorder) == 0
    eventually(lambda: everything_is_uploaded(cloud), "everything is uploaded", 60)
    assert stop(courier) == 0
    lost_in_time = assert_dated(cloud, first, 0)
    assert {metadata(bucket, segment)["kr-clock"] for segment in lost_in_time} == {"unsynchronised"}
    assert all("/1970/01/01/" in str(segment.key) for segment in lost_in_time)
    found_again = assert_dated(cloud, second, 100)
    assert {metadata(bucket, segment)["kr-clock"] for segment in found_again} == {"synchronised"}
    assert_each_is_there_once(cloud, bucket)
    ((seconds, certain),) = power_offs(cloud)
    assert seconds >= 0
    assert not certain


def power_offs(kiosk: Kiosk) -> list[tuple[float, bool]]:
    """Length of each time between boots, and whether it is certain."""
    accounts = timeline(kiosk).accounts
    boots = {account.boot.boot: account.boot for account in accounts}
    return [power_off_seconds(off, boots[off.previous], account.boot) for account in accounts for off in account.before]


def test_with_the_time_server_blocked_for_ever_the_stores_clock_serves(
    cloud: Kiosk, bucket: Bucket, soundcard: Soundcard, speech: NDArray[np.int16]
) -> None:
    """The courier's whole process lives five hours in the past: its signatures, too, which the store refuses."""
    wrong_s = -5 * 3600
    room = soundcard(speech, RATE)
    began_s = SystemClock().monotonic_ns() / NS_PER_S - AGE_S
    plan = boot(Turn(0, time.time() - AGE_S + wrong_s, synchronised=False), began_s=began_s)
    cloud.settings = replace(
        cloud.settings,
        spool=replace(cloud.settings.spool, segment_seconds=1),
        upload=replace(cloud.settings.upload, clock_wait=Duration(3)),
    )
    recorder, courier = cloud.record(room, plan=plan), cloud.upload_by(plan, None, **faketime(wrong_s))
    eventually(lambda: any(segment.state == "acknowledged" for segment in cloud.segments()), "one is uploaded", 60)
    assert stop(recorder) == 0
    eventually(lambda: everything_is_uploaded(cloud), "everything is uploaded", 60)
    assert stop(courier) == 0
    for segment in cloud.segments():
        said = metadata(bucket, segment)
        assert said["kr-clock"] == "server"
        heard_s = began_s + segment.begin_ns / NS_PER_S - SystemClock().monotonic_ns() / NS_PER_S + time.time()
        assert datetime.fromisoformat(said["kr-start"]).timestamp() == pytest.approx(heard_s, abs=3)
        assert segment.key_clock == "server"
    assert_each_is_there_once(cloud, bucket)
    timeline(cloud)


def faketime(seconds: float) -> dict[str, str]:
    """What makes a whole process believe that it is another time; skips where libfaketime is missing."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed")
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{seconds:+.0f}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_with_the_time_server_blocked_for_ever_a_directory_gets_what_there_is_and_is_told(
    make: Make, room: SimulatedRoom, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    kiosk = make(f"file://{tmp_path / 'disk'}", clock_wait=Duration(120))
    plan = boot(Turn(0, datetime(2020, 1, 1, tzinfo=UTC).timestamp(), synchronised=False))
    courier, recorder = kiosk.upload_by(plan, room), kiosk.record(room, plan=plan)
    eventually(lambda: len(kiosk.segments()) >= 2, "something is recorded", 60)
    assert not any(segment.key for segment in kiosk.segments()), "the clock is waited for"
    eventually(lambda: any(segment.key for segment in kiosk.segments()), "it was waited for long enough", 60)
    assert stop(recorder) == 0
    eventually(lambda: everything_is_uploaded(kiosk), "everything is uploaded", 60)
    assert stop(courier) == 0
    for segment in assert_dated(kiosk, plan, 0):
        assert segment.key_clock == "unsynchronised"
        said = json.loads((tmp_path / "disk" / f"{segment.key}.json").read_text())
        assert said["kr-clock"] == "unsynchronised"
    timeline(kiosk)


def test_a_time_server_that_jumps_ahead_by_twenty_years_evicts_nothing(
    cloud: Kiosk, bucket: Bucket, room: SimulatedRoom
) -> None:
    """What an earlier boot left to upload, and what is kept of what was uploaded, is suddenly decades old."""
    right_s = datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()
    earlier = boot(Turn(0, right_s, synchronised=True))
    recorder, courier = cloud.record(room, plan=earlier), cloud.upload_by(earlier, room)
    eventually(lambda: any(segment.state == "acknowledged" for segment in cloud.segments()), "one is uploaded", 60)
    assert stop(courier) == 0
    before = len(cloud.segments())
    eventually(lambda: len(cloud.segments()) > before + 1, "more is recorded", 60)
    assert stop(recorder) == 0
    jumped = boot(
        Turn(0, right_s + 300, synchronised=False),
        Turn(60, right_s + 360 + 20 * YEAR_S, synchronised=True),
        name=SECOND,
        began_s=began_now(room),
    )
    recorder = cloud.record(room, plan=jumped)
    eventually(lambda: any(s.boot == SECOND and s.end_ns > 160 * NS_PER_S for s in cloud.segments()), "recorded", 60)
    assert stop(recorder) == 0
    assert {segment.state for segment in cloud.segments()} == {"acknowledged", "pending"}
    courier = cloud.upload_by(jumped, room)
    eventually(lambda: everything_is_uploaded(cloud), "everything is uploaded", 60)
    assert stop(courier) == 0
    assert "far older than `max_age`" in cloud.log.read_text()
    assert all(f"/{utc(round(right_s * NS_PER_S)):%Y/%m/%d}/" in str(s.key) for s in assert_dated(cloud, earlier, 0))
    assert all("/2046/" in str(segment.key) for segment in assert_dated(cloud, jumped, 60))
    assert_each_is_there_once(cloud, bucket)
    timeline(cloud)


MADRID = ZoneInfo("Europe/Madrid")


def scheduled(kiosk: Kiosk, *sunday: str) -> None:
    """Recording hours on Sundays, when clocks are changed."""
    kiosk.settings = replace(
        kiosk.settings,
        capture=replace(kiosk.settings.capture, mode="scheduled"),
        schedule=Schedule(sun=tuple(Hours.parse(hours) for hours in sunday)),
    )


def heard_on_the_wall_clock(kiosk: Kiosk, offset_ns: int) -> list[tuple[str, str]]:
    """From when to when each run was recorded, as a clock on the wall of the clinic showed it, with its offset."""
    runs = [interval for account in timeline(kiosk).accounts for interval in account.intervals if interval.run]

    def wall(mono_ns: int) -> str:
        # To the second: the capture thread looks at the schedule about once a second.
        return f"{utc(offset_ns + mono_ns + NS_PER_S).astimezone(MADRID):%H:%M%z}"

    return [(wall(run.begin_ns), wall(run.end_ns)) for run in runs]


@pytest.mark.parametrize(
    ("began", "hours", "heard"),
    [
        pytest.param(
            datetime(2026, 3, 29, 0, 50, tzinfo=MADRID),
            ("01:30-02:30", "03:15-03:45", "04:00-04:10"),
            [("01:30+0100", "03:00+0200"), ("03:15+0200", "03:45+0200"), ("04:00+0200", "04:10+0200")],
            id="spring: 02:00 is 03:00, so that what ends at half past two ends then",
        ),
        pytest.param(
            datetime(2026, 10, 25, 1, 50, tzinfo=MADRID),
            ("02:30-03:00", "03:15-03:25"),
            [("02:30+0200", "02:00+0100"), ("02:30+0100", "03:00+0100"), ("03:15+0100", "03:25+0100")],
            id="autumn: 03:00 is 02:00, so that half past two comes twice",
        ),
    ],
)
def test_through_a_change_of_the_clock_what_the_schedule_says_is_recorded_and_nothing_else(
    make: Make,
    soundcard: Soundcard,
    speech: NDArray[np.int16],
    began: datetime,
    hours: tuple[str, ...],
    heard: list[tuple[str, str]],
) -> None:
    room = soundcard(speech, RATE, speed=0)
    kiosk = make("")
    kiosk.settings = replace(kiosk.settings, spool=replace(kiosk.settings.spool, segment_seconds=600))
    scheduled(kiosk, *hours)
    plan = boot(Turn(0, began.timestamp(), synchronised=True))
    recorder = kiosk.record(room, plan=plan)
    eventually(lambda: [each.what for each in room.history()].count("close") == len(heard), "the hours are over", 60)
    assert stop(recorder) == 0
    assert heard_on_the_wall_clock(kiosk, plan.offset_ns(0)) == heard
    assert {gap.reason for gap in kiosk.gaps()} <= {"schedule", "restart"}


def test_what_was_recorded_before_the_clock_could_tell_the_hours_is_erased_if_outside_and_never_uploaded(
    cloud: Kiosk, bucket: Bucket, room: SimulatedRoom
) -> None:
    """Three minutes in 1970, which were 08:57:50 to 09:00:50; the clinic opens at 09:00."""
    scheduled(cloud, "09:00-13:00")
    opens_s = datetime(2026, 3, 1, 9, tzinfo=MADRID).timestamp()
    plan = boot(Turn(0, 0, synchronised=False), Turn(200, opens_s + 50, synchronised=True))
    recorder, courier = cloud.record(room, plan=plan), cloud.upload_by(plan, room)
    eventually(lambda: recorded_until(cloud, 260), "four minutes are recorded", 60)
    assert stop(recorder) == 0
    eventually(lambda: not any(segment.state == "pending" for segment in cloud.segments()), "all is uploaded", 60)
    assert stop(courier) == 0
    opens_ns = round(opens_s * NS_PER_S) - plan.offset_ns(200)
    for segment in cloud.segments():
        inside = segment.end_ns > opens_ns
        assert segment.provisional
        assert segment.state == ("acknowledged" if inside else "erased")
        assert cloud.layout.audio(segment.name).exists() == inside
        assert (segment.key is not None) == inside
    assert {segment.state for segment in cloud.segments()} == {"acknowledged", "erased"}
    assert sorted(bucket.keys()) == sorted(segment.key for segment in cloud.segments() if segment.key)
    timeline(cloud)
