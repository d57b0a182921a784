"""The flag `offline_recording`, switched on real kiosks: no frame is lost, nothing on the card is, and it takes 2 s.

What is chosen is written as the courier writes it, and the switch is timed on the room's clock until the recorder's own
picture shows the other path.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.hours import Hours
from agent.ledger import Ledger, Segment
from agent.settings import Capture, Device, Mqtt, Schedule, Settings, Spool, Upload
from agent.timeline import read
from agent.units import Duration, Size
from hw.clock import Clock, SystemClock
from hw.simulated import SimulatedRoom
from tests.card import Card, card  # noqa: F401 (a fixture)
from tests.choices import write_variants
from tests.courier.listener import listening
from tests.end_to_end.judge import Judge, noise_that_never_repeats
from tests.end_to_end.kiosk import Kiosk, decoded, heard, stop
from tests.end_to_end.plan import Plan, Turn
from tests.end_to_end.storm import Storm
from tests.recorder.room import noise
from tests.servers import Broker, Bucket
from tests.soundcard import Soundcard, eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16000

PROMISED_S = 2.0
"""DESIGN §9: a roll-back takes no longer on a connected kiosk."""

SWITCH = "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING"


@pytest.fixture(scope="module")
def sound() -> NDArray[np.int16]:
    return noise(300, rate=RATE)


def settings(root: Path, upload: Upload | None = None) -> Settings:
    return Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=root / "kiosk", segment_seconds=3, keep_free=Size(0)),
        upload=upload or Upload(),
    )


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    with Kiosk(settings(tmp_path), beside=tmp_path) as kiosk:
        yield kiosk


def choose(kiosk: Kiosk, variant: str) -> None:
    write_variants(kiosk.runtime, kiosk.layout.state, {"offline_recording": variant})


def start_courier(kiosk: Kiosk, variant: str, room: SimulatedRoom | None = None) -> subprocess.Popen[bytes]:
    """It knows of no fleet, says so by choosing the default, and then leaves the choice to the test."""
    courier = kiosk.upload(room=room)
    eventually(lambda: "flags by document" in kiosk.log.read_text(), "the courier has chosen")
    choose(kiosk, variant)
    eventually(lambda: is_on(kiosk, variant), f"recordings are {variant} the card", 40)
    return courier


def is_on(kiosk: Kiosk, variant: str) -> bool:
    status = kiosk.status()
    return status is not None and status.path == ("direct" if variant == "off" else "spool")


def switch(kiosk: Kiosk, variant: str, clock: Clock) -> float:
    """Choose the other path; how long the switch took by `clock`."""
    began_ns = clock.monotonic_ns()
    choose(kiosk, variant)
    eventually(lambda: is_on(kiosk, variant), f"recordings are {variant} the card", 40)
    status = kiosk.status()
    assert status is not None
    assert status.trouble == ""
    return (clock.monotonic_ns() - began_ns) / 1e9


def in_memory(kiosk: Kiosk) -> int:
    return len(list((kiosk.runtime / "direct" / "spool" / "sealed").glob("*.flac")))


def reasons(kiosk: Kiosk) -> list[str]:
    """Why time wasn't recorded, in order; the timeline has no hole and no overlap."""
    with kiosk.ledger() as ledger:
        timeline = read(ledger)
        assert ledger.broken_link() is None
    assert timeline.faults == []
    return [interval.reason for account in timeline.accounts for interval in account.intervals if interval.reason]


def in_order(kiosk: Kiosk) -> list[Segment]:
    return sorted(kiosk.segments(), key=lambda segment: segment.begin_ns)


def assert_all_was_heard(
    audio: Callable[[Segment], bytes], kiosk: Kiosk, room: SimulatedRoom, sound: NDArray[np.int16]
) -> None:
    """From the first frame on, one recording after the other, bit for bit."""
    at = 0
    for segment in in_order(kiosk):
        recorded = decoded(audio(segment))
        np.testing.assert_array_equal(recorded, heard(room, sound, at, segment.frames))
        at += segment.frames


