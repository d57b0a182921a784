"""Which path recordings take, and what a switch between them must not cost: everything is heard once, in its place.

The card's and the direct writer's threads are real, on two directories; the clock and the audio are the test's.
"""

from __future__ import annotations

import errno
import itertools
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pytest
import soundfile

from agent.ledger import Boot, ClockState, Gap, Ledger, Segment
from agent.recorder.detour import trouble
from agent.recorder.encryption import Recipients
from agent.recorder.erasing import Erasure
from agent.recorder.homecoming import Homecoming
from agent.recorder.paths import Paths
from agent.recorder.retention import Retention
from agent.recorder.ring import Ring
from agent.recorder.root import Root
from agent.recorder.segment import SegmentWriter
from agent.recorder.succession import Succession
from agent.recorder.turns import Turns
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.settings import Capture, Settings
from agent.spool import Layout
from agent.timeline import read
from agent.units import NS_PER_S, Frames, Nanoseconds, Size
from hw.alsa import Block
from tests.choices import write_variants
from tests.clocks import FakeClock
from tests.recorder.room import RATE, noise, settings
from tests.recorder.test_erasing import noting_places
from tests.soundcard import eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAYED = noise(400)

BOTH_WAYS = ["off", "on"]


class PatientClock(FakeClock):
    """Whoever waits, waits for the event: time passes when the test says so. What is rare is frequent."""

    longest_s = 0.02
    """Real time."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(min(seconds, self.longest_s))


class Kiosk:
    """The recorder without its microphone. Use as a context manager: no thread outlives it."""

    def __init__(self, root: Path, clock: PatientClock, chosen: Settings | None = None) -> None:
        self.root = root
        self.clock = clock
        self.settings = chosen or settings(root / "card", direct_cap=Size(4 << 20))
        self.heard_s = 0
        self._failure: BaseException | None = None
        self._begin()

    @property
    def card(self) -> Layout:
        return Layout(self.settings.spool.path)

    @property
    def memory(self) -> Layout:
        return Layout(self.root / "run" / "direct")

    def _begin(self) -> None:
        self.stop = threading.Event()
        self.ring = Ring(30 * self.settings.capture.rate)
        self.vitals = Vitals()
        clock = self.clock
        known: ClockState = "synchronised" if clock.is_synchronised else "unsynchronised"
        self.vitals.boot = Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), known)
        (self.root / "run").mkdir(exist_ok=True)
        self.paths = Paths(
            self.settings,
            self.ring,
            clock,
            self.vitals,
            Recipients(self.settings.seal.recipients),
            self.root / "run",
            self.stop,
            lambda: None,
        )
        self.paths.lock()
        self._thread = threading.Thread(target=self._guarded, name="card")
        self._thread.start()

    def _guarded(self) -> None:
        try:
            self.paths.run()
        except BaseException as error:  # noqa: BLE001 (raised by `end`)
            self._failure = error

    def choose(self, variant: str) -> None:
        """As the courier does; returns once recordings go there."""
        write_variants(self.root / "run", self.card.state, {"offline_recording": variant})
        self.arrived(variant)

    def arrived(self, variant: str) -> None:
        path = "direct" if variant == "off" else "spool"
        self.paths.look()
        eventually(lambda: self.paths.path == path, f"recordings go to {path}")

    def hear(self, seconds: int, *, silent: bool = False) -> None:
        """What is played next, second by second; returns once it was taken."""
        rate = self.settings.capture.rate
        for _ in range(seconds):
            pcm = PLAYED[self.heard_s * rate : (self.heard_s + 1) * rate]
            self.heard_s += 1
            self.clock.advance(1)
            data = bytes(2 * rate) if silent else pcm.tobytes()
            self.ring.put(Block(data, Frames(rate), Nanoseconds(self.clock.monotonic_ns())))
            eventually(lambda: self.ring.frames == 0, "the writer takes it")

    def end(self) -> None:
        self.stop.set()
        self.ring.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def start_again(self, *, off_s: float = 0) -> None:
        """The next process; with `off_s` after a power cut, which memory doesn't survive."""
        self.clock.advance(2)
        if off_s:
            shutil.rmtree(self.root / "run")
            self.clock.reboot(f"{self.heard_s:032x}", off_s=off_s)
        self._begin()

    def stands_still(self) -> bool:
        """Whether the spool is full and nothing is recorded."""
        return self.vitals.storage == "spool_full"

    def ledger(self) -> Ledger:
        return Ledger(self.card.ledger, self.clock, read_only=True)

    def segments(self) -> list[Segment]:
        with self.ledger() as ledger:
            return list(ledger.segments())

    def gaps(self) -> list[Gap]:
        with self.ledger() as ledger:
            return ledger.gaps()

    def in_memory(self) -> int:
        return len(list(self.memory.sealed.glob("*.flac")))

    def recorded(self) -> NDArray[np.int16]:
        """What is on the card, in the ledger's order."""
        return np.concatenate([self._decoded(segment) for segment in self.segments() if segment.present])

    def _decoded(self, segment: Segment) -> NDArray[np.int16]:
        samples, _ = soundfile.read(self.card.audio(segment.name), dtype="int16", always_2d=True)
        return np.asarray(samples, np.int16)

    def assert_all_is_there(self) -> None:
        np.testing.assert_array_equal(self.recorded(), PLAYED[: self.heard_s * RATE])
        assert not self.in_memory()
        self.assert_time_is_told()

    def assert_time_is_told(self) -> None:
        with self.ledger() as ledger:
            assert read(ledger).faults == []
            assert ledger.broken_link() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.ring.close()
        self._thread.join(20)


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    with Kiosk(tmp_path, PatientClock()) as kiosk:
        yield kiosk


