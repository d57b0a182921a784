"""What people have erased is gone, whole and for ever, whenever the power goes; nothing else is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.ledger import ClockState, Ledger, Segment
from agent.recorder import erasing
from agent.recorder.erasing import Erased, Erasure, Erasures, order, ordered
from agent.recorder.removal import quarantine
from agent.recorder.retention import Retention
from agent.recorder.root import Root
from agent.sidecar import Header
from agent.spool import SegmentName
from agent.timeline import read
from agent.units import NS_PER_S
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings

ID = "ab" * 8


class Scene(WriterRoom):
    """A writer whose recordings somebody wants erased."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        super().__init__(settings(root / "card"), clock)
        self.vitals.boot = self.ledger.boots()[-1]
        self.erasures = Erasures(self.layout.root, root / "memory", lambda: None)
        self.root = Root(self.settings, self.layout, self.ledger, self.retention)

    def step(self) -> Erased | None:
        self.erasures.step(self.root, self.writer)
        return self.erasures.done.get(ID)

    def last(self, seconds: float) -> Erasure:
        now_ns = self.ledger.now_ns()
        return Erasure(ID, now_ns - round(seconds * NS_PER_S), now_ns, "asked by the patient")

    def files(self) -> set[str]:
        return {path.name.partition(".")[0] for path in self.layout.spool.rglob("*") if path.is_file()}

    def states(self) -> list[str]:
        return [segment.state for segment in self.sealed()]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def scene(tmp_path: Path, clock: FakeClock) -> Scene:
    return Scene(tmp_path, clock)


def test_whole_recordings_go_with_the_one_that_is_open_and_recording_goes_on_without_a_gap(scene: Scene) -> None:
    sound = noise(9)
    scene.hear(sound[: 7 * 8000])
    order(scene.layout.root, scene.last(2.5))
    assert scene.step() == Erased(2, 3.0, 0)
    scene.hear(sound[7 * 8000 :])
    scene.end()
    with Ledger(scene.layout.ledger, scene.clock) as ledger:
        segments = list(ledger.segments())
        (erasure,) = ledger.erasures()
    assert [segment.state for segment in segments] == ["pending", "pending", "erased", "erased", "pending"]
    assert {str(segment.name) for segment in segments if segment.state == "pending"} == scene.files()
    assert len({segment.run for segment in segments}) == 1
    assert np.array_equal(scene.audio(segments[-1]), sound[7 * 8000 :]), "not a sample is missing after"
    assert erasure == (ID, "asked by the patient", [segment.name for segment in segments[2:4]])
    assert list(ordered(scene.layout.root)) == []
    assert_time_adds_up(scene)


def test_what_was_heard_before_the_end_of_the_stretch_is_waited_for(scene: Scene) -> None:
    scene.hear(noise(3.4))
    assert scene.ring.frames, "some of it hasn't been written yet"
    order(scene.layout.root, scene.last(10))
    assert scene.step() is None
    scene.hear(noise(1.6))
    assert scene.step() == Erased(2, 4.0, 0)


def test_what_is_in_the_store_is_named_and_a_late_acknowledgement_changes_nothing(scene: Scene) -> None:
    scene.hear(noise(6))
    first, second, third = scene.sealed()
    scene.ledger.fix_key(first.name, "north/room-1/a.flac", "synchronised")
    scene.ledger.acknowledge(first.name, "stored")
    scene.retention.tidy()
    assert not scene.layout.audio(first.name).exists()
    scene.ledger.fix_key(second.name, "north/room-1/b.flac", "synchronised")
    order(scene.layout.root, scene.last(60))
    erased = scene.step()
    assert erased is not None
    assert erased.in_store == 2
    scene.ledger.acknowledge(second.name, "stored")
    assert scene.states()[:3] == ["erased"] * 3
    assert not scene.ledger.fix_key(third.name, "north/room-1/c.flac", "synchronised", pending=True)


def test_what_lies_in_quarantine_goes_too(scene: Scene) -> None:
    scene.hear(noise(4))
    first, _ = scene.sealed()
    scene.ledger.settle(first.name, "quarantined", "damaged")
    scene.ledger.forget_files([first.name])
    quarantine(scene.layout, scene.layout.audio(first.name), scene.layout.meta(first.name))
    order(scene.layout.root, scene.last(60))
    scene.step()
    assert scene.files() == set()