@pytest.mark.parametrize(
    ("switches", "speed"),
    [
        pytest.param(100, 4.0, marks=pytest.mark.timeout(240)),
        pytest.param(1000, 2.0, marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
    ],
)
def test_a_hundred_switches_in_a_row_lose_no_frame_and_take_two_seconds_each(
    tmp_path: Path,
    soundcard: Soundcard,
    sound: NDArray[np.int16],
    tell: Callable[[str], None],
    switches: int,
    speed: float,
) -> None:
    """While a courier uploads from both paths, and what was on the card before goes on its way, too."""
    store = tmp_path / "store"
    store.mkdir()
    room = soundcard(sound, RATE, speed=speed, patient=True)
    chosen = settings(tmp_path, Upload(target=f"file://{store}", clock_wait=Duration(0)))
    took: dict[str, list[float]] = {"off": [], "on": []}
    chance = random.Random(switches)
    with Kiosk(chosen, beside=tmp_path) as kiosk:
        recorder = kiosk.record(room, room_time=True)
        eventually(lambda: len(kiosk.segments()) >= 3, "recordings wait on the card")
        courier = start_courier(kiosk, "on", room)
        clock = room.clock()
        for number in range(switches):
            variant = "on" if number % 2 else "off"
            took[variant].append(switch(kiosk, variant, clock))
            clock.wait(threading.Event(), chance.uniform(0, 0.5))
        assert stop(recorder) == 0
        eventually(lambda: {each.state for each in kiosk.segments()} == {"acknowledged"}, "all is uploaded", 60)
        assert stop(courier) == 0
        assert_all_was_heard(lambda segment: (store / str(segment.key)).read_bytes(), kiosk, room, sound)
        assert reasons(kiosk) == ["restart"], "but for the end of the process there is no gap"
        assert sorted(str(path.relative_to(store)) for path in store.rglob("*.flac")) == sorted(
            str(segment.key) for segment in kiosk.segments()
        )
        assert len(in_order(kiosk)) > switches
    for variant, seconds in took.items():
        tell(f"{len(seconds)} × {variant}: median {median(seconds):.2f} s, worst {max(seconds):.2f} s")
        assert max(seconds) <= PROMISED_S


def test_what_is_on_the_card_stays_as_it_is_and_goes_on_draining_while_memory_is_chosen(
    tmp_path: Path, soundcard: Soundcard, sound: NDArray[np.int16], bucket: Bucket
) -> None:
    upload = Upload(target=f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url, clock_wait=Duration(0))
    room = soundcard(sound, RATE, speed=4.0, patient=True)
    with Kiosk(settings(tmp_path, upload), bucket.store.kiosk.environment, beside=tmp_path) as kiosk:
        recorder = kiosk.record(room, room_time=True)
        eventually(lambda: len(kiosk.segments()) >= 5, "recordings wait on the card")
        switch(kiosk, "off", room.clock())
        waiting = {path.name: path.read_bytes() for path in kiosk.layout.sealed.glob("*.flac")}
        eventually(lambda: in_memory(kiosk) >= 5, "recordings wait in memory")
        assert {path.name: path.read_bytes() for path in kiosk.layout.sealed.glob("*.flac")} == waiting
        courier = start_courier(kiosk, "off")
        eventually(lambda: not list(kiosk.layout.sealed.iterdir()), "the recorder tidies the card", 40)
        eventually(lambda: len(bucket.keys()) >= len(waiting) + 5, "uploads from memory", 40)
        assert is_on(kiosk, "off")
        uploaded = {hashlib.sha256(bucket.get(key)[0]).hexdigest() for key in bucket.keys()}  # noqa: SIM118 (no mapping)
        assert uploaded >= {hashlib.sha256(audio).hexdigest() for audio in waiting.values()}
        assert stop(recorder) == 0
        eventually(lambda: {each.state for each in kiosk.segments()} == {"acknowledged"}, "all is uploaded", 40)
        assert stop(courier) == 0
        assert_all_was_heard(lambda segment: bucket.get(str(segment.key))[0], kiosk, room, sound)
        assert reasons(kiosk) == ["restart"]


@contextmanager
def fickle(kiosk: Kiosk, seed: int) -> Iterator[list[str]]:
    """The flag changes its mind every second or so, as long as the block lasts; in the end it is on."""
    over, chosen = threading.Event(), list[str]()
    chance = random.Random(seed)

    def change() -> None:
        while not over.wait(chance.uniform(0.2, 2.0)):
            chosen.append(chance.choice(("off", "on")))
            # Before the first start there is no card to write to.
            if kiosk.layout.state.is_dir():
                choose(kiosk, chosen[-1])

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield chosen
    finally:
        over.set()
        thread.join()
        choose(kiosk, "on")


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(30, marks=pytest.mark.timeout(300)),
        pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_kills_at_any_moment_of_switching_lose_nothing_that_was_sealed(
    kills: int, tmp_path: Path, bucket: Bucket, tell: Callable[[str], None]
) -> None:
    upload = Upload(target=f"s3://{bucket.name}/fickle", endpoint_url=bucket.store.url, clock_wait=Duration(0))
    chosen = settings(tmp_path, upload)
    chosen = replace(chosen, spool=replace(chosen.spool, sync_seconds=0.5, keep_uploaded=Duration(3600)))
    source = noise_that_never_repeats(8 * kills, RATE, seed=kills)
    room = SimulatedRoom(tmp_path / "room", source, RATE, 1)
    with Kiosk(chosen, bucket.store.kiosk.environment, beside=tmp_path) as kiosk:
        storm = Storm(kiosk, room)
        with fickle(kiosk, kills) as variants:
            storm.rage(kills, seed=kills)
        storm.calm()
        eventually(lambda: not in_memory(kiosk), "memory is empty")
        judge = Judge(kiosk, bucket, room, source)
        with Ledger(kiosk.runtime / "direct" / "state" / "ledger.db", SystemClock(), read_only=True) as memory:
            detours = sum(entry.kind == "direct" for entry in memory.entries())
    told = f"{len(variants)} choices, {detours} times in memory: {len(judge.segments)} segments"
    tell(f"{len(storm.lives)} kills among {told}")
    assert detours >= kills / 5
    judge.assert_every_segment_is_acknowledged()
    judge.assert_the_bucket_holds_each_segment_once_and_whole()
    placed = judge.placed_runs()
    judge.assert_the_timeline_tiles()
    judge.assert_gaps_are_as_long_as_the_room_says(placed)
    judge.assert_a_kill_costs_what_is_promised(storm.lives_of("recorder"))


def test_while_the_microphone_is_away_a_switch_takes_no_longer(
    kiosk: Kiosk, soundcard: Soundcard, sound: NDArray[np.int16], tell: Callable[[str], None]
) -> None:
    room = soundcard(sound, RATE)
    recorder = kiosk.record(room)
    eventually(lambda: len(kiosk.segments()) >= 1, "it records")
    room.unplug()
    eventually(lambda: "open microphone" in (kiosk.status().trouble if kiosk.status() else ""), "it is missed")  # type: ignore[union-attr]
    took = []
    for variant in ("off", "on") * 4:
        began_ns = room.clock().monotonic_ns()
        choose(kiosk, variant)
        eventually(lambda: is_on(kiosk, variant), f"recordings are {variant} the card")  # noqa: B023 (asked at once)
        took.append((room.clock().monotonic_ns() - began_ns) / 1e9)
    tell(f"without a microphone: median {median(took):.2f} s, worst {max(took):.2f} s")
    assert max(took) <= PROMISED_S
    room.replug()
    count = len(kiosk.segments())
    eventually(lambda: len(kiosk.segments()) >= count + 2, "it records again")
    assert stop(recorder) == 0
    assert reasons(kiosk) == ["unplugged", "restart"]


def test_outside_its_hours_a_switch_takes_no_longer(
    kiosk: Kiosk, soundcard: Soundcard, sound: NDArray[np.int16]
) -> None:
    closed = Schedule(sun=(Hours.parse("03:00-03:01"),))
    kiosk.settings = replace(kiosk.settings, capture=replace(kiosk.settings.capture, mode="scheduled"), schedule=closed)
    on_a_friday = Plan("b" * 32, time.monotonic(), (Turn(0, 1_800_000_000, synchronised=True),))
    recorder = kiosk.record(soundcard(sound, RATE), plan=on_a_friday)
    eventually(lambda: kiosk.status() is not None and kiosk.status().state == "idle", "it waits for its hours")  # type: ignore[union-attr]
    took = [switch(kiosk, variant, SystemClock()) for variant in ("off", "on") * 3]
    assert max(took) <= PROMISED_S
    assert stop(recorder) == 0


def test_the_technicians_switch_wins_over_the_fleet(
    kiosk: Kiosk, soundcard: Soundcard, sound: NDArray[np.int16]
) -> None:
    room = soundcard(sound, RATE, speed=4.0, patient=True)
    kiosk.environment = {SWITCH: "off"}
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: is_on(kiosk, "off"), "recordings go to memory")
    choose(kiosk, "on")
    eventually(lambda: in_memory(kiosk) >= 3, "and stay there")
    status = kiosk.status()
    assert status is not None
    assert (status.path, status.trouble, status.detour) == ("direct", "", "")
    assert [(name, each.name, each.source) for name, each in status.flags.items()] == [
        ("offline_recording", "off", "environment")
    ]
    assert not list(kiosk.layout.sealed.iterdir())
    assert stop(recorder) == 0
    kiosk.environment = {SWITCH: "on"}
    choose(kiosk, "off")
    recorder = kiosk.record(room, room_time=True)
    count = len(kiosk.segments())
    eventually(lambda: len(kiosk.segments()) >= count + 2, "recordings go to the card")
    assert is_on(kiosk, "on")
    assert stop(recorder) == 0
    assert set(reasons(kiosk)) == {"restart"}


