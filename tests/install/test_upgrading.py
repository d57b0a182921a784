"""Releases come, are judged, and go: one of them always works, wherever the power is cut."""

from __future__ import annotations

import pytest

from tests.install.conftest import FIRST, SECOND, WHO
from tests.install.machine import CHANGING, ETC, OPT, SPOOL, Machine, Workshop, installation
from tests.install.test_installing import snapshot

pytestmark = pytest.mark.timeout(900)

TRIAL = f"/{OPT}/trial"

THE_NEXT_START_JUDGES = ["/opt/kiosk-recorder/previous/install.sh", "--judge", "--health-seconds", "1"]
"""What kiosk-trial.service does."""


def works(machine: Machine) -> str:
    """Which release the machine would start with now, having seen that it's whole and that its units are there."""
    version = machine.release()
    assert version is not None, "there is a current release"
    assert machine.file(OPT / "releases" / version / "complete").exists()
    assert machine.run(f"/{OPT}/current/venv/bin/kiosk-recorder", "--version").text.split()[-1] == version
    for unit in ("kiosk-recorder.service", "kiosk-courier.service"):
        assert machine.run("test", "-s", f"/etc/systemd/system/{unit}").status == 0
        assert machine.run("test", "-s", f"/etc/systemd/system/multi-user.target.wants/{unit}").status == 0
    assert machine.run("test", "-s", f"/{ETC}/config.toml").status == 0
    return version


@pytest.fixture(scope="module")
def built(workshop: Workshop, media: object, installed: Machine) -> Machine:
    """A kiosk on which an upgrade was cut short when the new release had just been built."""
    with Machine(workshop, media, installed) as machine:  # type: ignore[arg-type]
        assert machine.cut_power(1, *installation(SECOND), functions="move_on_to")
        assert machine.file(OPT / "releases" / SECOND / "complete").exists()
    return machine


@pytest.fixture
def ready(workshop: Workshop, media: object, installed: Machine, built: Machine) -> object:
    with Machine(workshop, media, built, installed) as machine:  # type: ignore[arg-type]
        yield machine


def test_a_release_that_lives_is_kept_and_the_one_before_it_too(ready: Machine) -> None:
    said = ready.install(SECOND, "--upgrade")
    assert said.status == 0, said.text
    assert f"Release {SECOND} records" in said.text
    assert (works(ready), ready.release("previous")) == (SECOND, FIRST)
    assert ready.run("test", "-e", TRIAL).status == 1
    assert ready.install(SECOND, "--upgrade").nothing_changed


def test_a_release_that_does_not_live_gives_way_to_the_one_before(ready: Machine) -> None:
    ready.is_broken(SECOND)
    said = ready.install(SECOND, "--upgrade")
    assert said.status == 1
    assert f"release {SECOND} doesn't live: back to {FIRST}" in said.text
    assert works(ready) == FIRST
    assert ready.run("test", "-e", TRIAL).status == 1
    restarts = [told for told in ready.told() if told.startswith("restart")]
    assert len(restarts) == 2, "each release was started once"


def test_a_step_back_and_forward_again(ready: Machine) -> None:
    assert ready.install(SECOND).status == 0
    back = ready.run(f"/{OPT}/current/install.sh", "--rollback")
    assert back.status == 0, back.text
    assert (works(ready), ready.release("previous")) == (FIRST, SECOND)
    forward = ready.run(f"/{OPT}/current/install.sh", "--rollback")
    assert forward.status == 0, forward.text
    assert (works(ready), ready.release("previous")) == (SECOND, FIRST)


def test_what_a_dry_run_of_an_upgrade_says_it_does_not_do(ready: Machine) -> None:
    before = snapshot(ready.changes)
    said = ready.install(SECOND, "--upgrade", "--dry-run")
    assert said.status == 0, said.text
    assert f"would link /{OPT}/current to releases/{SECOND}" in said.text
    assert snapshot(ready.changes) == before


