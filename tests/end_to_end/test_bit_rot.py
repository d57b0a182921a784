"""A bit that flips on the card is noticed before it counts as uploaded, and never reaches the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from agent.ledger import Segment
from agent.settings import Capture, Device, Settings, Spool, Upload
from agent.units import Duration, Size
from hw.simulated import SimulatedRoom
from hw.speech import speech_like
from tests.end_to_end.kiosk import Kiosk, stop
from tests.servers import Bucket
from tests.soundcard import Soundcard, eventually


class Store(Protocol):
    """Where recordings go, seen from behind."""

    kiosk: Kiosk

    def objects(self) -> dict[str, bytes]:
        """Every object, whole or not, by its key."""


class InBucket:
    def __init__(self, bucket: Bucket, root: Path) -> None:
        self._bucket = bucket
        upload = Upload(target=f"s3://{bucket.name}", endpoint_url=bucket.store.url, clock_wait=Duration(0))
        self.kiosk = Kiosk(settings(root, upload), bucket.store.kiosk.environment)

    def objects(self) -> dict[str, bytes]:
        return {key: self._bucket.get(key)[0] for key in self._bucket.keys()}  # noqa: SIM118 (a bucket is no mapping)


class InDirectory:
    def __init__(self, disk: Path, root: Path) -> None:
        self._disk = disk
        disk.mkdir()
        self.kiosk = Kiosk(settings(root, Upload(target=f"file://{disk}", clock_wait=Duration(0))))

    def objects(self) -> dict[str, bytes]:
        paths = (path for path in self._disk.rglob("*") if path.is_file() and path.suffix != ".json")
        return {str(path.relative_to(self._disk)): path.read_bytes() for path in paths}


def settings(root: Path, upload: Upload) -> Settings:
    return Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom"),
        spool=Spool(path=root, segment_seconds=2, keep_free=Size(0)),
        upload=upload,
    )


@pytest.fixture(params=["s3", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = (
        InBucket(request.getfixturevalue("bucket"), tmp_path / "kiosk")
        if request.param == "s3"
        else InDirectory(tmp_path / "disk", tmp_path / "kiosk")
    )
    with made.kiosk:
        yield made


@pytest.fixture
def room(soundcard: Soundcard) -> SimulatedRoom:
    return soundcard(speech_like(30, 16000, 1), 16000, speed=4.0)


def flip(kiosk: Kiosk, segment: Segment) -> bytes:
    """One bit in the middle of a sealed file; what it holds now."""
    path = kiosk.layout.audio(segment.name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


def became(kiosk: Kiosk, segment: Segment) -> str:
    with kiosk.ledger() as ledger:
        known = ledger.segment(segment.name)
    assert known is not None
    return known.state


def is_state(kiosk: Kiosk, segment: Segment, state: str) -> Callable[[], bool]:
    return lambda: became(kiosk, segment) == state


def everything_else_is_uploaded(kiosk: Kiosk, damaged: Segment) -> bool:
    return all(segment.state == "acknowledged" for segment in kiosk.segments() if segment.name != damaged.name)


def assert_it_was_caught(store: Store, damaged: Segment, content: bytes) -> None:
    kiosk, objects = store.kiosk, store.objects()
    with kiosk.ledger() as ledger:
        segments = {segment.name: segment for segment in ledger.segments()}
        assert ledger.counters()["segment_errors_total"] == 1
    assert kiosk.found_wrong() == []
    known = segments.pop(damaged.name)
    assert known.state == "quarantined"
    assert known.key not in objects
    assert {key: hashlib.sha256(held).hexdigest() for key, held in objects.items()} == {
        segment.key: segment.sha256 for segment in segments.values()
    }
    aside = kiosk.layout.quarantine / kiosk.layout.audio(damaged.name).name
    assert aside.read_bytes() == content
    assert not kiosk.layout.audio(damaged.name).exists()


def test_a_bit_that_flips_while_the_room_is_recorded_ends_in_quarantine_not_in_the_store(
    store: Store, room: SimulatedRoom
) -> None:
    kiosk = store.kiosk
    recorder = kiosk.record(room)
    eventually(lambda: len(kiosk.segments()) >= 3, "three segments are sealed")
    damaged = kiosk.segments()[1]
    content = flip(kiosk, damaged)
    courier = kiosk.upload()
    eventually(is_state(kiosk, damaged, "quarantined"), "the recorder has set it aside")
    assert stop(recorder) == 0
    eventually(lambda: everything_else_is_uploaded(kiosk, damaged), "everything else is uploaded")
    assert stop(courier) == 0
    assert_it_was_caught(store, damaged, content)


def test_a_bit_that_is_found_flipped_while_no_recorder_runs_is_set_aside_when_one_starts(
    store: Store, room: SimulatedRoom
) -> None:
    kiosk = store.kiosk
    recorder = kiosk.record(room)
    eventually(lambda: len(kiosk.segments()) >= 3, "three segments are sealed")
    assert stop(recorder) == 0
    damaged = kiosk.segments()[1]
    content = flip(kiosk, damaged)
    kiosk.upload("--once").wait(60)
    assert became(kiosk, damaged) == "damaged"
    assert everything_else_is_uploaded(kiosk, damaged)
    again = kiosk.record(room)
    eventually(is_state(kiosk, damaged, "quarantined"), "the next recorder has set it aside")
    assert stop(again) == 0
    kiosk.upload("--once").wait(60)
    assert_it_was_caught(store, damaged, content)