@pytest.mark.parametrize("who", ["recorder", "courier"])
def test_a_switch_that_makes_no_sense_is_refused_at_the_start(
    kiosk: Kiosk, soundcard: Soundcard, sound: NDArray[np.int16], who: str
) -> None:
    kiosk.environment = {SWITCH: "maybe"}
    process: subprocess.Popen[bytes]
    process = kiosk.record(soundcard(sound, RATE)) if who == "recorder" else kiosk.upload()
    assert process.wait(30) == 2
    said = kiosk.log.read_text()
    assert said.count("\n") == 2, said
    assert f'read environment {SWITCH}: "maybe" is no variant of offline_recording' in said


def test_a_chosen_path_raises_no_alert_and_a_card_that_fails_meanwhile_does_once_it_is_wanted(
    card: Card,  # noqa: F811
    tmp_path: Path,
    soundcard: Soundcard,
    sound: NDArray[np.int16],
    broker: Broker,
) -> None:
    chosen = replace(settings(card.path), mqtt=Mqtt(url=broker.url))
    chosen = replace(chosen, spool=replace(chosen.spool, cap=Size(32 << 20)))
    room = soundcard(sound, RATE, speed=4.0, patient=True)
    with Kiosk(chosen, beside=tmp_path) as kiosk, listening(broker, "kiosk/#") as fleet:

        def alarm() -> str:
            return (fleet.said("/alert/direct_path") or ["nothing said"])[-1]

        recorder = kiosk.record(room, room_time=True)
        eventually(lambda: len(kiosk.segments()) >= 2, "recordings are on the card")
        switch(kiosk, "off", room.clock())
        courier = start_courier(kiosk, "off", room)
        eventually(lambda: alarm() == "", "all is well")
        card.die()
        eventually(lambda: "recordings go to memory anyway" in kiosk.log.read_text(), "it is noticed", 40)
        count = in_memory(kiosk)
        eventually(lambda: in_memory(kiosk) >= count + 3, "recording goes on")
        assert kiosk.status().trouble == ""  # type: ignore[union-attr]
        assert alarm() == ""
        # As the courier would: it tries the card as well, and gets no further than memory.
        with pytest.raises(OSError, match="Input/output error"):
            choose(kiosk, "on")
        eventually(lambda: '"severity":"critical"' in alarm(), "now it is an alert", 40)
        courier.kill()
        courier.wait()
        card.repair()
        eventually(lambda: is_on(kiosk, "on"), "it comes back to the card", 40)
        count = len(kiosk.segments())
        eventually(lambda: not in_memory(kiosk) and len(kiosk.segments()) > count, "with all there was", 40)
        assert stop(recorder) == 0
        assert_all_was_heard(lambda segment: kiosk.layout.audio(segment.name).read_bytes(), kiosk, room, sound)
        assert reasons(kiosk) == ["restart"]