def card_fails(monkeypatch: pytest.MonkeyPatch, below: Path) -> Callable[[], None]:
    """Whatever is synced below there is answered EIO, until the returned function is called."""
    sync, seal = SegmentWriter.sync, SegmentWriter.seal
    failing = True

    def refused(writer: SegmentWriter) -> None:
        if failing and writer._layout.root.is_relative_to(below):  # noqa: SLF001 (which card it is)
            raise OSError(errno.EIO, "Input/output error")

    def failing_sync(self: SegmentWriter) -> bool:
        refused(self)
        return sync(self)

    def failing_seal(self: SegmentWriter, *, end_ns: int) -> Segment:
        refused(self)
        return seal(self, end_ns=end_ns)

    monkeypatch.setattr(SegmentWriter, "sync", failing_sync)
    monkeypatch.setattr(SegmentWriter, "seal", failing_seal)

    def repair() -> None:
        nonlocal failing
        failing = False

    return repair


# The decision.


@pytest.mark.parametrize(
    ("card", "memory", "direct_chosen", "told"),
    [
        ("", "", False, ""),
        ("", "", True, ""),
        ("EIO", "", False, "don't go to the card but to memory"),
        ("EIO", "", True, ""),
        ("", "full", False, ""),
        ("", "full", True, "go to the card although memory is chosen"),
        ("EIO", "full", False, "don't go to the card but to memory"),
        ("EIO", "full", True, "go to the card although memory is chosen"),
    ],
)
def test_only_a_path_that_was_not_chosen_is_a_trouble(
    card: str, memory: str, *, direct_chosen: bool, told: str
) -> None:
    text = trouble(card, memory, direct_chosen=direct_chosen)
    assert (told in text) if told else text == ""


# Switching.


@pytest.mark.parametrize("seconds", [1, 3, 7])
def test_a_switch_there_and_back_costs_no_frame_and_opens_no_gap(kiosk: Kiosk, seconds: int) -> None:
    for variant in BOTH_WAYS * 3:
        kiosk.hear(seconds)
        kiosk.choose(variant)
        assert kiosk.paths.trouble == ""
    kiosk.hear(seconds)
    kiosk.end()
    kiosk.assert_all_is_there()
    assert {gap.reason for gap in kiosk.gaps()} <= {"restart"}
    assert not list(kiosk.card.quarantine.iterdir())


def test_one_that_waits_for_audio_in_vain_is_woken_for_a_switch(kiosk: Kiosk, caplog: pytest.LogCaptureFixture) -> None:
    kiosk.hear(1)
    kiosk.clock.longest_s = waiting_s = 3600
    for variant in BOTH_WAYS * 5:
        # Nothing is heard, and no turn would come for long.
        kiosk.ring.take = _patient(kiosk.ring, waiting_s)  # type: ignore[method-assign, assignment]
        kiosk.choose(variant)
    kiosk.ring.close()
    kiosk.end()
    assert not [record.message for record in caplog.records if record.levelname == "ERROR"]
    kiosk.assert_all_is_there()


def _patient(ring: Ring, seconds: float) -> Callable[..., object]:
    return lambda frames, _timeout_s, holder=None: Ring.take(ring, frames, seconds, holder)


