"""From memory to the card, and whatever may interrupt that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from agent.ledger import Boot, Gap, Ledger, Segment
from agent.recorder import homecoming
from agent.recorder.homecoming import Homecoming, cuts_for_card
from agent.recorder.rebuild import open_recovered
from agent.recorder.root import Root, open_root
from agent.spool import Layout
from agent.timeline import read
from agent.units import Size
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings

PLAYED = noise(16)

MOMENTS = 88
"""Before and after each step of the homecoming below."""


class PowerCut(Exception):
    """At this moment."""


@dataclass
class Kiosk:
    """A card's writer that was left for one in memory, which was interrupted twice and has ended."""

    card: WriterRoom
    memory: WriterRoom

    @property
    def home(self) -> Root:
        card = self.card
        return Root(card.settings, card.layout, card.ledger, card.retention)

    def homecoming(self) -> Homecoming:
        return Homecoming(self.memory.layout, self.home, self.card.clock)

    def bring_home(self) -> int:
        """As when the process ends; how many files came."""
        homecoming = self.homecoming()
        homecoming.tell()
        homecoming.finish()
        return homecoming.brought

    def forget_memory(self) -> None:
        """What a power cut does."""
        shutil.rmtree(self.memory.layout.root)

    def start_again(self) -> None:
        """The next process, which brings home what is still in memory, and records."""
        clock, memory = self.card.clock, self.memory.layout
        self.card.ledger.close()
        boot = Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "synchronised")
        if memory.ledger.exists():
            with open_root(self.memory.settings, clock, boot):
                pass
        with open_root(self.card.settings, clock, boot, cuts_for_card(memory, clock)) as home:
            homecoming = Homecoming(memory, home, clock)
            homecoming.tell()
            homecoming.finish()
        self.card = WriterRoom(self.card.settings, clock)


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    clock = FakeClock()
    card = WriterRoom(settings(tmp_path / "card"), clock)
    card.hear(PLAYED[: 3 * RATE])
    card.writer.leave()
    assert not card.writer.step()
    memory = WriterRoom(settings(tmp_path / "memory"), clock, card.ring, card.writer.succession())
    for first, last in ((3, 7), (7, 11), (11, 16)):
        memory.hear(PLAYED[first * RATE : last * RATE])
        memory.ring.interrupt("overrun", clock.monotonic_ns())
        memory.writer.step()
        clock.advance(1.5)
    memory.writer.leave()
    assert not memory.writer.step()
    yield Kiosk(card, memory)
    card.ledger.close()
    memory.ledger.close()


def kept(ledger: Ledger) -> list[Segment]:
    return sorted(ledger.segments(), key=lambda segment: segment.begin_ns)


def everything(room: WriterRoom, ledger: Ledger) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.concatenate([room.audio(segment) for segment in kept(ledger) if segment.present])


def test_files_and_account_come_whole_and_memory_is_free_again(kiosk: Kiosk) -> None:
    there = len(list(kiosk.memory.ledger.segments()))
    assert kiosk.bring_home() == there
    ledger = kiosk.card.ledger
    np.testing.assert_array_equal(everything(kiosk.card, ledger), PLAYED)
    assert read(ledger).faults == []
    assert [gap.reason for gap in ledger.gaps()] == ["overrun", "overrun"]
    assert not list(kiosk.memory.layout.sealed.iterdir())
    assert kiosk.bring_home() == 0
    assert ledger.broken_link() is None


def test_what_was_counted_counts_once_however_often_one_comes_home(kiosk: Kiosk) -> None:
    before = kiosk.card.ledger.counters()
    there = kiosk.memory.ledger.counters()
    for _ in range(2):
        kiosk.bring_home()
        after = kiosk.card.ledger.counters()
        for name, value in there.items():
            assert after[name] == pytest.approx(before.get(name, 0) + value), name
    kiosk.memory.ledger.count(overruns_total=1)
    kiosk.bring_home()
    assert kiosk.card.ledger.counters()["overruns_total"] == there["overruns_total"] + 1
    assert kiosk.memory.ledger.home_base() == kiosk.memory.ledger.counters()


def test_what_the_courier_did_with_it_in_memory_holds_on_the_card(kiosk: Kiosk) -> None:
    first, second, third, *_ = kept(kiosk.memory.ledger)
    for segment in (first, second):
        kiosk.memory.ledger.fix_key(segment.name, f"key-{segment.seq}", "synchronised")
    kiosk.memory.ledger.acknowledge(first.name, "stored")
    kiosk.memory.ledger.settle(third.name, "evicted", "cap")
    for path in (kiosk.memory.layout.audio(third.name), kiosk.memory.layout.meta(third.name)):
        path.unlink()
    kiosk.bring_home()
    states = {segment.name: segment for segment in kiosk.card.ledger.segments()}
    assert (states[first.name].state, states[first.name].key) == ("acknowledged", f"key-{first.seq}")
    assert (states[second.name].state, states[second.name].key) == ("pending", f"key-{second.seq}")
    assert (states[third.name].state, states[third.name].present) == ("evicted", False)
    assert not kiosk.card.layout.audio(first.name).exists(), "what is uploaded need not come"


