"""Manifests of the journal on their way to the store."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract import seeds
from agent.contract.custody import GENESIS, Head, Manifest, Stretch, link
from agent.contract.signed import opened, public_key
from agent.courier.activity import Activity
from agent.courier.custodian import Custodian
from agent.courier.pace import Pace
from agent.courier.pen import Pen
from agent.courier.standing import Standing
from agent.courier.targets import NeedsPerson, Target, Unreachable
from agent.courier.targets.directory import DirectoryTarget
from agent.courier.worker import Lines, Worker
from agent.ledger import Ledger
from agent.settings import Custody
from agent.units import Duration
from tests.clocks import FakeClock
from tests.courier.kiosk import Kiosk
from tests.courier.process import courier, run_once
from tests.courier.scripted import ScriptedTarget
from tests.servers import Bucket
from tests.soundcard import eventually

HOUR = 3600.0


class Desk:
    """A custodian whose kiosk has a key, and a directory for a store."""

    def __init__(self, kiosk: Kiosk, place: Path, target: Target | None = None, **custody: object) -> None:
        self.kiosk = kiosk
        self.key = place / "device.key"
        if not self.key.exists():
            seeds.make(self.key)
        self.store = place / "store"
        self.store.mkdir(exist_ok=True)
        self.target = target or DirectoryTarget(self.store)
        chosen = Custody(key=self.key, **custody)  # type: ignore[arg-type]
        self.settings = replace(kiosk.settings(), custody=chosen)
        self.lines = Lines()
        self.begin()

    def begin(self) -> None:
        """A courier's start."""
        clock = self.kiosk.clock
        worker = Worker(
            self.target,
            Pace(0, clock, self.lines.stop),
            self.lines,
            Activity(clock),
            Standing(clock),
            clock,
            attempts=2,
        )
        self.pen = Pen(self.settings)
        self.custodian = Custodian(self.settings, self.kiosk.layout, self.target.prefix, worker, self.pen, clock)

    @property
    def public(self) -> str:
        return public_key(seeds.load(self.key, ""))

    @property
    def waiting(self) -> list[Path]:
        return sorted((self.kiosk.layout.state / "custody").glob("*"))

    def stored(self) -> list[Manifest]:
        """Every manifest in the store, its signature checked."""
        places = sorted((self.store / "north/room-12/custody").glob("*[0-9].json"))
        return [read(place.read_bytes(), self.public, place.name) for place in places]


def read(payload: bytes, key: str, name: str) -> Manifest:
    manifest = Manifest.read(opened("manifest", payload, {key}).document)
    assert manifest.stretch.name == name
    return manifest


@pytest.fixture
def desk(kiosk: Kiosk, tmp_path: Path) -> Desk:
    return Desk(kiosk, tmp_path)