def test_what_lies_in_quarantine_unknown_to_the_ledger_goes_by_its_sidecar(scene: Scene) -> None:
    before = set_aside(scene, "a" * 12, -60)
    within, again = set_aside(scene, "b" * 12, 1), set_aside(scene, "b" * 12, 1)
    dateless = set_aside(scene, "c" * 12, -60, boot="e" * 32, clock="unsynchronised")
    other_boot = set_aside(scene, "d" * 12, -60, boot="e" * 32, clock="synchronised")
    torn = set_aside(scene, "e" * 12, -60)
    (scene.layout.quarantine / f"{torn}.meta").write_bytes(b"nothing that anybody understands")
    (scene.layout.quarantine / "speech.wav").write_bytes(b"sound")
    assert within == again
    scene.retention.recount()
    scene.hear(noise(4))
    order(scene.layout.root, scene.last(4))
    assert scene.step() == Erased(2, 4.0, 0)
    left = {path.name.partition(".")[0] for path in scene.layout.quarantine.iterdir()}
    assert left == {before, other_boot}, f"{dateless} may have been anything"
    used = scene.retention.used
    scene.retention.recount()
    assert used == scene.retention.used


def set_aside(scene: Scene, run: str, begins_s: float, *, boot: str = "", clock: ClockState = "synchronised") -> str:
    """Audio of 2 s and its sidecar in quarantine, heard that long from now; its name."""
    now_ns, name = scene.clock.monotonic_ns(), SegmentName(run, 0)
    begin_ns = now_ns + round(begins_s * NS_PER_S)
    wall_ns = scene.ledger.now_ns() + round(begins_s * NS_PER_S)
    header = Header(name, boot or scene.clock.boot, begin_ns, wall_ns, clock, RATE, 1, 2 * RATE)
    audio, meta = scene.layout.part(name), scene.layout.open_meta(name)
    audio.write_bytes(b"audio")
    meta.write_bytes(header.pack())
    quarantine(scene.layout, audio, meta)
    return str(name)


def test_what_lies_outside_and_what_was_given_up_stays_as_it_is(scene: Scene) -> None:
    scene.hear(noise(8))
    segments = scene.sealed()
    scene.ledger.settle(segments[1].name, "evicted", "cap")
    scene.retention.remove(segments[1].name)
    with scene.ledger.transaction():
        scene.retention.commit_removals()
    boot = scene.ledger.boots()[-1]
    begin_ns = boot.offset_ns + segments[1].begin_ns
    order(scene.layout.root, Erasure(ID, begin_ns, begin_ns + 2 * NS_PER_S, ""))
    assert scene.step() == Erased(0, 0, 0)
    assert scene.states() == ["pending", "evicted", "pending", "pending"]


@pytest.fixture
def refusing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A card that takes no orders until this is set."""
    works = threading.Event()

    def kept(root: Path, erasure: Erasure) -> None:
        if root == scene.layout.root and not works.is_set():
            raise OSError(5, "Input/output error")
        order(root, erasure)

    monkeypatch.setattr(erasing, "order", kept)
    return works


def command(scene: Scene) -> None:
    """Have the last minute erased by command, and wait until the card was asked to keep that."""
    scene.erasures.order(scene.last(60))
    for thread in threading.enumerate():
        if thread.name == "erase":
            thread.join()


def test_an_order_that_the_card_does_not_take_is_found_by_a_restart(
    scene: Scene, tmp_path: Path, refusing: threading.Event
) -> None:
    scene.hear(noise(4))
    command(scene)
    assert not refusing.is_set()
    assert list(ordered(scene.layout.root)) == []
    scene.ledger.close()
    again = Scene(tmp_path, scene.clock)
    again.hear(noise(2))
    assert again.step() == Erased(2, 4.0, 0)
    assert list(ordered(tmp_path / "memory")) == []


def test_a_card_that_did_not_take_an_order_is_asked_again(scene: Scene, refusing: threading.Event) -> None:
    scene.hear(noise(3.4))
    command(scene)
    for takes in (False, True):
        if takes:
            refusing.set()
        assert scene.step() is None, "some of it hasn't been written yet"
        assert [each.id for each in ordered(scene.layout.root)] == [ID] * takes
    scene.hear(noise(1.6))
    assert scene.step() == Erased(2, 4.0, 0)
    assert list(ordered(scene.layout.root)) == []


def noting_places(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """From now on the spools on which an order is carried out are noted here, in that order."""
    carry_out, places = erasing.carry_out, list[Path]()

    def noted(root: Root, erasure: Erasure, **named: bool) -> Erased:
        places.append(root.layout.root)
        return carry_out(root, erasure, **named)

    monkeypatch.setattr(erasing, "carry_out", noted)
    return places


def test_an_order_that_is_heard_of_again_is_carried_out_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it waits, and when it came to the card only after it was carried out there."""
    places = noting_places(monkeypatch)
    scene.hear(noise(3.4))
    command(scene)
    assert scene.step() is None, "some of it hasn't been written yet"
    order(scene.layout.root, scene.last(60))
    scene.hear(noise(1.6))
    assert scene.step() is not None
    order(scene.layout.root, scene.last(60))
    scene.step()
    assert places == [scene.layout.root]
    assert list(ordered(scene.layout.root)) == []


