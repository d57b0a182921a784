"""What a card does to a recording: real ext4, a real recorder, a room whose every frame is known.

Whatever the card does, every frame that the microphone gave is recorded once, in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.settings import Capture, Device, Mqtt, Settings, Spool, Upload
from agent.timeline import read
from agent.units import Duration, Size
from hw.simulated import SimulatedRoom
from tests.card import Card, card, syncs_fail  # noqa: F401 (a fixture)
from tests.courier.listener import listening
from tests.end_to_end.kiosk import Kiosk, decoded, heard, runs, stop
from tests.recorder.room import noise
from tests.servers import Broker, Bucket
from tests.soundcard import Soundcard, eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16000


@pytest.fixture
def kiosk(card: Card, tmp_path: Path) -> Iterator[Kiosk]:  # noqa: F811
    settings = Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=card.path / "kiosk", segment_seconds=3, keep_free=Size(0), cap=Size(32 << 20)),
    )
    with Kiosk(settings, beside=tmp_path) as kiosk:
        yield kiosk


@pytest.fixture(scope="module")
def sound() -> NDArray[np.int16]:
    return noise(120, rate=RATE)


def path_of(kiosk: Kiosk) -> str:
    status = kiosk.status()
    return "" if status is None else status.path


def direct_segments(kiosk: Kiosk) -> int:
    return len(list((kiosk.runtime / "direct" / "spool" / "sealed").glob("*.flac")))


def assert_nothing_is_missing(
    kiosk: Kiosk, room: SimulatedRoom, sound: NDArray[np.int16], seconds: float, *, given_up: bool = False
) -> None:
    """All is on the card, bit for bit, without a gap; `given_up`: but for the oldest, which made room by the rules."""
    segments = sorted(kiosk.segments(), key=lambda segment: segment.begin_ns)
    assert sum(segment.frames for segment in segments) >= seconds * RATE
    at = 0
    for segment in segments:
        if not (given_up and segment.state == "evicted"):
            assert (segment.state, segment.present) == ("pending", True)
            recorded = decoded(kiosk.layout.audio(segment.name).read_bytes())
            np.testing.assert_array_equal(recorded, heard(room, sound, at, segment.frames))
        at += segment.frames
    with kiosk.ledger() as ledger:
        timeline = read(ledger)
        assert ledger.broken_link() is None
    assert timeline.faults == []
    reasons = [interval.reason for account in timeline.accounts for interval in account.intervals if interval.reason]
    assert reasons == ["restart"], "but for the end of the process there is no gap"
    assert not direct_segments(kiosk)


@pytest.mark.parametrize(
    "happens",
    [Card.fill, Card.use_up_inodes, Card.become_read_only, Card.die],
    ids=["no room", "no inodes", "read-only", "EIO"],
)
def test_recording_goes_on_in_memory_and_comes_home(
    kiosk: Kiosk,
    card: Card,  # noqa: F811
    soundcard: Soundcard,
    sound: NDArray[np.int16],
    happens: Callable[[Card], None],
) -> None:
    room = soundcard(sound, RATE, speed=4.0, patient=True)
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: len(kiosk.segments()) >= 3, "three segments are on the card")
    happens(card)
    eventually(lambda: path_of(kiosk) == "direct", "it goes on in memory", 40)
    status = kiosk.status()
    assert status is not None
    assert status.state == "recording"
    assert "recordings don't go to the card but to memory" in status.trouble
    eventually(lambda: direct_segments(kiosk) >= 2, "segments are sealed in memory")
    card.repair()
    eventually(lambda: path_of(kiosk) == "spool", "it comes back to the card", 40)
    on_card = len(kiosk.segments())
    eventually(lambda: len(kiosk.segments()) >= on_card + 2, "it goes on there")
    assert kiosk.status().trouble == ""  # type: ignore[union-attr]
    assert stop(recorder) == 0
    assert_nothing_is_missing(kiosk, room, sound, 18, given_up=happens is Card.fill)


def test_a_card_that_is_taken_away_is_not_replaced_by_the_directory_below_it(
    tmp_path: Path, soundcard: Soundcard, sound: NDArray[np.int16]
) -> None:
    root = tmp_path / "mounted" / "kiosk"
    settings = Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=root, segment_seconds=3, keep_free=Size(0)),
    )
    room = soundcard(sound, RATE, speed=4.0, patient=True)
    with Kiosk(settings, beside=tmp_path) as kiosk:
        recorder = kiosk.record(room, room_time=True)
        eventually(lambda: len(kiosk.segments()) >= 2, "two segments are on the card")
        root.rename(tmp_path / "taken away")
        eventually(lambda: path_of(kiosk) == "direct", "it goes on in memory", 40)
        eventually(lambda: "is its card mounted?" in kiosk.log.read_text(), "it is looked for", 40)
        assert not root.exists()
        (tmp_path / "taken away").rename(root)
        eventually(lambda: path_of(kiosk) == "spool" and not direct_segments(kiosk), "it comes back", 40)
        assert stop(recorder) == 0
        assert_nothing_is_missing(kiosk, room, sound, 12)


def test_after_a_failed_sync_the_data_is_written_anew_elsewhere_and_never_synced_again_there(
    kiosk: Kiosk, soundcard: Soundcard, sound: NDArray[np.int16], tmp_path: Path
) -> None:
    room = soundcard(sound, RATE, speed=4.0, patient=True)
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: len(kiosk.segments()) >= 2, "two segments are on the card")
    with syncs_fail(recorder.pid, tmp_path / "syncs"):
        eventually(lambda: path_of(kiosk) == "direct", "it goes on in memory", 40)
        eventually(lambda: direct_segments(kiosk) >= 2, "segments are sealed in memory")
    eventually(lambda: path_of(kiosk) == "spool", "it comes back to the card", 40)
    assert stop(recorder) == 0
    assert_nothing_is_missing(kiosk, room, sound, 12)
    refused = re.findall(r"sync\(\d+<(.*?)>\) += -1 EIO", (tmp_path / "syncs").read_text())
    audio = [path for path in refused if path.endswith(".part")]
    assert refused
    assert len(audio) == len(set(audio))


def test_a_stall_of_ten_seconds_is_covered_by_the_ring(
    kiosk: Kiosk,
    card: Card,  # noqa: F811
    soundcard: Soundcard,
    sound: NDArray[np.int16],
) -> None:
    room = soundcard(sound, RATE)
    recorder = kiosk.record(room)
    eventually(lambda: len(kiosk.segments()) >= 2, "two segments are on the card")
    card.stall()
    eventually(lambda: (status := kiosk.status()) is not None and status.ring_seconds >= 10, "ten seconds wait", 30)
    assert path_of(kiosk) == "spool"
    card.repair()
    eventually(lambda: len(kiosk.segments()) >= 8, "it goes on", 40)
    assert stop(recorder) == 0
    assert_nothing_is_missing(kiosk, room, sound, 20)


@pytest.mark.timeout(180)
def test_a_stall_without_end_is_gone_round_and_the_stuck_writer_finishes_when_it_may(
    kiosk: Kiosk,
    card: Card,  # noqa: F811
    soundcard: Soundcard,
    sound: NDArray[np.int16],
) -> None:
    room = soundcard(sound, RATE)
    recorder = kiosk.record(room)
    eventually(lambda: len(kiosk.segments()) >= 2, "two segments are on the card")
    card.stall()
    eventually(lambda: path_of(kiosk) == "direct", "another writer takes over", 40)
    assert "hasn't answered for 15 s" in kiosk.status().trouble  # type: ignore[union-attr]
    eventually(lambda: direct_segments(kiosk) >= 8, "it goes on in memory for longer than any ring", 60)
    card.repair()
    eventually(lambda: path_of(kiosk) == "spool", "it comes back to the card", 40)
    assert stop(recorder) == 0
    assert_nothing_is_missing(kiosk, room, sound, 35)


def place_of(recorded: NDArray[np.int16], sound: NDArray[np.int16]) -> int:
    """At which frame of the sound a recording begins."""
    begins = np.lib.stride_tricks.sliding_window_view(sound[:, 0], 16)
    (place,) = np.flatnonzero((begins == recorded[:16, 0]).all(axis=1))
    return int(place)


def test_a_recorder_killed_while_it_records_in_memory_brings_home_what_was_there(
    kiosk: Kiosk,
    card: Card,  # noqa: F811
    soundcard: Soundcard,
    sound: NDArray[np.int16],
) -> None:
    room = soundcard(sound, RATE, speed=4.0, patient=True)
    first = kiosk.record(room, room_time=True)
    eventually(lambda: len(kiosk.segments()) >= 2, "two segments are on the card")
    card.die()
    eventually(lambda: direct_segments(kiosk) >= 2, "segments are sealed in memory", 40)
    first.kill()
    first.wait()
    in_memory = direct_segments(kiosk)
    second = kiosk.record(room, room_time=True)
    eventually(lambda: direct_segments(kiosk) >= in_memory + 2, "the next one goes on in memory", 40)
    card.repair()
    eventually(lambda: path_of(kiosk) == "spool" and not direct_segments(kiosk), "all comes home", 40)
    assert stop(second) == 0
    found = list(runs(kiosk.segments()))
    assert sum(len(run) for run in found) >= 2 + in_memory + 2
    for run in found:
        recorded = np.concatenate([decoded(kiosk.layout.audio(one.name).read_bytes()) for one in run])
        np.testing.assert_array_equal(recorded, heard(room, sound, place_of(recorded, sound), len(recorded)))
    with kiosk.ledger() as ledger:
        assert read(ledger).faults == []


def test_what_is_in_memory_is_uploaded_while_the_card_is_dead_and_the_fleet_is_told(
    kiosk: Kiosk,
    card: Card,  # noqa: F811
    soundcard: Soundcard,
    sound: NDArray[np.int16],
    bucket: Bucket,
    broker: Broker,
) -> None:
    upload = Upload(target=f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url, clock_wait=Duration(0))
    kiosk.settings = replace(kiosk.settings, upload=upload, mqtt=Mqtt(url=broker.url))
    room = soundcard(sound, RATE, patient=True)
    with listening(broker, "kiosk/#") as fleet:

        def alarm() -> str:
            return (fleet.said("/alert/direct_path") or ["nothing said"])[-1]

        recorder = kiosk.record(room)
        eventually(lambda: len(kiosk.segments()) >= 1, "there is a ledger on the card")
        courier = kiosk.upload()
        eventually(lambda: len(bucket.keys()) >= 2, "uploads from the card")
        card.die()
        eventually(lambda: path_of(kiosk) == "direct", "it goes on in memory", 40)
        before = len(bucket.keys())
        eventually(lambda: len(bucket.keys()) >= before + 2, "uploads from memory", 40)
        eventually(lambda: '"severity":"critical"' in alarm(), "the alert is raised")
        # It holds files on the card, which can't be unmounted so.
        courier.kill()
        courier.wait()
        card.repair()
        eventually(lambda: path_of(kiosk) == "spool", "it comes back to the card", 40)
        courier = kiosk.upload()
        eventually(lambda: alarm() == "", "the alert is cleared", 40)
        assert stop(recorder) == 0
        eventually(lambda: {each.state for each in kiosk.segments()} == {"acknowledged"}, "all is uploaded", 40)
        assert stop(courier) == 0
    segments = sorted(kiosk.segments(), key=lambda segment: segment.begin_ns)
    assert sorted(bucket.keys()) == sorted(str(segment.key) for segment in segments)
    recorded = np.concatenate([decoded(bucket.get(str(segment.key))[0]) for segment in segments])
    np.testing.assert_array_equal(recorded, heard(room, sound, 0, len(recorded)))
    assert len(recorded) >= 15 * RATE
