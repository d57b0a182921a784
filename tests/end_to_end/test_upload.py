"""From the microphone to the bucket: what was played is what comes back, sample for sample."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.settings import Capture, Device, Mqtt, Settings, Spool, Upload
from agent.units import ByteRate, Duration, Size
from hw.simulated import SimulatedRoom
from hw.speech import speech_like
from tests.end_to_end.kiosk import Kiosk, decoded, heard, stop
from tests.servers import Broker, Bucket
from tests.soundcard import Soundcard, eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

Make = Callable[..., Kiosk]


@pytest.fixture
def make(tmp_path: Path, bucket: Bucket, broker: Broker) -> Iterator[Make]:
    """Makes kiosks that upload to `bucket` and keep what they uploaded."""
    kiosks: list[Kiosk] = []

    def kiosk(*, rate: int = 16000, channels: int = 1, segment_seconds: int = 60, **upload: object) -> Kiosk:
        store: dict[str, object] = {
            "target": f"s3://{bucket.name}/clinics",
            "endpoint_url": bucket.store.url,
            "clock_wait": Duration(0),
        }
        settings = Settings(
            device=Device(site="north", id="room-1"),
            capture=Capture(pcm="simroom", rate=rate, channels=channels),
            spool=Spool(
                path=tmp_path / "kiosk",
                segment_seconds=segment_seconds,
                keep_free=Size(0),
                keep_uploaded=Duration(3600),
            ),
            upload=Upload(**(store | upload)),  # type: ignore[arg-type]
            mqtt=Mqtt(url=broker.url),
        )
        kiosks.append(Kiosk(settings, bucket.store.kiosk.environment).__enter__())
        return kiosks[-1]

    yield kiosk
    for each in kiosks:
        each.__exit__()


def recordings(bucket: Bucket) -> list[str]:
    """Keys of recordings in the order of their segments' sequence numbers."""
    keys = [key for key in bucket.keys() if key.endswith(".flac")]  # noqa: SIM118 (a bucket is no mapping)
    return sorted(keys, key=lambda key: key.rsplit("_", 2)[1])


def downloaded(bucket: Bucket) -> NDArray[np.int16]:
    return np.concatenate([decoded(bucket.get(key)[0]) for key in recordings(bucket)])


def record(kiosk: Kiosk, room: SimulatedRoom, seconds: float) -> None:
    """Record `seconds` of the room and stop in good order."""
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: kiosk.captured_s() >= seconds, f"{seconds:g} s are recorded", 100)
    assert stop(recorder) == 0


def everything_is_uploaded(kiosk: Kiosk) -> bool:
    segments = kiosk.segments()
    return bool(segments) and all(segment.state == "acknowledged" for segment in segments)


def assert_bucket_holds_what_was_played(
    kiosk: Kiosk, bucket: Bucket, room: SimulatedRoom, source: NDArray[np.int16], *, joins: int
) -> None:
    segments = kiosk.segments()
    assert len({segment.run for segment in segments}) == 1
    assert len(recordings(bucket)) == len(segments) > joins
    recorded = downloaded(bucket)
    np.testing.assert_array_equal(recorded, heard(room, source, 0, len(recorded)))
    assert len(recorded) == sum(segment.frames for segment in segments)
    assert kiosk.found_wrong() == []


def test_ten_minutes_of_16_khz_mono_come_back_sample_for_sample(
    soundcard: Soundcard, make: Make, bucket: Bucket
) -> None:
    source = speech_like(610, 16000, 1)
    room = soundcard(source, speed=40.0, patient=True)
    kiosk = make(segment_seconds=50)
    courier = kiosk.upload()
    record(kiosk, room, 600)
    eventually(lambda: everything_is_uploaded(kiosk), "everything is uploaded", 60)
    assert stop(courier) == 0
    assert_bucket_holds_what_was_played(kiosk, bucket, room, source, joins=10)