def test_manifests_tell_the_journal_link_by_link(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    for first in (0, 2):
        kiosk.record(2, first=first)
        clock.advance(HOUR)
        assert desk.custodian.step()
        assert not desk.custodian.step()
    one, other = desk.stored()
    assert (one.before, other.before) == (GENESIS, one.after)
    for manifest in (one, other):
        reached = manifest.before
        for entry in manifest.entries:
            reached = link(reached, entry)
        assert reached == manifest.after
    told = [entry[5] for entry in one.entries + other.entries]
    assert told == ["epoch", "boot", "sealed", "sealed", "manifest", "sealed", "sealed"]
    assert (one.site, one.device, one.clock) == ("north", "room-12", "synchronised")


def test_nothing_goes_out_before_it_is_time_or_when_nothing_is_new(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    kiosk.record()
    assert not desk.custodian.step()
    clock.advance(HOUR)
    assert desk.custodian.step()
    clock.advance(10 * HOUR)
    assert not desk.custodian.step()
    assert len(desk.stored()) == 1


def test_a_kiosk_that_is_restarted_often_is_in_time_all_the_same(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    kiosk.record()
    for _ in range(4):
        clock.advance(HOUR / 4)
        desk.begin()
        desk.custodian.step()
    assert len(desk.stored()) == 1
    clock.reboot("c" * 32, off_s=60)
    kiosk.ledger.begin_boot(0, "synchronised")
    desk.begin()
    desk.custodian.step()
    assert len(desk.stored()) == 2


def test_what_was_signed_goes_out_byte_for_byte_however_often_it_is_tried(
    kiosk: Kiosk, tmp_path: Path, clock: FakeClock
) -> None:
    target = ScriptedTarget()
    target.script.extend([Unreachable("upload"), Unreachable("upload"), NeedsPerson("upload")])
    desk = Desk(kiosk, tmp_path, target)
    kiosk.record()
    clock.advance(HOUR)
    seen: list[bytes] = []
    for first in (1, 2):
        assert not desk.custodian.step()
        (waiting,) = desk.waiting
        seen.append(waiting.read_bytes())
        kiosk.record(first=first)
        clock.advance(HOUR)
        desk.begin()
    assert desk.custodian.step()
    assert seen[0] == seen[1]
    assert desk.waiting == []
    assert [place.rpartition("/")[2] for place in target.took] == [waiting.name]


def test_a_courier_that_dies_before_the_journal_knows_repeats_itself(
    desk: Desk, kiosk: Kiosk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiosk.record()
    clock.advance(HOUR)
    with monkeypatch.context() as patched:
        patched.setattr(Custodian, "_enter", lambda *_: (_ for _ in ()).throw(OSError("the power is gone")))
        assert not desk.custodian.step()
    (before,) = desk.stored()
    desk.begin()
    kiosk.record(first=1)
    assert desk.custodian.step()
    assert desk.stored() == [before]
    last = kiosk.ledger.last_manifest()
    assert last is not None
    assert last.body["last"] == before.stretch.last


def test_a_damaged_manifest_is_made_anew(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    kiosk.record()
    clock.advance(HOUR)
    desk.lines.closed.set()
    assert not desk.custodian.step()
    (waiting,) = desk.waiting
    content = bytearray(waiting.read_bytes())
    content[200] ^= 1
    waiting.write_bytes(content)
    desk.lines.closed.clear()
    clock.advance(HOUR)
    assert desk.custodian.step()
    assert [manifest.stretch.first for manifest in desk.stored()] == [1]


def test_what_a_lost_ledger_told_still_goes_out(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    kiosk.record()
    clock.advance(HOUR)
    desk.lines.closed.set()
    desk.custodian.step()
    old = kiosk.ledger.epoch()
    kiosk.ledger.close()
    for path in kiosk.layout.state.glob("ledger.db*"):
        path.unlink()
    kiosk.ledger = Ledger(kiosk.layout.ledger, clock, create=True)
    kiosk.ledger.begin_boot(0, "synchronised")
    desk.lines.closed.clear()
    assert desk.custodian.step()
    clock.advance(HOUR)
    assert desk.custodian.step()
    epochs = {manifest.stretch.epoch for manifest in desk.stored()}
    assert epochs == {old, kiosk.ledger.epoch()}


def test_a_long_journal_goes_out_in_portions(
    desk: Desk, kiosk: Kiosk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.courier.custodian._MOST_ENTRIES", 10)
    kiosk.record(25, seconds=0.01)
    clock.advance(HOUR)
    while desk.custodian.step():
        pass
    found = [manifest.stretch for manifest in desk.stored()]
    assert [(each.first, each.last) for each in found] == [(1, 10), (11, 20), (21, 29)]


def test_what_is_old_and_told_is_pruned_and_the_chain_goes_on(kiosk: Kiosk, tmp_path: Path, clock: FakeClock) -> None:
    desk = Desk(kiosk, tmp_path, history=Duration(86400))
    for day in range(4):
        for segment in kiosk.record(3, first=3 * day):
            kiosk.evict(segment)
        clock.advance(24 * HOUR)
        assert desk.custodian.step()
    first = kiosk.ledger.first()
    assert first > 10
    assert kiosk.ledger.broken_link() is None
    kiosk.ledger.check()
    assert len(list(kiosk.ledger.segments())) < 12
    told = [entry[0] for manifest in desk.stored() for entry in manifest.entries]
    assert told == list(range(1, len(told) + 1))
    with sqlite3.connect(kiosk.layout.ledger) as database:
        database.execute("UPDATE journal SET at_ns = at_ns + 1 WHERE seq = ?", (first,))
    assert kiosk.ledger.broken_link() == first


def test_nothing_is_pruned_that_the_store_has_not_got(kiosk: Kiosk, tmp_path: Path, clock: FakeClock) -> None:
    desk = Desk(kiosk, tmp_path, history=Duration(86400))
    desk.lines.closed.set()
    kiosk.record(3)
    clock.advance(100 * 24 * HOUR)
    desk.custodian.step()
    assert kiosk.ledger.first() == 1


def test_the_head_tells_what_the_store_has_in_the_devices_name(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    kiosk.record()
    clock.advance(HOUR)
    desk.custodian.step()
    seq, digest = kiosk.ledger.head()
    told = Head.parse(str(desk.pen.head(Head(kiosk.ledger.epoch(), seq, digest.hex()))))
    assert told is not None
    assert told.is_of("north", "room-12", desk.public)
    assert (told.seq, told.digest, told.manifested) == (seq, digest.hex(), seq - 1)
    assert not told.is_of("north", "room-13", desk.public)
    assert not replace(told, manifested=0).is_of("north", "room-12", desk.public)


def test_without_a_key_nothing_is_signed_and_somebody_says_why(kiosk: Kiosk, tmp_path: Path) -> None:
    key = tmp_path / "absent.key"
    pen = Pen(replace(kiosk.settings(), custody=Custody(key=key)))
    head = Head("0" * 12, 3, "ab" * 32)
    assert pen.public is None
    assert str(pen.head(head)) == f"{'0' * 12}-3-{'ab' * 8}"
    assert "kiosk-recorder enrol" in str(pen.trouble)


def test_names_of_manifests_sort_as_they_follow() -> None:
    stretches = [Stretch("a" * 12, 1, 999), Stretch("a" * 12, 1000, 1001), Stretch("a" * 12, 10_000, 10_000)]
    assert sorted(each.name for each in stretches) == [each.name for each in stretches]
    assert [Stretch.parse(each.name) for each in stretches] == stretches
    assert Stretch.parse("a" * 12 + "-1-2.json") is None


def test_the_courier_uploads_manifests_beside_the_recordings(kiosk: Kiosk, bucket: Bucket, tmp_path: Path) -> None:
    key = tmp_path / "device.key"
    public = public_key(seeds.make(key))
    settings = kiosk.settings(f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url)
    settings = replace(settings, custody=Custody(key=key, manifest_every=Duration(0)))
    kiosk.record(3)
    with courier(settings, bucket.store.kiosk.environment):
        eventually(lambda: "custody" in str(bucket.keys()), "there is a manifest")
    status, said = run_once(settings, bucket.store.kiosk.environment)
    assert status == 0, said
    told = []
    for name, content in bucket.contents().items():
        if "/custody/" in name:
            assert name.startswith("rooms/north/room-12/custody/")
            told += read(content, public, name.rpartition("/")[2]).entries
    assert [entry[5] for entry in told if entry[5] == "sealed"] == ["sealed"] * 3
    assert sum(entry[5] == "acknowledged" for entry in told) == 3