def test_the_last_seconds_of_a_writer_that_stayed_stuck_are_a_gap(kiosk: Kiosk, tmp_path: Path) -> None:
    clock = kiosk.card.clock
    end_ns = kept(kiosk.card.ledger)[-1].end_ns
    late = WriterRoom(settings(tmp_path / "late"), clock)
    clock.advance(9)
    late.hear(noise(2))
    late.end()
    Homecoming(late.layout, kiosk.home, clock).tell()
    gap = kiosk.card.ledger.gaps()[-1]
    begin_ns = kept(kiosk.card.ledger)[-1].begin_ns
    assert gap == Gap(clock.boot, end_ns, begin_ns, "disk_error")


CUTTABLE = [
    (homecoming, "_copied"),
    (homecoming, "remove_files"),
    (homecoming, "move_into_sealed"),
    (Ledger, "came_home"),
    (Ledger, "went_home"),
    (Ledger, "recall_files"),
    (Ledger, "forget_files"),
]
"""Each step that changes something on the card or in memory."""


def moments(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch, cut_at: int) -> int:
    """Do `act`, cut off at the `cut_at`-th moment before or after a step; how many there were."""
    passed = 0

    def cutting(original: Callable[..., object]) -> Callable[..., object]:
        def cut(*arguments: object, **named: object) -> object:
            nonlocal passed
            result: object = None
            for act_now in (False, True):
                if act_now:
                    result = original(*arguments, **named)
                passed += 1
                if passed == cut_at:
                    raise PowerCut
            return result

        return cut

    with monkeypatch.context() as patched:
        for place, name in CUTTABLE:
            patched.setattr(place, name, cutting(getattr(place, name)))
        act()
    return passed


@pytest.mark.parametrize("cut_at", range(1, MOMENTS + 1))
@pytest.mark.parametrize("memory_survives", [True, False])
def test_a_homecoming_that_is_cut_off_anywhere_leaves_a_whole_account(
    kiosk: Kiosk,
    monkeypatch: pytest.MonkeyPatch,
    cut_at: int,
    memory_survives: bool,  # noqa: FBT001
) -> None:
    """Killed, it goes on where it was. After a power cut what had come is there, and what hadn't is told as lost."""
    with pytest.raises(PowerCut):
        moments(kiosk.bring_home, monkeypatch, cut_at)
    clock = kiosk.card.clock
    if memory_survives:
        kiosk.start_again()
        np.testing.assert_array_equal(everything(kiosk.card, kiosk.card.ledger), PLAYED)
        assert not list(kiosk.memory.layout.sealed.iterdir())
        assert not list(kiosk.card.layout.quarantine.iterdir())
    else:
        there = sum(segment.frames for segment in [*kept(kiosk.card.ledger), *kept(kiosk.memory.ledger)])
        told = sum(segment.frames for segment in kept(kiosk.card.ledger))
        kiosk.forget_memory()
        clock.reboot("d" * 32, off_s=60)
        kiosk.start_again()
        ledger = kiosk.card.ledger
        recorded = everything(kiosk.card, ledger)
        np.testing.assert_array_equal(recorded, PLAYED[: len(recorded)])
        lost = [segment for segment in kept(ledger) if segment.state == "lost"]
        assert len(recorded) + sum(segment.frames for segment in lost) == told <= there
        assert {segment.reason for segment in lost} <= {"it was in memory when the power went"}
        torn = {path.stem for path in kiosk.card.layout.quarantine.iterdir()}
        assert torn <= {str(segment.name) for segment in lost}, "half a copy is better than nothing"
        assert ledger.counters().get("segment_errors_total", 0) == len(lost) + len(torn)
    kiosk.card.hear(noise(2, seed=5))
    assert read(kiosk.card.ledger).faults == []
    assert kiosk.card.ledger.broken_link() is None