def test_two_minutes_of_48_khz_stereo_come_back_sample_for_sample(
    soundcard: Soundcard, make: Make, bucket: Bucket
) -> None:
    source = speech_like(125, 48000, 2)
    room = soundcard(source, 48000, 2, speed=12.0, patient=True)
    kiosk = make(rate=48000, channels=2, segment_seconds=10)
    courier = kiosk.upload()
    record(kiosk, room, 120)
    eventually(lambda: everything_is_uploaded(kiosk), "everything is uploaded", 60)
    assert stop(courier) == 0
    assert_bucket_holds_what_was_played(kiosk, bucket, room, source, joins=10)


def test_a_courier_that_starts_ten_minutes_late_uploads_everything(
    soundcard: Soundcard, make: Make, bucket: Bucket
) -> None:
    source = speech_like(120, 16000, 1)
    room = soundcard(source, speed=40.0, patient=True)
    kiosk = make(segment_seconds=50)
    record(kiosk, room, 600)
    assert recordings(bucket) == []
    assert kiosk.upload("--once").wait(60) == 0
    assert everything_is_uploaded(kiosk)
    assert_bucket_holds_what_was_played(kiosk, bucket, room, source, joins=10)


@pytest.mark.timeout(300)
def test_a_courier_killed_in_mid_upload_leaves_each_segment_once_and_whole(
    soundcard: Soundcard, make: Make, bucket: Bucket
) -> None:
    source = speech_like(130, 16000, 1)
    room = soundcard(source, speed=40.0, patient=True)
    kiosk = make(segment_seconds=10, max_rate=ByteRate(100_000))
    record(kiosk, room, 125)
    total = len(kiosk.segments())
    kills = 0
    for done in range(1, total - 2, 3):
        courier = kiosk.upload()
        eventually(lambda done=done: len(recordings(bucket)) >= done, f"{done} objects arrived", 60)  # type: ignore[misc]
        os.kill(courier.pid, signal.SIGKILL)
        courier.wait()
        assert len(recordings(bucket)) < total
        kills += 1
    assert kills >= 3
    kiosk.settings = replace(kiosk.settings, upload=replace(kiosk.settings.upload, max_rate=ByteRate(0)))
    last = kiosk.upload()
    eventually(lambda: everything_is_uploaded(kiosk), "everything is uploaded", 60)
    assert stop(last) == 0
    assert_bucket_holds_what_was_played(kiosk, bucket, room, source, joins=10)


def test_a_segment_torn_by_kill_9_is_uploaded_and_decodes(soundcard: Soundcard, make: Make, bucket: Bucket) -> None:
    source = speech_like(60, 16000, 1)
    room = soundcard(source)
    kiosk = make(segment_seconds=60)
    recorder = kiosk.record(room)
    eventually(lambda: (status := kiosk.status()) is not None and status.spool_bytes_open > 40_000, "it is synced")
    os.kill(recorder.pid, signal.SIGKILL)
    recorder.wait()
    again = kiosk.record(room)
    eventually(lambda: len(kiosk.segments()) >= 1, "the torn segment is recovered")
    assert stop(again) == 0
    assert kiosk.upload("--once").wait(60) == 0
    torn = kiosk.segments()[0]
    assert torn.truncated
    assert torn.key is not None
    content, metadata = bucket.get(torn.key)
    assert metadata["kr-truncated"] == "true"
    np.testing.assert_array_equal(decoded(content), heard(room, source, 0, torn.frames))


def test_an_unreachable_broker_does_not_keep_the_room_from_being_recorded_and_uploaded(
    soundcard: Soundcard, make: Make, bucket: Bucket
) -> None:
    source = speech_like(30, 16000, 1)
    room = soundcard(source, speed=20.0, patient=True)
    kiosk = make(segment_seconds=5)
    kiosk.settings = Settings(
        device=kiosk.settings.device,
        capture=kiosk.settings.capture,
        spool=kiosk.settings.spool,
        upload=kiosk.settings.upload,
        mqtt=Mqtt(url="mqtt://127.0.0.1:9"),
    )
    courier = kiosk.upload()
    record(kiosk, room, 20)
    eventually(lambda: everything_is_uploaded(kiosk), "everything is uploaded", 60)
    assert stop(courier) == 0
    assert_bucket_holds_what_was_played(kiosk, bucket, room, source, joins=3)