def test_what_lies_in_memory_comes_to_the_card_while_that_is_written(kiosk: Kiosk) -> None:
    kiosk.choose("off")
    kiosk.hear(9)
    assert kiosk.in_memory() == 4
    kiosk.choose("on")
    left = [kiosk.in_memory()]
    while left[-1]:
        kiosk.hear(1)
        left.append(kiosk.in_memory())
    went = [sooner - later for sooner, later in itertools.pairwise(left)]
    assert max(went) <= 2, "one in a turn, and being woken made a turn, too"
    kiosk.hear(3)
    kiosk.end()
    kiosk.assert_all_is_there()


def test_the_account_is_on_the_card_before_its_writer_goes_on(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut right after the switch back finds all time told, and says what is lost with memory."""
    step, begun, looked = Homecoming.step, threading.Event(), threading.Event()

    def stepping(homecoming: Homecoming) -> bool:
        # The card's writer goes on. Files come home one a turn: not before it was seen what is told without them.
        begun.set()
        return step(homecoming) if looked.is_set() else True

    monkeypatch.setattr(Homecoming, "step", stepping)
    kiosk.hear(3)
    kiosk.choose("off")
    kiosk.hear(8)
    begun.clear()
    kiosk.choose("on")
    assert begun.wait(30)
    kiosk.assert_time_is_told()
    with kiosk.ledger() as ledger:
        told = list(ledger.segments())
    looked.set()
    assert sum(segment.seconds for segment in told) == 11
    assert any(not segment.present for segment in told)
    kiosk.end()
    kiosk.assert_all_is_there()


def test_the_next_writer_begins_where_its_own_ledger_ends(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens from its first turn on is entered in order."""
    make, meet = Turns.writer, list[bool]()

    def checked(turns: Turns, root: Root, succession: Succession | None) -> Writer:
        if root.layout.root == kiosk.card.root and succession is not None and succession.accounted is not None:
            meet.append(root.ledger.last_end() == (succession.accounted.boot, succession.accounted.end_ns))
        return make(turns, root, succession)

    monkeypatch.setattr(Turns, "writer", checked)
    for variant in BOTH_WAYS * 3:
        kiosk.hear(3)
        kiosk.choose(variant)
    kiosk.end()
    assert meet == [True] * 3


def test_a_card_that_fails_again_while_it_is_looked_after_is_told_again(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tidy, tidied = Retention.tidy, threading.Event()
    failing = False

    def tidying(retention: Retention) -> None:
        if failing and threading.current_thread().name == "card":
            raise OSError(errno.EIO, "Input/output error")
        tidy(retention)
        tidied.set()

    monkeypatch.setattr(Retention, "tidy", tidying)
    kiosk.choose("off")
    for times in (1, 2):
        failing = True
        eventually(lambda: caplog.text.count("recordings go to memory anyway") == times, "it is said")  # noqa: B023
        failing = False
        tidied.clear()
        eventually(tidied.is_set, "it is looked after")
        tidied.clear()
        eventually(tidied.is_set, "and goes on being so")
    kiosk.choose("on")
    kiosk.hear(2)
    kiosk.end()
    kiosk.assert_all_is_there()


def test_a_restart_while_memory_is_chosen_loses_nothing_and_begins_there(kiosk: Kiosk) -> None:
    kiosk.hear(3)
    kiosk.choose("off")
    kiosk.hear(5)
    kiosk.end()
    kiosk.assert_all_is_there()
    on_card = len(kiosk.segments())
    kiosk.start_again()
    kiosk.arrived("off")
    kiosk.hear(6)
    eventually(lambda: kiosk.in_memory() == 3, "the last one is sealed")
    assert len([segment for segment in kiosk.segments() if segment.present]) == on_card, "not one went to the card"
    kiosk.end()
    kiosk.assert_all_is_there()
    assert {gap.reason for gap in kiosk.gaps()} == {"restart"}


def test_the_first_start_of_all_may_be_into_memory_and_the_card_has_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "card" / "state").mkdir(parents=True)
    write_variants(tmp_path / "run", tmp_path / "card" / "state", {"offline_recording": "off"})
    shutil.rmtree(tmp_path / "run")
    with Kiosk(tmp_path, PatientClock()) as kiosk:
        kiosk.arrived("off")
        assert kiosk.card.ledger.exists()
        kiosk.hear(4)
        assert not list(kiosk.card.sealed.iterdir())
        kiosk.choose("on")
        kiosk.end()
        kiosk.assert_all_is_there()


def test_a_power_cut_while_memory_is_chosen_costs_what_was_there_and_no_account(kiosk: Kiosk) -> None:
    kiosk.hear(3)
    kiosk.choose("off")
    kiosk.hear(4)
    lost_s = 4
    shutil.copytree(kiosk.root / "card", kiosk.root / "card as the power went")
    kiosk.end()
    shutil.rmtree(kiosk.root / "card")
    (kiosk.root / "card as the power went").rename(kiosk.root / "card")
    kiosk.start_again(off_s=60)
    kiosk.hear(3)
    kiosk.end()
    kiosk.assert_time_is_told()
    np.testing.assert_array_equal(
        kiosk.recorded(), np.concatenate([PLAYED[: 3 * RATE], PLAYED[(3 + lost_s) * RATE : (6 + lost_s) * RATE]])
    )
    gaps = [gap for gap in kiosk.gaps() if gap.previous_boot]
    assert [gap.reason for gap in gaps] == ["power_off"]


def test_a_clock_that_becomes_right_is_entered_on_the_card_while_memory_is_chosen(tmp_path: Path) -> None:
    """What waits there for its upload waits for that."""
    clock = PatientClock()
    clock.is_synchronised = False
    with Kiosk(tmp_path, clock) as kiosk:
        kiosk.hear(3)
        kiosk.choose("off")
        kiosk.hear(3)

        def known() -> str:
            with kiosk.ledger() as ledger:
                return ledger.boots()[-1].clock

        assert known() == "unsynchronised"
        clock.is_synchronised = True
        eventually(lambda: known() == "synchronised", "the card knows")
        kiosk.end()
        kiosk.assert_all_is_there()


def test_a_card_that_fails_while_memory_is_chosen_is_no_trouble_until_it_is_wanted(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kiosk.hear(3)
    repair = card_fails(monkeypatch, kiosk.card.root)
    kiosk.choose("off")
    eventually(lambda: "recordings go to memory anyway" in caplog.text, "it is said")
    kiosk.hear(5)
    assert kiosk.paths.trouble == ""
    assert caplog.text.count("recordings go to memory anyway") == 1
    repair()
    kiosk.choose("on")
    kiosk.hear(3)
    assert kiosk.paths.trouble == ""
    kiosk.end()
    kiosk.assert_all_is_there()


def test_memory_that_can_not_be_written_although_it_is_chosen_sends_recordings_to_the_card(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = card_fails(monkeypatch, kiosk.memory.root)
    kiosk.hear(2)
    write_variants(kiosk.root / "run", kiosk.card.state, {"offline_recording": "off"})
    kiosk.hear(6)
    eventually(lambda: "although memory is chosen" in kiosk.paths.trouble, "it says so")
    eventually(lambda: kiosk.paths.path == "spool", "they go to the card")
    kiosk.hear(5)
    repair()
    kiosk.clock.advance(60)
    kiosk.hear(1)
    eventually(lambda: kiosk.paths.path == "direct" and not kiosk.paths.trouble, "memory is tried again")
    kiosk.hear(3)
    kiosk.end()
    np.testing.assert_array_equal(kiosk.recorded(), PLAYED[: kiosk.heard_s * RATE])


def test_what_is_erased_while_memory_is_chosen_goes_there_first_and_recording_goes_on(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the order forgotten before, a kill in between would bring the recording home."""
    places = noting_places(monkeypatch)
    kiosk.hear(3)
    kiosk.choose("off")
    kiosk.hear(3)
    with kiosk.ledger() as ledger:
        now_ns = ledger.now_ns()
    erasure = Erasure("ab" * 8, now_ns - 3600 * NS_PER_S, now_ns + NS_PER_S, "asked by the patient")
    kiosk.paths.erasures.order(erasure)
    kiosk.hear(2)
    eventually(lambda: erasure.id in kiosk.paths.erasures.done, "it is carried out")
    assert places == [kiosk.memory.root, kiosk.card.root]
    erased = {str(segment.name) for segment in kiosk.segments() if segment.state == "erased"}
    assert not erased & {path.name.partition(".")[0] for path in kiosk.memory.sealed.iterdir()}
    kiosk.hear(4)
    kiosk.end()
    assert {segment.state for segment in kiosk.segments()} == {"erased", "pending"}
    erased_s = sum(segment.seconds for segment in kiosk.segments() if segment.state == "erased")
    np.testing.assert_array_equal(kiosk.recorded(), PLAYED[round(erased_s) * RATE : kiosk.heard_s * RATE])
    kiosk.assert_time_is_told()


def test_a_writer_in_memory_that_dies_is_noticed(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever looks after it: then the process ends, and is started again."""
    take = Turns.take

    def dying(turns: Turns, root: Root, writer: Writer, *between: Callable[[], None]) -> None:
        if root.layout.root == kiosk.memory.root:
            raise LookupError("a mistake of ours")
        take(turns, root, writer, *between)

    monkeypatch.setattr(Turns, "take", dying)
    kiosk.hear(2)
    kiosk.choose("off")

    def noticed() -> bool:
        try:
            kiosk.paths.watch()
        except LookupError:
            return True
        return False

    eventually(noticed, "the main thread hears of it")
    with pytest.raises(LookupError, match="a mistake of ours"):
        kiosk.end()


def test_a_full_spool_that_stops_is_gone_round_by_choice(tmp_path: Path) -> None:
    small = settings(tmp_path / "card", when_full="stop", segment_seconds=2, direct_cap=Size(4 << 20))
    cap = Size(3 * small.segment_reserve_bytes)
    small = replace(small, spool=replace(small.spool, cap=cap, quarantine_cap=Size(0)))
    with Kiosk(tmp_path, PatientClock(), small) as kiosk:
        while not kiosk.stands_still():
            kiosk.hear(1)
        stopped_s = kiosk.heard_s
        kiosk.choose("off")
        kiosk.hear(4)
        assert not kiosk.stands_still()
        write_variants(kiosk.root / "run", kiosk.card.state, {"offline_recording": "on"})
        kiosk.hear(2)
        eventually(lambda: "no room for another recording" in kiosk.paths.trouble, "it stays, and says why")
        kiosk.end()
        assert kiosk.in_memory() == 3
        kiosk.settings = replace(small, spool=replace(small.spool, cap=Size(2 * cap)))
        kiosk.start_again()
        kiosk.hear(1)
        kiosk.end()
        kiosk.assert_time_is_told()
        (full,) = (gap for gap in kiosk.gaps() if gap.reason == "spool_full")
        missed_s = (full.end_ns - full.begin_ns) // 10**9
        assert missed_s <= 2
        played = np.concatenate([PLAYED[: (stopped_s - missed_s) * RATE], PLAYED[stopped_s * RATE :]])
        np.testing.assert_array_equal(kiosk.recorded(), played[: (kiosk.heard_s - missed_s) * RATE])


def test_in_voice_mode_what_was_heard_before_somebody_spoke_survives_a_switch(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "card", capture=Capture(rate=RATE, mode="voice"), direct_cap=Size(4 << 20))
    with Kiosk(tmp_path, PatientClock(), chosen) as kiosk:
        kiosk.hear(6, silent=True)
        kiosk.choose("off")
        kiosk.hear(3)
        kiosk.choose("on")
        kiosk.hear(3)
        kiosk.end()
        kiosk.assert_time_is_told()
        recorded = kiosk.recorded()
        np.testing.assert_array_equal(recorded[-6 * RATE :], PLAYED[6 * RATE : 12 * RATE])
        before = len(recorded) / RATE - 6
        assert 2 <= before <= 3.2, "the pre-roll came along"


def test_a_switch_that_goes_to_and_fro_before_it_is_made_is_no_switch(kiosk: Kiosk) -> None:
    kiosk.hear(2)
    for variant in BOTH_WAYS * 20:
        write_variants(kiosk.root / "run", kiosk.card.state, {"offline_recording": variant})
        kiosk.paths.look()
    kiosk.arrived("on")
    kiosk.hear(2)
    kiosk.end()
    kiosk.assert_all_is_there()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_comes_while_paths_are_switched_at_random_all_is_heard(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Choices, restarts and a failing card in any order; then all comes to the card."""
    chance = random.Random(seed)
    repair: Callable[[], None] = lambda: None  # noqa: E731
    for _ in range(25):
        event = chance.choice(["hear", "hear", "on", "off", "off", "flutter", "restart", "fail", "repair"])
        if event == "hear":
            kiosk.hear(chance.randrange(1, 5))
        elif event in BOTH_WAYS:
            write_variants(kiosk.root / "run", kiosk.card.state, {"offline_recording": event})
        elif event == "flutter":
            for variant in chance.choices(BOTH_WAYS, k=4):
                write_variants(kiosk.root / "run", kiosk.card.state, {"offline_recording": variant})
                kiosk.paths.look()
        elif event == "restart":
            kiosk.end()
            kiosk.start_again()
        elif event == "fail":
            monkeypatch.undo()
            repair = card_fails(monkeypatch, kiosk.card.root)
        else:
            repair()
    repair()
    kiosk.choose("on")
    kiosk.hear(2)
    kiosk.end()
    kiosk.assert_all_is_there()
    assert {gap.reason for gap in kiosk.gaps()} <= {"restart"}
