"""What every target promises, asked of each of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import pytest

from agent.courier.pace import Gone, Interrupted, Pace
from agent.courier.targets import DigestRefused, NeedsPerson, Outgoing, Receipt, Target, open_target
from agent.errors import KioskError
from tests.clocks import FakeClock
from tests.servers import Bucket


class Place(Protocol):
    """A target and a view behind it."""

    target: Target

    def keys(self) -> list[str]:
        """Every object there."""

    def get(self, key: str) -> bytes:
        """An object's content."""

    def remove(self) -> None:
        """Take the whole place away."""

    def restore(self) -> None:
        """Bring it back, empty or not."""


class InBucket:
    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        found = open_target(f"s3://{bucket.name}/some/prefix", endpoint_url=bucket.store.url, connections=4)
        assert found is not None
        self.target = found

    def keys(self) -> list[str]:
        return self.bucket.keys()

    def get(self, key: str) -> bytes:
        return self.bucket.get(key)[0]

    def remove(self) -> None:
        client = self.bucket.store.client()
        client.delete_bucket(Bucket=self.bucket.name)
        client.close()

    def restore(self) -> None:
        client = self.bucket.store.client()
        client.create_bucket(Bucket=self.bucket.name)
        client.close()


class InDirectory:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        found = open_target(f"file://{root}")
        assert found is not None
        self.target = found

    def keys(self) -> list[str]:
        return [
            str(path.relative_to(self.root))
            for path in self.root.rglob("*")
            if path.is_file() and path.suffix not in (".json", ".part")
        ]

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def remove(self) -> None:
        self.root.rename(self.root.with_name("away"))

    def restore(self) -> None:
        self.root.with_name("away").rename(self.root)


@pytest.fixture(params=["s3", "directory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made: Place = (
        InBucket(request.getfixturevalue("bucket")) if request.param == "s3" else InDirectory(tmp_path / "disk")
    )
    yield made
    made.target.close()


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(0, clock, threading.Event())


def outgoing(tmp_path: Path, content: bytes = b"fLaC" + bytes(300_000), *, number: int = 0) -> Outgoing:
    path = tmp_path / f"recording-{number}.flac"
    path.write_bytes(content)
    return Outgoing(
        path=path,
        key=f"some/prefix/north/room-12/2026/03/01/recording-{number}.flac",
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        metadata={"kr-run": "0123456789ab", "kr-seq": str(number)},
    )


def test_what_was_put_is_there_bit_for_bit(place: Place, pace: Pace, tmp_path: Path) -> None:
    item = outgoing(tmp_path)
    assert place.target.put(item, pace) == Receipt("stored")
    assert place.keys() == [item.key]
    assert place.get(item.key) == item.path.read_bytes()


def test_what_is_already_there_is_left_alone_and_counts_as_done(place: Place, pace: Pace, tmp_path: Path) -> None:
    item = outgoing(tmp_path)
    place.target.put(item, pace)
    item.path.write_bytes(b"x" * item.size)
    assert place.target.put(item, pace) == Receipt("already_there")
    assert hashlib.sha256(place.get(item.key)).hexdigest() == item.sha256


def test_what_credentials_allow_is_found_by_trying_it(place: Place, pace: Pace, tmp_path: Path) -> None:
    item = outgoing(tmp_path)
    place.target.put(item, pace)
    # The tests' kiosk may write, which to SeaweedFS includes deleting; a directory knows no such difference.
    readable = isinstance(place, InDirectory)
    assert place.target.allows("get", item.key) is readable
    assert place.target.allows("head", item.key) is readable
    assert place.keys() == [item.key]
    assert place.target.allows("delete", item.key) is True
    assert place.keys() == []


def test_a_place_that_is_gone_tells_nothing_of_what_is_allowed(place: Place) -> None:
    place.remove()
    try:
        with pytest.raises(NeedsPerson):
            place.target.allows("delete", "a/key")
    finally:
        place.restore()


def test_content_that_is_not_what_the_ledger_knows_is_not_stored(place: Place, pace: Pace, tmp_path: Path) -> None:
    item = outgoing(tmp_path)
    flipped = bytearray(item.path.read_bytes())
    flipped[1000] ^= 1
    item.path.write_bytes(flipped)
    with pytest.raises(DigestRefused):
        place.target.put(item, pace)
    assert place.keys() == []


def test_a_file_that_is_gone_is_told_from_every_other_trouble(place: Place, pace: Pace, tmp_path: Path) -> None:
    item = outgoing(tmp_path)
    item.path.unlink()
    with pytest.raises(Gone):
        place.target.put(item, pace)


def test_an_interrupted_upload_leaves_nothing_and_can_be_made_again(place: Place, pace: Pace, tmp_path: Path) -> None:
    stop = threading.Event()
    slow = Pace(100_000, StoppingClock(stop, after_s=1.5), stop)
    item = outgoing(tmp_path)
    with pytest.raises(Interrupted):
        place.target.put(item, slow)
    assert place.keys() == []
    assert place.target.put(item, pace) == Receipt("stored")
    assert place.get(item.key) == item.path.read_bytes()


def test_a_place_that_is_not_there_needs_a_person_and_is_used_once_it_is(
    place: Place, pace: Pace, tmp_path: Path
) -> None:
    item = outgoing(tmp_path)
    place.remove()
    with pytest.raises(NeedsPerson, match="→") as caught:
        place.target.put(item, pace)
    assert caught.value.hint
    assert caught.value.place
    place.restore()
    assert place.target.put(item, pace) == Receipt("stored")


def test_an_empty_file_is_an_object_like_any_other(place: Place, pace: Pace, tmp_path: Path) -> None:
    item = outgoing(tmp_path, b"")
    assert place.target.put(item, pace) == Receipt("stored")
    assert place.get(item.key) == b""


def test_several_threads_may_put_at_once(place: Place, pace: Pace, tmp_path: Path) -> None:
    items = [outgoing(tmp_path, bytes([number]) * 50_000, number=number) for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda item: place.target.put(item, pace), items))
    assert receipts == [Receipt("stored")] * 12
    assert sorted(place.keys()) == sorted(item.key for item in items)


def test_a_ceiling_changes_nothing_of_what_arrives(place: Place, clock: FakeClock, tmp_path: Path) -> None:
    item = outgoing(tmp_path)
    began_ns = clock.monotonic_ns()
    assert place.target.put(item, Pace(100_000, clock, threading.Event())) == Receipt("stored")
    assert place.get(item.key) == item.path.read_bytes()
    assert (clock.monotonic_ns() - began_ns) / 1e9 == pytest.approx(3, rel=0.05)


def test_a_place_says_where_it_is(place: Place) -> None:
    assert place.target.describe()


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "ftp://host/x", "file://relative", "bucket", "file:/x"])
def test_what_no_target_understands_is_refused_with_a_way_out(url: str) -> None:
    with pytest.raises(KioskError, match=r"s3://bucket/prefix"):
        open_target(url)


def test_no_target_is_none() -> None:
    assert open_target("") is None


class StoppingClock(FakeClock):
    """Asks the process to end once a while has passed."""

    def __init__(self, stop: threading.Event, after_s: float) -> None:
        super().__init__()
        self._end_ns = self.monotonic_ns() + round(after_s * 1e9)
        self._stop = stop

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        if self.monotonic_ns() > self._end_ns:
            self._stop.set()
