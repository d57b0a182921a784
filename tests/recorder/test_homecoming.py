"""From memory to the card, and whatever may interrupt that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from agent.ledger import Boot, Gap, Ledger, Segment
from agent.recorder import homecoming
from agent.recorder.homecoming import bring_home, carry_home, cuts_for_card
from agent.recorder.root import Root, open_root
from agent.timeline import read
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings

PLAYED = noise(16)

MOMENTS = 30
"""Before and after each copy and each commit of the homecoming below."""


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

    def bring_home(self) -> int:
        return bring_home(self.memory.layout, self.home, self.card.clock)

    def forget_memory(self) -> None:
        """What a power cut does."""
        shutil.rmtree(self.memory.layout.root)

    def start_again(self) -> None:
        """The next process, which brings home what is still in memory, and records."""
        clock, memory = self.card.clock, self.memory.layout
        self.card.ledger.close()
        boot = Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "synchronised")
        with open_root(self.card.settings, clock, boot, cuts_for_card(memory, clock)) as home:
            bring_home(memory, home, clock)
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
    return np.concatenate([room.audio(segment) for segment in kept(ledger)])


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
    bring_home(late.layout, kiosk.home, clock)
    gap = kiosk.card.ledger.gaps()[-1]
    begin_ns = kept(kiosk.card.ledger)[-1].begin_ns
    assert gap == Gap(clock.boot, end_ns, begin_ns, "disk_error")


def moments(act: Callable[[], object], monkeypatch: pytest.MonkeyPatch, cut_at: int) -> int:
    """Do `act`, cut off at the `cut_at`-th moment before or after a copy or a commit; how many there were."""
    passed = 0

    def cutting(original: Callable[..., None]) -> Callable[..., None]:
        def cut(*arguments: object) -> None:
            nonlocal passed
            for act_now in (False, True):
                if act_now:
                    original(*arguments)
                passed += 1
                if passed == cut_at:
                    raise PowerCut

        return cut

    with monkeypatch.context() as patched:
        for name in ("_copy", "_repeat_all"):
            patched.setattr(homecoming, name, cutting(getattr(homecoming, name)))
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
    """Killed, it goes on where it was. After a power cut what was copied is there, and all time up to it is told."""
    with pytest.raises(PowerCut):
        moments(kiosk.bring_home, monkeypatch, cut_at)
    clock = kiosk.card.clock
    if memory_survives:
        kiosk.start_again()
        np.testing.assert_array_equal(everything(kiosk.card, kiosk.card.ledger), PLAYED)
    else:
        kiosk.forget_memory()
        clock.reboot("d" * 32, off_s=60)
        kiosk.start_again()
        recorded = everything(kiosk.card, kiosk.card.ledger)
        np.testing.assert_array_equal(recorded, PLAYED[: len(recorded)])
    kiosk.card.hear(noise(2, seed=5))
    assert read(kiosk.card.ledger).faults == []
    assert kiosk.card.ledger.broken_link() is None


def test_all_moments_of_a_homecoming_are_cut(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert moments(kiosk.bring_home, monkeypatch, 0) == MOMENTS


def test_carrying_home_may_begin_while_memory_is_still_written(kiosk: Kiosk) -> None:
    carry_home(kiosk.memory.layout, kiosk.home, kiosk.card.clock)
    more = WriterRoom(kiosk.memory.settings, kiosk.card.clock, kiosk.memory.ring, kiosk.memory.writer.succession())
    more.hear(noise(3, seed=9))
    more.writer.leave()
    assert not more.writer.step()
    more.ledger.close()
    kiosk.bring_home()
    np.testing.assert_array_equal(everything(kiosk.card, kiosk.card.ledger), np.concatenate([PLAYED, noise(3, seed=9)]))
    assert read(kiosk.card.ledger).faults == []