def test_memory_that_is_not_used_is_told_of_no_order(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = noting_places(monkeypatch)
    scene.hear(noise(4))
    command(scene)
    assert scene.step() == Erased(2, 4.0, 0)
    memory = WriterRoom(settings(tmp_path / "memory"), scene.clock)
    memory.vitals.boot = memory.ledger.boots()[-1]
    memory.hear(noise(2))
    scene.erasures.step(Root(memory.settings, memory.layout, memory.ledger, memory.retention), memory.writer)
    assert places == [scene.layout.root]
    memory.end()


def test_an_order_that_concerns_nothing_in_memory_is_not_entered_there(scene: Scene, tmp_path: Path) -> None:
    memory = WriterRoom(settings(tmp_path / "memory"), scene.clock)
    memory.vitals.boot = memory.ledger.boots()[-1]
    root = Root(memory.settings, memory.layout, memory.ledger, memory.retention)
    now_ns = scene.ledger.now_ns()
    scene.erasures.order(Erasure(ID, now_ns - 60 * NS_PER_S, now_ns - 30 * NS_PER_S, ""))
    scene.erasures.step(root, memory.writer)
    assert scene.step() == Erased(0, 0, 0)
    assert (scene.ledger.erasures(), memory.ledger.erasures()) == ([(ID, "", [])], [])
    memory.end()


def test_nobody_but_the_recorder_can_put_an_order_there(scene: Scene) -> None:
    before = os.umask(0o007)
    try:
        order(scene.layout.root, scene.last(1))
    finally:
        os.umask(before)
    assert (scene.layout.root / "erase").stat().st_mode & 0o777 == 0o750


class PowerCut(Exception):
    """Raised where the power goes."""


STEPS: list[tuple[type[Any] | Any, str]] = [
    (Ledger, "erase"),
    (Retention, "remove"),
    (Retention, "remove_from_quarantine"),
    (erasing, "sync_directory"),
    (Retention, "commit_removals"),
    (erasing, "fulfilled"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=[step for _, step in STEPS])
def test_a_power_cut_at_any_step_is_made_up_for_by_the_next_start(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,  # noqa: ANN401
    step: str,
    after: bool,  # noqa: FBT001
) -> None:
    scene.hear(noise(7))
    whole: Callable[..., object] = getattr(owner, step)

    def cut(*arguments: object, **named: object) -> None:
        if after:
            whole(*arguments, **named)
        raise PowerCut

    order(scene.layout.root, scene.last(2.5))
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, cut)
        with pytest.raises(PowerCut):
            scene.step()
    run = scene.sealed()[0].run
    wanted = [f"{run}-{seq:06d}" for seq in (2, 3)]
    assert_nothing_went_unsaid(scene)
    scene.ledger.close()
    scene.clock.reboot("d" * 32, off_s=60)
    again = Scene(tmp_path, scene.clock)
    again.hear(noise(4))
    again.step()
    assert not again.files() & set(wanted)
    segments = again.sealed()
    assert [segment.state for segment in segments] == ["pending", "pending", "erased", "erased", "pending", "pending"]
    (found,) = again.ledger.erasures()
    assert [str(name) for name in found[2]] == wanted
    assert list(ordered(again.layout.root)) == []
    again.end()
    assert_time_adds_up(again)


def assert_time_adds_up(scene: Scene) -> None:
    with Ledger(scene.layout.ledger, scene.clock, read_only=True) as ledger:
        assert list(read(ledger).faults) == []


def assert_nothing_went_unsaid(scene: Scene) -> None:
    """Invariant 2: no file is gone of which the ledger doesn't say so."""

    def here(segment: Segment) -> bool:
        return scene.layout.audio(segment.name).exists()

    with Ledger(scene.layout.ledger, scene.clock, read_only=True) as ledger:
        assert all(here(segment) or segment.state == "erased" for segment in ledger.segments())
