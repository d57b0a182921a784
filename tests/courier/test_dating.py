from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from agent.courier.dating import Dating
from agent.courier.targets import Unreachable
from agent.hours import Hours
from agent.ledger import Boot, Segment
from agent.settings import Capture, Schedule
from agent.units import NS_PER_S, Duration
from tests.clocks import BOOT, FakeClock
from tests.courier.kiosk import Kiosk
from tests.courier.scripted import ScriptedTarget

EARLIER = "e" * 32


@pytest.fixture
def kiosk(tmp_path: Path, clock: FakeClock) -> Kiosk:
    made = Kiosk(tmp_path / "kiosk", clock, clock_state="unsynchronised")
    made.ledger.add_boot(Boot(EARLIER, 0, "unsynchronised"))
    return made


@pytest.fixture
def target() -> ScriptedTarget:
    return ScriptedTarget()


@pytest.fixture
def dating(kiosk: Kiosk, target: ScriptedTarget, clock: FakeClock) -> Dating:
    return Dating(kiosk.ledger, target, kiosk.settings("file:///x", clock_wait=Duration(600)), clock)


def datable(kiosk: Kiosk, dating: Dating, boot: str = BOOT, *, provisional: bool = False) -> bool:
    found = {each.boot: each for each in kiosk.ledger.boots()}[boot]
    return dating.may_date(segment(boot, provisional=provisional), found)


def segment(boot: str = BOOT, *, provisional: bool = False) -> Segment:
    return Segment(
        run="a" * 12,
        seq=0,
        boot=boot,
        begin_ns=100 * NS_PER_S,
        end_ns=160 * NS_PER_S,
        frames=1,
        rate=1,
        channels=1,
        bytes=1,
        meta_bytes=1,
        sha256="",
        provisional=provisional,
    )


def test_recordings_wait_for_the_clock_and_are_dated_once_the_recorder_has_repaired_it(
    kiosk: Kiosk, dating: Dating, clock: FakeClock
) -> None:
    assert not datable(kiosk, dating)
    clock.advance(599)
    assert dating.repair() is None
    assert not datable(kiosk, dating)
    kiosk.ledger.retime(Boot(BOOT, 5, "synchronised"))
    assert datable(kiosk, dating)


def test_after_the_wait_the_stores_clock_repairs_the_boot(
    kiosk: Kiosk, dating: Dating, target: ScriptedTarget, clock: FakeClock
) -> None:
    clock.advance(600)
    target.time = 1_900_000_000 * NS_PER_S
    assert dating.repair() is None
    assert datable(kiosk, dating)
    (here,) = [boot for boot in kiosk.ledger.boots() if boot.boot == BOOT]
    assert here == Boot(BOOT, target.time - clock.monotonic_ns(), "server")


def test_a_store_without_a_clock_leaves_the_times_as_they_are(
    kiosk: Kiosk, dating: Dating, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.advance(600)
    with caplog.at_level(logging.WARNING):
        assert dating.repair() is None
        assert dating.repair() is None
    assert datable(kiosk, dating)
    assert [boot.clock for boot in kiosk.ledger.boots()] == ["unsynchronised", "unsynchronised"]
    assert len(caplog.records) == 1


def test_while_the_store_does_not_answer_nothing_is_decided(
    kiosk: Kiosk, dating: Dating, target: ScriptedTarget, clock: FakeClock
) -> None:
    clock.advance(600)
    target.time = Unreachable("ask", cause="no network")
    assert isinstance(dating.repair(), Unreachable)
    assert dating.repair() is None, "it is asked every second"
    assert target.asked == 1
    assert not datable(kiosk, dating)
    clock.advance(60)
    target.time = 1_900_000_000 * NS_PER_S
    assert dating.repair() is None
    assert datable(kiosk, dating)


def test_an_earlier_boot_that_nobody_can_repair_any_more_need_not_wait(kiosk: Kiosk, dating: Dating) -> None:
    assert datable(kiosk, dating, EARLIER)


@pytest.mark.parametrize(("hours", "wanted"), [("00:00-24:00", True), ("00:00-00:01", False)])
def test_a_provisional_recording_outside_of_the_schedule_is_left_to_the_recorder(
    kiosk: Kiosk,
    target: ScriptedTarget,
    clock: FakeClock,
    hours: str,
    wanted: bool,  # noqa: FBT001
) -> None:
    days = dict.fromkeys(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), (Hours.parse(hours),))
    settings = replace(kiosk.settings("file:///x"), capture=Capture(mode="scheduled"), schedule=Schedule(**days))
    dating = Dating(kiosk.ledger, target, settings, clock)
    kiosk.ledger.retime(Boot(BOOT, 1_800_000_000 * NS_PER_S, "synchronised"))
    assert datable(kiosk, dating, provisional=True) is wanted
    assert datable(kiosk, dating, provisional=False)
