"""What is wrong with a machine is said all at once, and before anything is changed."""

from __future__ import annotations

import pytest

from tests.install.conftest import FIRST, WHO
from tests.install.machine import Machine
from tests.install.test_installing import snapshot

pytestmark = pytest.mark.timeout(600)


def pretend(machine: Machine, program: str, says: str) -> None:
    machine.write(f"usr/local/sbin/{program}", f"#!/bin/sh\n{says}\n", 0o755)


def ubuntu(machine: Machine) -> None:
    machine.write("etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\n')


def old_debian(machine: Machine) -> None:
    machine.write("etc/os-release", 'ID=debian\nVERSION_ID="11"\n')


def programs_for_32_bit(machine: Machine) -> None:
    pretend(machine, "dpkg", "echo armhf")


def full_card(machine: Machine) -> None:
    pretend(machine, "df", "printf 'Filesystem\\n/dev/mmcblk0p2 7000 6900 100 99%% /\\n'")


def missing_package(machine: Machine) -> None:
    pretend(machine, "dpkg-query", 'case "$*" in *python3-venv*) exit 1 ;; esac\nprintf installed')


def broken_stick(machine: Machine) -> None:
    machine.write("root/wheels/SHA256SUMS", f"{'0' * 64}  kiosk_recorder-{FIRST}-py3-none-any.whl\n")
    machine.write(f"root/wheels/kiosk_recorder-{FIRST}-py3-none-any.whl", "half a file")


def others_wheels(machine: Machine) -> None:
    machine.write("root/wheels/kiosk_recorder-9.9.9-py3-none-any.whl", "")


FAULTS = {
    ubuntu: "this is no Debian 12 or 13 (ubuntu 24.04)",
    old_debian: "this is no Debian 12 or 13 (debian 11)",
    programs_for_32_bit: "its programs are for armhf",
    full_card: "only 100 MiB are free for programs",
    missing_package: "Debian packages are missing: python3-venv",
    broken_stick: "aren't those that were put there",
    others_wheels: f"has no wheel of kiosk-recorder {FIRST}",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_machine_that_can_not_be_a_kiosk_is_left_as_it_was(bare: Machine, fault: object) -> None:
    fault(bare)  # type: ignore[operator]
    before = snapshot(bare.changes)
    wheels = ("--wheelhouse", "/root/wheels") if fault in (broken_stick, others_wheels) else ()
    said = bare.install(FIRST, *WHO, *wheels)
    assert said.status == 2
    assert FAULTS[fault] in said.text  # type: ignore[index]
    assert said.text.count("error: ") == 1, said.text
    assert said.text.count("  → ") >= 1
    assert said.nothing_changed
    assert snapshot(bare.changes) == before
    assert bare.told() == []


def test_everything_that_is_wrong_is_said_at_once(bare: Machine) -> None:
    for fault in (ubuntu, programs_for_32_bit, full_card, missing_package):
        fault(bare)
    said = bare.install(FIRST, *WHO)
    assert said.status == 2
    for fault in (ubuntu, programs_for_32_bit, full_card, missing_package):
        assert FAULTS[fault] in said.text


def test_only_root_installs(bare: Machine) -> None:
    said = bare.run("setpriv", "--reuid=nobody", "--clear-groups", "/media/0.1.0/install.sh", *WHO, "--offline")
    assert said.status == 2
    assert "this takes root" in said.text
    assert "--offline has nothing to install from" in said.text, "said at once with the other"


def test_without_a_network_and_without_wheels_there_is_a_way_out(bare: Machine) -> None:
    said = bare.run("unshare", "--net", "/media/0.1.0/install.sh", *WHO)
    assert said.status == 2
    assert "there is no network" in said.text
    assert "--offline --wheelhouse DIR" in said.text


def test_a_clock_that_is_years_behind_is_told_when_certificates_matter(bare: Machine) -> None:
    pretend(bare, "date", '[ "$1" = +%s ] && echo 100000 || echo 1970-01-02')
    said = bare.run("/media/0.1.0/install.sh", *WHO, "--dry-run")
    assert said.status == 2
    assert "the clock says 1970-01-02" in said.text
    assert bare.install(FIRST, *WHO, "--dry-run").status == 0, "offline nobody minds"


def test_a_missing_microphone_is_no_hindrance(bare: Machine) -> None:
    said = bare.install(FIRST, *WHO, "--dry-run")
    assert said.status == 0
    if not bare.file("proc/asound/pcm").exists():
        assert "note: no microphone is connected" in said.text


@pytest.mark.parametrize(
    "arguments", [(), ("--site", "north"), ("--site", "North", "--id", "room-12"), ("--site", "north", "--id", "")]
)
def test_without_a_terminal_nobody_is_asked_and_a_kiosk_without_a_name_is_refused(
    bare: Machine, arguments: tuple[str, ...]
) -> None:
    before = snapshot(bare.changes)
    said = bare.install(FIRST, *arguments)
    assert said.status == 2
    assert "a kiosk needs a site and an id" in said.text
    assert "--site north --id room-12" in said.text
    assert snapshot(bare.changes) == before


def test_a_card_that_is_full_of_the_release_that_is_there_is_large_enough(kiosk: Machine) -> None:
    full_card(kiosk)
    said = kiosk.install(FIRST)
    assert said.status == 0, said.text
    assert said.nothing_changed


def test_a_configuration_that_is_no_toml_is_told_with_the_rest(bare: Machine) -> None:
    full_card(bare)
    bare.write("root/kiosk.toml", "[device]\nsite = north\n")
    said = bare.install(FIRST, "--config", "/root/kiosk.toml")
    assert said.status == 2
    assert "/root/kiosk.toml is no TOML: Invalid value (at line 2, column 8)" in said.text
    assert FAULTS[full_card] in said.text


@pytest.mark.parametrize("mistake", [("--frobnicate",), ("--site",), ("--config", "/nowhere.toml"), ("install",)])
def test_a_mistake_on_the_command_line_is_told_and_nothing_done(bare: Machine, mistake: tuple[str, ...]) -> None:
    said = bare.install(FIRST, *mistake)
    assert said.status == 2
    assert said.text.startswith("error: ")


def test_there_is_nothing_to_upgrade_or_take_back_on_a_bare_machine(bare: Machine) -> None:
    assert bare.install(FIRST, "--upgrade").status == 2
    assert bare.install(FIRST, "--rollback").status == 2
    said = bare.install(FIRST, "--uninstall")
    assert said.status == 0
    assert "nothing to remove" in said.text
