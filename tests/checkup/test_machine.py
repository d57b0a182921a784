"""What the Pi tells, from trees of /proc and /sys of real ones."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.checkup import clock, machine, software
from agent.checkup.machine import power, swap, temperature
from agent.checkup.visit import Visit
from agent.contract.flags import FLAGS
from agent.limits import Alerts
from agent.settings import Gpio
from agent.status import RecorderStatus, write_status
from hw.board import Board
from hw.clock import time_services
from hw.gpio import Button
from hw.memory import Memory, Swap
from tests.checkup.kiosk import found, kiosk, verdicts, visit
from tests.clocks import FakeClock
from tests.hw.trees import TOP


def test_what_a_machine_does_not_tell_is_grey(tmp_path: Path) -> None:
    assert verdicts(found(machine.look, visit(kiosk(tmp_path), root=tmp_path))) == dict.fromkeys(
        ("temperature", "power supply", "swap", "memory"), "grey"
    )


def with_pins(root: Path, **changes: object) -> Visit:
    settings = replace(kiosk(root), gpio=Gpio(led=17, button=27))
    return visit(settings, FakeClock(), root=root, **changes)


@pytest.mark.usefixtures("pins")
def test_a_button_and_a_light_that_can_be_taken_are_good_and_given_back(tmp_path: Path) -> None:
    checked = with_pins(tmp_path)
    for _ in range(2):
        finding = found(machine.look, checked)["button and light"]
        assert (finding.verdict, finding.text) == (
            "green",
            "GPIO 17 for the light and GPIO 27 for the button can be used",
        )


@pytest.mark.usefixtures("pins")
def test_a_pin_that_another_program_has_is_red(tmp_path: Path) -> None:
    button = Button(27, tmp_path, lambda: None, lambda: None)
    finding = found(machine.look, with_pins(tmp_path))["button and light"]
    assert (finding.verdict, "GPIO 27" in finding.text) == ("red", True)
    button.close()


def test_without_a_library_that_reaches_the_pins_it_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    finding = found(machine.look, with_pins(tmp_path))["button and light"]
    assert (finding.verdict, "no library reaches the pins" in finding.text) == ("red", True)


def test_while_the_recorder_has_the_pins_its_word_counts(tmp_path: Path) -> None:
    checked = with_pins(tmp_path, recorder_pid=7)
    assert found(machine.look, checked)["button and light"].verdict == "grey"
    checked.runtime.mkdir()
    picture = RecorderStatus(pid=7, boot=checked.clock.boot, state="recording", since_ns=0, updated_ns=0)
    for told, verdict, way_out in (("", "green", ""), ("use pin GPIO 17: busy\n  → free it", "red", "free it")):
        write_status(checked.runtime, replace(picture, pins=told))
        finding = found(machine.look, checked)["button and light"]
        assert (finding.verdict, finding.way_out) == (verdict, way_out)


def test_a_pi_with_a_thin_cable_is_red(tmp_path: Path) -> None:
    findings = found(machine.look, visit(kiosk(tmp_path), root=TOP / "pi3"))
    assert verdicts(findings) == {
        "temperature": "green",
        "power supply": "red",
        "swap": "yellow",
        "memory": "green",
    }
    assert "short cable" in findings["power supply"].way_out


@pytest.mark.parametrize(("degrees", "verdict"), [(48.2, "green"), (80.0, "green"), (81.0, "yellow"), (86.0, "red")])
def test_a_hot_processor_is_judged_by_the_alert_s_limits(degrees: float, verdict: str) -> None:
    assert temperature(Board(degrees, None, None), Alerts()).verdict == verdict


@pytest.mark.parametrize(
    ("board", "verdict"),
    [
        (Board(None, None, None), "grey"),
        (Board(None, False, None), "green"),
        (Board(None, False, 0), "green"),
        (Board(None, False, 0x50000), "yellow"),
        (Board(None, True, 0x50005), "red"),
    ],
)
def test_a_power_supply_is_judged_by_alarm_and_firmware(board: Board, verdict: str) -> None:
    assert power(board).verdict == verdict


def memory(*swaps: Swap) -> Memory:
    return Memory(1 << 30, 1 << 29, None, swaps)


def test_swap_to_the_card_is_red_where_recordings_are_sealed() -> None:
    on_card = Swap("/var/swap", "disk", 100 << 20, 0)
    zram = Swap("/dev/zram0", "memory", 100 << 20, 0)
    assert swap(memory(on_card), sealed=True).verdict == "red"
    assert swap(memory(on_card, zram), sealed=True).verdict == "red"
    assert swap(memory(on_card), sealed=False).verdict == "yellow"
    assert swap(memory(zram), sealed=True).verdict == "green"
    assert swap(memory(), sealed=True).verdict == "green"


def with_processes(root: Path, *names: str) -> Path:
    for number, name in enumerate(names, 100):
        (root / "proc" / str(number)).mkdir(parents=True)
        (root / "proc" / str(number) / "comm").write_text(f"{name}\n")
    return root


def test_the_clock_is_judged_by_whether_anything_sets_it(tmp_path: Path) -> None:
    disciplined = with_processes(tmp_path, "bash", "systemd-timesyn")
    assert time_services(disciplined) == ["systemd-timesyncd"]
    right, wrong = FakeClock(), FakeClock()
    wrong.is_synchronised = False
    settings = kiosk(tmp_path)

    def verdict(clock_of: FakeClock, root: Path) -> str:
        return found(clock.look, visit(settings, clock_of, root=root))["synchronised"].verdict

    assert verdict(right, disciplined) == "green"
    assert verdict(wrong, disciplined) == "yellow"
    assert verdict(wrong, tmp_path / "bare") == "red"


@pytest.mark.parametrize(("ahead_s", "verdict"), [(0.4, "green"), (-4, "green"), (60, "yellow"), (-1000, "red")])
def test_the_store_s_clock_is_held_against_it(tmp_path: Path, ahead_s: float, verdict: str) -> None:
    checked = visit(kiosk(tmp_path), FakeClock(), store_ahead_s=ahead_s)
    assert found(clock.look, checked)["store's clock"].verdict == verdict


def test_a_flag_that_the_environment_chooses_is_yellow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(software.look, visit(kiosk(tmp_path)))["flags"].verdict == "green"
    monkeypatch.setenv(FLAGS["offline_recording"].variable, "off")
    finding = found(software.look, visit(kiosk(tmp_path)))["flags"]
    assert finding.verdict == "yellow"
    assert "here offline_recording is off, whatever the fleet chooses" in finding.text


def test_a_flag_that_does_not_exist_is_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIOSK_RECORDER_FLAG_OFLINE_RECORDING", "off")
    assert found(software.look, visit(kiosk(tmp_path)))["flags"].verdict == "red"


def test_what_a_clinic_should_not_leave_open_is_yellow(tmp_path: Path) -> None:
    findings = found(software.look, visit(kiosk(tmp_path)))
    assert findings["admin keys"].verdict == findings["flag keys"].verdict == "yellow"
    settings = kiosk(tmp_path)
    key = "ed25519:" + "A" * 43
    closed = replace(
        settings,
        commands=replace(settings.commands, admin_keys=(key,)),
        flags=replace(settings.flags, keys=(key,)),
    )
    findings = found(software.look, visit(closed))
    assert findings["admin keys"].verdict == findings["flag keys"].verdict == "green"


def test_services_that_do_not_run_are_yellow_and_those_that_do_are_good(tmp_path: Path) -> None:
    assert found(software.look, visit(kiosk(tmp_path)))["recorder"].verdict != "green"
    assert found(software.look, visit(kiosk(tmp_path), recorder_pid=7))["recorder"].text.startswith("runs (process 7)")