@pytest.mark.timeout(180)
def test_a_card_that_is_stuck_when_it_is_chosen_again_is_told_of_and_come_back_to(
    card: Card,  # noqa: F811
    tmp_path: Path,
    soundcard: Soundcard,
    sound: NDArray[np.int16],
) -> None:
    room = soundcard(sound, RATE)
    with Kiosk(settings(card.path), beside=tmp_path) as kiosk:
        kiosk.settings = replace(kiosk.settings, spool=replace(kiosk.settings.spool, cap=Size(32 << 20)))
        recorder = kiosk.record(room)
        eventually(lambda: len(kiosk.segments()) >= 1, "a recording is on the card")
        switch(kiosk, "off", room.clock())
        eventually(lambda: in_memory(kiosk) >= 1, "and one in memory")
        card.stall()
        chosen = threading.Thread(target=choose, args=(kiosk, "on"))
        chosen.start()
        eventually(lambda: "hasn't answered for 15 s" in kiosk.status().trouble, "it is told of", 40)  # type: ignore[union-attr]
        count = in_memory(kiosk)
        eventually(lambda: in_memory(kiosk) >= count + 2, "recording goes on")
        card.repair()
        chosen.join()
        eventually(lambda: is_on(kiosk, "on") and not in_memory(kiosk), "it comes back to the card", 40)
        assert kiosk.status().trouble == ""  # type: ignore[union-attr]
        count = len(kiosk.segments())
        eventually(lambda: len(kiosk.segments()) > count, "and goes on there")
        assert stop(recorder) == 0
        assert_all_was_heard(lambda segment: kiosk.layout.audio(segment.name).read_bytes(), kiosk, room, sound)
        assert reasons(kiosk) == ["restart"]