def test_recordings_and_configuration_outlive_the_recorder(kiosk: Machine) -> None:
    recording = f"{SPOOL}/spool/sealed/0123456789ab-000000.flac"
    kiosk.write(recording, "a morning")
    said = kiosk.install(FIRST, "--uninstall")
    assert said.status == 0, said.text
    assert kiosk.file(recording).read_text() == "a morning"
    assert kiosk.file(ETC / "config.toml").exists()
    assert not kiosk.file(OPT).exists()
    for left in (
        "etc/systemd/system/kiosk-recorder.service",
        "usr/local/bin/kiosk-recorder",
        "etc/udev/rules.d/85-kiosk-recorder.rules",
    ):
        assert not kiosk.file(left).is_symlink()
    assert "stop kiosk-recorder.service kiosk-courier.service" in kiosk.told()
    again = kiosk.install(FIRST, "--uninstall")
    assert "nothing to remove" in again.text


def test_recordings_are_deleted_only_when_that_was_said_twice(kiosk: Machine) -> None:
    recording = f"{SPOOL}/spool/sealed/0123456789ab-000000.flac"
    kiosk.write(recording, "a morning")
    before = snapshot(kiosk.changes)
    refused = kiosk.install(FIRST, "--uninstall", "--purge")
    assert refused.status == 2
    assert "deletes 1 recordings" in refused.text
    assert snapshot(kiosk.changes) == before
    assert kiosk.install(FIRST, "--uninstall", "--purge", "--delete-recordings").status == 0
    assert not kiosk.file(SPOOL).exists()
    assert not kiosk.file(ETC).exists()


def test_a_flag_that_deletes_recordings_alone_deletes_nothing(kiosk: Machine) -> None:
    kiosk.write(f"{SPOOL}/spool/sealed/0123456789ab-000000.flac", "a morning")
    assert kiosk.install(FIRST, "--uninstall", "--delete-recordings").status == 0
    assert kiosk.file(f"{SPOOL}/spool/sealed/0123456789ab-000000.flac").exists()


# Power cuts. The commands of the functions that change something are counted; before each the power may go.


def cut_everywhere(
    workshop: Workshop, media: object, layers: list[Machine], command: list[str], functions: str, stride: int = 1
) -> object:
    """Machines on which `command` was cut short, each one at another place, until it runs through."""
    at = 1
    while True:
        with Machine(workshop, media, *layers) as machine:  # type: ignore[arg-type]
            cut = machine.cut_power(at, *command, functions=functions)
            yield machine, at
            if not cut:
                return
        at += stride


def test_a_power_cut_while_a_release_is_built_leaves_the_old_one(
    workshop: Workshop, media: object, installed: Machine
) -> None:
    for machine, _ in cut_everywhere(workshop, media, [installed], installation(SECOND), "make_release", stride=4):  # type: ignore[attr-defined]
        if machine.release() == SECOND:
            return
        assert works(machine) == FIRST
        if not machine.file(OPT / "releases" / SECOND / "complete").exists():
            assert machine.run("test", "-e", TRIAL).status == 1


@pytest.mark.parametrize("second_lives", [True, False])
def test_a_power_cut_while_releases_are_switched_leaves_one_that_works(
    workshop: Workshop, media: object, installed: Machine, built: Machine, *, second_lives: bool
) -> None:
    functions = CHANGING.replace("make_release ", "")
    for machine, at in cut_everywhere(workshop, media, [built, installed], installation(SECOND), functions):  # type: ignore[attr-defined]
        assert works(machine) in (FIRST, SECOND), f"cut before command {at}"
        if not second_lives:
            machine.is_broken(SECOND)
        if machine.run("test", "-e", TRIAL).status == 0:
            machine.run(*THE_NEXT_START_JUDGES)
        assert works(machine) == SECOND if second_lives and machine.release("previous") != FIRST else True
        if not second_lives:
            assert works(machine) == FIRST, f"cut before command {at}"
        assert machine.run("test", "-e", TRIAL).status == 1
    again = machine.install(SECOND)
    assert again.status == (0 if second_lives else 1)


def test_a_power_cut_in_a_first_installation_is_gone_on_from(
    workshop: Workshop, media: object, installed: Machine
) -> None:
    with Machine(workshop, media, installed) as machine:  # type: ignore[arg-type]
        assert machine.run("rm", "-r", f"/{ETC}", f"/{OPT}/current").status == 0
        assert machine.install(FIRST, *WHO).status == 0
        assert works(machine) == FIRST
