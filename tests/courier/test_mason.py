"""Tombstones on their way to the store: one for each order, the same bytes however often that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract import seeds
from agent.contract.custody import Tombstone
from agent.contract.signed import opened, parsed, public_key, sign
from agent.courier.activity import Activity
from agent.courier.mason import MOST_SEGMENTS, Mason
from agent.courier.pace import Pace
from agent.courier.pen import Pen
from agent.courier.standing import Standing
from agent.courier.targets.directory import DirectoryTarget
from agent.courier.worker import Lines, Worker
from agent.ledger import Ledger
from agent.settings import Custody
from tests.clocks import FakeClock
from tests.courier.kiosk import Kiosk

ID = "ab" * 16


class Yard:
    """A kiosk that erases, and a directory for a store."""

    def __init__(self, kiosk: Kiosk, place: Path, *, signing: bool = True) -> None:
        self.kiosk = kiosk
        self.key = place / "device.key"
        if signing and not self.key.exists():
            seeds.make(self.key)
        self.store = place / "store"
        self.store.mkdir(exist_ok=True)
        settings = replace(kiosk.settings(), custody=Custody(key=self.key if signing else None))
        lines, clock = Lines(), kiosk.clock
        target = DirectoryTarget(self.store)
        worker = Worker(target, Pace(0, clock, lines.stop), lines, Activity(clock), Standing(clock), clock, attempts=1)
        self.mason = Mason(settings, kiosk.layout, target.prefix, worker, Pen(settings), clock)

    def erase(self, order: str = ID) -> None:
        uploaded, kept = self.kiosk.record(2)
        self.kiosk.ledger.fix_key(uploaded.name, "north/room-12/a.flac", "synchronised")
        self.kiosk.ledger.erase(order, [uploaded.name, kept.name], "asked by the patient")

    def stones(self) -> dict[str, bytes]:
        found = (self.store / "north" / "room-12" / "custody").glob("erase-*")
        return {path.name: path.read_bytes() for path in found if not path.name.endswith(".json.json")}

    def waiting(self) -> list[str]:
        return sorted(path.name for path in (self.kiosk.layout.state / "custody").glob("*"))


@pytest.fixture
def yard(kiosk: Kiosk, tmp_path: Path) -> Yard:
    return Yard(kiosk, tmp_path)


def test_each_order_has_one_tombstone_that_names_what_may_be_in_the_store(yard: Yard) -> None:
    assert not yard.mason.step()
    yard.erase()
    assert yard.mason.step()
    assert not yard.mason.step()
    ((name, payload),) = yard.stones().items()
    assert name == f"erase-{ID}.json"
    tombstone = Tombstone.read(opened("tombstone", payload, {public_key(seeds.load(yard.key, ""))}).document)
    assert (tombstone.site, tombstone.device, tombstone.id, tombstone.why) == (
        "north",
        "room-12",
        ID,
        "asked by the patient",
    )
    assert [key for _, _, key in tombstone.segments] == ["north/room-12/a.flac", None]
    assert yard.waiting() == []
    assert yard.kiosk.ledger.tombstones() == {ID}


def test_an_order_that_meant_very_many_recordings_has_several_tombstones(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.courier.mason.MOST_SEGMENTS", 2)
    names = [segment.name for segment in yard.kiosk.record(5)]
    yard.kiosk.ledger.erase(ID, names, "asked for")
    while yard.mason.step():
        pass
    keys = {public_key(seeds.load(yard.key, ""))}
    stones = {name: Tombstone.read(opened("tombstone", said, keys).document) for name, said in yard.stones().items()}
    assert all(name == stone.name for name, stone in stones.items())
    assert sorted(len(stone.segments) for stone in stones.values()) == [1, 2, 2]
    assert {(run, seq) for stone in stones.values() for run, seq, _ in stone.segments} == {
        (name.run, name.seq) for name in names
    }
    assert yard.kiosk.ledger.tombstones() == {stone.id for stone in stones.values()} > {ID}
    again = Yard(yard.kiosk, yard.store.parent)
    assert not again.mason.step()


def test_the_longest_tombstone_is_one_that_is_read() -> None:
    segments = [("a" * 12, 10**17, "k" * 1024)] * MOST_SEGMENTS
    longest = Tombstone("s" * 63, "d" * 63, ID, "2026-03-01T08:00:00Z", '"' * 1000, [*segments])
    payload = sign("tombstone", longest.document(), bytes(32))
    read = Tombstone.read(opened("tombstone", payload, {public_key(bytes(32))}).document)
    assert len(read.segments) == MOST_SEGMENTS


def test_without_a_key_it_is_told_unsigned(kiosk: Kiosk, tmp_path: Path) -> None:
    yard = Yard(kiosk, tmp_path, signing=False)
    yard.erase()
    assert yard.mason.step()
    (payload,) = yard.stones().values()
    assert Tombstone.read(parsed(parsed(payload)["signed"])).id == ID


class Killed(BaseException):
    """The courier is gone."""


@pytest.mark.parametrize("step", ["bring", "entombed", "unlink"])
def test_a_courier_that_dies_in_between_says_the_same_again(
    yard: Yard, tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    yard.erase()
    owner: type = {"bring": Worker, "entombed": Ledger, "unlink": Path}[step]
    whole: Callable[..., object] = getattr(owner, step)

    def dies(*arguments: object, **named: object) -> None:
        whole(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, dies)
        with pytest.raises(Killed):
            yard.mason.step()
    said = yard.stones()
    clock.advance(3600)
    again = Yard(yard.kiosk, tmp_path)
    while again.mason.step():
        pass
    assert again.stones() == said
    assert again.waiting() == []
    assert again.kiosk.ledger.tombstones() == {ID}


def test_a_document_that_was_damaged_on_the_card_is_made_anew(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    yard.erase()
    with monkeypatch.context() as patched:
        patched.setattr(Worker, "bring", lambda *_: ("deferred", None))
        assert not yard.mason.step()
    (name,) = yard.waiting()
    path = yard.kiosk.layout.state / "custody" / name
    path.write_bytes(path.read_bytes().replace(b"patient", b"pirates"))
    while yard.mason.step():
        pass
    (payload,) = yard.stones().values()
    assert b"patient" in payload