def test_all_moments_of_a_homecoming_are_cut(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert moments(kiosk.bring_home, monkeypatch, 0) == MOMENTS


def test_what_was_told_and_never_came_is_lost_only_once_memory_is(kiosk: Kiosk) -> None:
    kiosk.homecoming().tell()
    away = {segment.name for segment in kept(kiosk.memory.ledger)}
    for _ in range(2):
        kiosk.card.ledger.close()
        ledger, recovered = open_recovered(
            kiosk.card.layout, kiosk.card.clock, cuts_for_card(kiosk.memory.layout, kiosk.card.clock)
        )
        ledger.close()
        assert not recovered
    ledger, recovered = open_recovered(kiosk.card.layout, kiosk.card.clock, [])
    ledger.close()
    assert set(recovered.lost) == away
    kiosk.card = WriterRoom(kiosk.card.settings, kiosk.card.clock)
    kiosk.bring_home()
    assert {segment.name for segment in kiosk.memory.ledger.kept()} == away, "what is called lost isn't thrown away"


def test_files_come_one_by_one_while_the_card_is_written(kiosk: Kiosk) -> None:
    homecoming = kiosk.homecoming()
    homecoming.tell()
    assert read(kiosk.card.ledger).faults == []
    card = WriterRoom(kiosk.card.settings, kiosk.card.clock, kiosk.memory.ring, kiosk.memory.writer.succession())
    more = noise(9, seed=9)
    for second in range(9):
        card.hear(more[second * RATE : (second + 1) * RATE])
        homecoming.step()
        assert read(kiosk.card.ledger).faults == []
    assert not homecoming.step()
    card.end()
    recorded = everything(kiosk.card, kiosk.card.ledger)
    np.testing.assert_array_equal(recorded, np.concatenate([PLAYED, more]))


def test_files_that_find_no_room_wait_in_memory(kiosk: Kiosk) -> None:
    cap = Size(kiosk.card.retention.used + kiosk.card.settings.segment_reserve_bytes)
    full = replace(kiosk.card.settings, spool=replace(kiosk.card.settings.spool, when_full="stop", cap=cap))
    kiosk.card.ledger.close()
    kiosk.card = WriterRoom(full, kiosk.card.clock)
    there = kept(kiosk.memory.ledger)
    assert kiosk.bring_home() == 0
    assert [segment.name for segment in kiosk.memory.ledger.kept()] == [segment.name for segment in there]
    for segment in there:
        kiosk.memory.ledger.acknowledge(segment.name, "stored")
    kiosk.card.clock.advance(10)
    assert kiosk.bring_home() == 0
    assert not list(kiosk.memory.layout.sealed.iterdir()), "what is uploaded need not come"


def test_carrying_home_may_begin_while_memory_is_still_written(kiosk: Kiosk) -> None:
    kiosk.homecoming().tell()
    more = WriterRoom(kiosk.memory.settings, kiosk.card.clock, kiosk.memory.ring, kiosk.memory.writer.succession())
    more.hear(noise(3, seed=9))
    more.writer.leave()
    assert not more.writer.step()
    more.ledger.close()
    kiosk.bring_home()
    np.testing.assert_array_equal(everything(kiosk.card, kiosk.card.ledger), np.concatenate([PLAYED, noise(3, seed=9)]))
    assert read(kiosk.card.ledger).faults == []


def test_memory_lets_go_of_an_account_that_the_card_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings may go to memory for months."""
    monkeypatch.setattr(homecoming, "_LONGEST_TOLD", 20)
    clock = FakeClock()
    card = WriterRoom(settings(tmp_path / "card"), clock)
    memory = WriterRoom(settings(tmp_path / "memory"), clock)
    kiosk = Kiosk(card, memory)
    coming, played = kiosk.homecoming(), noise(60)
    most_entries = most_segments = 0
    for turn in range(30):
        memory.hear(played[2 * turn * RATE : (2 * turn + 2) * RATE])
        if turn % 5 == 0:
            memory.ring.interrupt("overrun", clock.monotonic_ns())
            memory.writer.step()
        for segment in list(memory.ledger.kept("pending", limit=1)):
            if turn < 20:
                memory.ledger.acknowledge(segment.name, "stored")
        memory.retention.tidy()
        with memory.ledger.transaction():
            memory.retention.commit_removals()
        coming.tell()
        most_entries = max(most_entries, len(list(memory.ledger.entries())))
        most_segments = max(most_segments, len(kept(memory.ledger)))
    memory.writer.leave()
    assert not memory.writer.step()
    assert len(list(card.ledger.segments())) >= 30
    assert most_entries <= 30
    assert most_segments <= 12, "what waits for upload, and what the account was about lately"
    kiosk.bring_home()
    assert read(card.ledger).faults == []
    assert card.ledger.broken_link() is None
    told = kept(card.ledger)
    assert [segment.state for segment in told] == ["acknowledged"] * 20 + ["pending"] * (len(told) - 20)
    np.testing.assert_array_equal(everything(card, card.ledger), played[-sum(each.frames for each in told[20:]) :])
    assert sum(segment.frames for segment in told) == len(played)
    card.ledger.close()
    memory.ledger.close()


def test_a_ledger_in_memory_that_was_only_begun_has_nothing_to_tell(tmp_path: Path) -> None:
    card = WriterRoom(settings(tmp_path / "card"), FakeClock())
    memory = Layout(tmp_path / "memory")
    coming = Homecoming(memory, Kiosk(card, card).home, card.clock)
    for begun in (False, True):
        if begun:
            memory.create()
            memory.ledger.touch()
        assert cuts_for_card(memory, card.clock) == []
        coming.tell()
        assert not coming.step()
    card.end()
