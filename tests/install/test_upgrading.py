"""Releases come, are judged, and go: one of them always works, wherever the power is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.conftest import FIRST, SECOND
from tests.install.cuts import cut_everywhere, works
from tests.install.machine import ETC, OPT, SPOOL, Machine, Workshop, installation
from tests.install.test_first_cuts import CHANGING
from tests.install.test_installing import configure, snapshot

pytestmark = pytest.mark.timeout(900)

TRIAL = f"/{OPT}/trial"
IN_MEMORY = "run/kiosk-recorder/direct"

THE_NEXT_START_JUDGES = ["/opt/kiosk-recorder/proven/install.sh", "--judge", "--health-seconds", "1"]
"""What kiosk-trial.service does."""


DROP_IN = "etc/systemd/system/kiosk-courier.service.d/config.conf"
NEWER = '[export]\ntextfile = "/run/prometheus/kiosk.prom"'
"""A configuration that takes a drop-in, and that not every release needs to know."""


def another_release(machine: Machine, version: str) -> list[str]:
    """One more that is built, on the machine alone: the command that installs it."""
    release = f"/{OPT}/releases/{version}"
    assert machine.run("cp", "-a", f"/{OPT}/releases/{SECOND}", release).status == 0
    machine.write(f"{release}/VERSION", f"{version}\n")
    return [f"{release}/install.sh", "--offline", "--health-seconds", "1"]


@pytest.fixture(scope="module")
def built(workshop: Workshop, media: Path, installed: Machine) -> Machine:
    """A kiosk on which an upgrade was cut short when the new release had just been built."""
    with Machine(workshop, media, installed) as machine:
        assert machine.cut_power(1, *installation(SECOND), functions="begin_trial")
        assert machine.file(OPT / "releases" / SECOND / "complete").exists()
    return machine


@pytest.fixture
def ready(workshop: Workshop, media: Path, installed: Machine, built: Machine) -> Iterator[Machine]:
    with Machine(workshop, media, built, installed) as machine:
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


def test_a_release_that_is_started_again_while_it_is_watched_gives_way(ready: Machine) -> None:
    ready.limps(SECOND)
    said = ready.install(SECOND, "--upgrade")
    assert said.status == 1, said.text
    assert f"release {SECOND} doesn't live: back to {FIRST}" in said.text
    assert works(ready) == FIRST


def test_a_release_is_judged_though_the_connection_to_the_technician_is_lost(ready: Machine) -> None:
    said = ready.run(
        "bash",
        "-c",
        f"""
        {" ".join(installation(SECOND))} --health-seconds 600 >/run/said 2>&1 &
        until grep -qs "watch both" /run/said || ! kill -0 $!; do sleep 0.1; done
        kill -HUP $!
        wait $!
        """,
    )
    assert said.status > 128, said.text
    assert ready.told()[-1] == "start --no-block kiosk-trial.service"
    assert ready.run(*THE_NEXT_START_JUDGES).status == 0
    assert (works(ready), ready.release("previous")) == (SECOND, FIRST)
    assert ready.run("test", "-e", TRIAL).status == 1
    assert [told.split()[0] for told in ready.told()].count("restart") == 2, (
        "whoever judges can't know what was started"
    )


def test_a_step_back_and_forward_again(ready: Machine) -> None:
    assert ready.install(SECOND).status == 0
    back = ready.run(f"/{OPT}/current/install.sh", "--rollback")
    assert back.status == 0, back.text
    assert (works(ready), ready.release("previous")) == (FIRST, SECOND)
    forward = ready.run(f"/{OPT}/current/install.sh", "--rollback")
    assert forward.status == 0, forward.text
    assert (works(ready), ready.release("previous")) == (SECOND, FIRST)


def test_what_lived_before_a_release_that_does_not_live_can_still_be_gone_back_to(ready: Machine) -> None:
    assert ready.install(SECOND).status == 0
    assert (works(ready), ready.release("previous")) == (SECOND, FIRST)
    third = another_release(ready, "0.3.0")
    ready.is_broken("0.3.0")
    assert ready.run(*third).status == 1
    assert (works(ready), ready.release("previous")) == (SECOND, FIRST)
    assert ready.run(f"/{OPT}/current/install.sh", "--rollback").status == 0
    assert (works(ready), ready.release("previous")) == (FIRST, SECOND)


def test_a_step_back_to_a_release_that_does_not_live_is_taken_back(ready: Machine) -> None:
    assert ready.install(SECOND).status == 0
    ready.is_broken(FIRST)
    said = ready.run(f"/{OPT}/current/install.sh", "--rollback")
    assert said.status == 1, said.text
    assert f"release {FIRST} doesn't live: back to {SECOND}" in said.text
    assert works(ready) == SECOND
    assert ready.run("test", "-e", TRIAL).status == 1


def test_a_failed_upgrade_takes_its_configuration_with_it(ready: Machine) -> None:
    ready.does_not_know(FIRST, "textfile")
    before = ready.file(ETC / "config.toml").read_bytes()
    ready.is_broken(SECOND)
    said = ready.install(SECOND, *configure(ready, "north", NEWER))
    assert said.status == 1, said.text
    assert works(ready) == FIRST
    assert ready.file(ETC / "config.toml").read_bytes() == before
    assert not ready.file(DROP_IN).exists(), "what the configuration needed goes with it"


def test_a_step_back_takes_what_an_older_release_does_not_know_out_of_the_units_too(ready: Machine) -> None:
    ready.does_not_know(FIRST, "textfile")
    assert ready.install(SECOND).status == 0
    before = ready.file(ETC / "config.toml").read_bytes()
    assert ready.install(SECOND, *configure(ready, "north", NEWER)).status == 0
    assert ready.file(DROP_IN).exists()
    ready.write(f"{ETC}/config.toml.lived", before.decode(), 0o640)
    assert ready.run(f"/{OPT}/current/install.sh", "--rollback").status == 0
    assert (works(ready), ready.file(ETC / "config.toml").read_bytes()) == (FIRST, before)
    assert not ready.file(DROP_IN).exists()


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
    assert "stop kiosk-recorder.service kiosk-courier.service kiosk-trial.service" in kiosk.told()
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


def test_a_spool_on_a_file_system_of_its_own_is_emptied(kiosk: Machine) -> None:
    kiosk.file("srv/card").mkdir()
    assert kiosk.run("mount", "--bind", "/srv/card", f"/{SPOOL}").status == 0
    kiosk.write("srv/card/spool/sealed/0123456789ab-000000.flac", "a morning")
    said = kiosk.install(FIRST, "--uninstall", "--purge", "--delete-recordings")
    assert said.status == 0, said.text
    assert list(kiosk.file("srv/card").iterdir()) == []
    assert not kiosk.file(ETC).exists()
    assert kiosk.run("getent", "passwd", "kiosk-recorder").status != 0, "it went on to the end"
    assert "nothing to remove" in kiosk.install(FIRST, "--uninstall", "--purge", "--delete-recordings").text


def test_recordings_that_are_in_memory_alone_are_not_forgotten(kiosk: Machine) -> None:
    for name in (
        "open/0123456789ab-000002.part",
        "sealed/0123456789ab-000001.flac.age",
        "sealed/0123456789ab-000001.meta",
    ):
        kiosk.write(f"{IN_MEMORY}/spool/{name}", "a morning")
    said = kiosk.install(FIRST, "--uninstall")
    assert said.status == 2, said.text
    assert f"2 recordings are in memory only, in /{IN_MEMORY}" in said.text
    assert "kiosk-recorder status" in said.text
    kiosk.write(f"{SPOOL}/spool/quarantine/0123456789ab-000000.flac", "a morning")
    assert "deletes 3 recordings" in kiosk.install(FIRST, "--uninstall", "--purge").text
    kiosk.file(f"{SPOOL}/spool/quarantine/0123456789ab-000000.flac").unlink()
    assert kiosk.told() == [], "and nothing was stopped"
    assert kiosk.install(FIRST, "--uninstall", "--purge", "--delete-recordings").status == 0
    assert not kiosk.file(IN_MEMORY).exists()


def test_the_machine_swaps_again_as_its_own_settings_say(kiosk: Machine) -> None:
    kiosk.write("etc/dphys-swapfile", "CONF_SWAPSIZE=512\n")
    kiosk.write("etc/rpi/swap.conf", "[Main]\n")
    assert kiosk.install(FIRST).status == 0
    assert kiosk.install(FIRST, "--uninstall").status == 0
    for left in ("etc/rpi/swap.conf.d/kiosk-recorder.conf", "etc/systemd/system/dphys-swapfile.service"):
        assert not kiosk.file(left).is_symlink(), left


# Power cuts.

SWITCHING = "begin_trial write_trial write_link move_on_to end_trial take_settings_back judge"


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_power_cut_while_a_release_is_built_leaves_the_old_one(
    workshop: Workshop, media: Path, installed: Machine, stride: int
) -> None:
    cut_while_building = 0
    for machine, at in cut_everywhere(workshop, media, [installed], installation(SECOND), "make_release", stride):
        whole = machine.file(OPT / "releases" / SECOND / "complete").exists()
        assert works(machine) == (SECOND if whole else FIRST), f"cut before command {at}"
        cut_while_building += not whole
    assert cut_while_building > 1


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("lives", [True, False])
def test_a_power_cut_while_releases_are_switched_leaves_one_that_works(
    workshop: Workshop, media: Path, installed: Machine, built: Machine, stride: int, *, lives: bool
) -> None:
    seen = set()
    broken = () if lives else (SECOND,)
    for machine, at in cut_everywhere(
        workshop, media, [built, installed], installation(SECOND), SWITCHING, stride, *broken
    ):
        found = works(machine)
        on_trial = machine.run("test", "-e", TRIAL).status == 0
        if on_trial:
            machine.run(*THE_NEXT_START_JUDGES)
        assert works(machine) == (found if lives else FIRST), f"cut before command {at}"
        assert machine.run("test", "-e", TRIAL).status == 1
        seen.add((found, on_trial))
    assert {(FIRST, False), (SECOND, True), (SECOND, False) if lives else (FIRST, False)} <= seen


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("lives", [True, False])
def test_a_power_cut_in_an_upgrade_never_leaves_a_release_with_a_configuration_it_does_not_know(
    workshop: Workshop, media: Path, installed: Machine, built: Machine, stride: int, *, lives: bool
) -> None:
    seen = set()
    with Machine(workshop, media, built, installed) as less:
        less.does_not_know(FIRST, "textfile")
        arguments = configure(less, "north", NEWER)
    command = [*installation(SECOND), *arguments]
    layers, broken = [less, built, installed], () if lives else (SECOND,)
    for machine, at in cut_everywhere(workshop, media, layers, command, f"{CHANGING} {SWITCHING}", stride, *broken):
        was_judged = machine.run("test", "-e", TRIAL).status == 0
        if was_judged:
            machine.run(*THE_NEXT_START_JUDGES)
        release, knows = works(machine), "textfile" in machine.file(ETC / "config.toml").read_text()
        assert machine.run("systemctl", "is-active").status == 0, f"cut before command {at}: {release}, {knows}"
        assert machine.file(DROP_IN).exists() == knows, f"cut before command {at}"
        assert machine.run("test", "-e", TRIAL).status == 1
        seen.add((release, was_judged))
    assert {(FIRST, False), (FIRST, True)} <= seen
    assert lives == ((SECOND, True) in seen)


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_power_cut_never_leaves_a_configuration_with_which_nothing_lives(
    workshop: Workshop, media: Path, installed: Machine, stride: int
) -> None:
    with Machine(workshop, media, installed) as less:
        less.write(f"{OPT}/releases/{FIRST}/unknown", "textfile\n")
        arguments = configure(less, "north", NEWER)
    for machine, at in cut_everywhere(
        workshop, media, [less, installed], [*installation(FIRST), *arguments], f"{CHANGING} {SWITCHING}", stride
    ):
        if machine.run("test", "-e", TRIAL).status == 0:
            machine.run(*THE_NEXT_START_JUDGES)
        assert machine.run("systemctl", "is-active").status == 0, f"cut before command {at}"
        assert not machine.file(DROP_IN).exists(), f"cut before command {at}"
        assert machine.run("test", "-e", TRIAL).status == 1


def test_what_was_cut_short_is_finished_by_the_next_run(
    workshop: Workshop, media: Path, installed: Machine, built: Machine
) -> None:
    for at in (3, 9):
        with Machine(workshop, media, built, installed) as machine:
            assert machine.cut_power(at, *installation(SECOND), functions=SWITCHING)
            said = machine.install(SECOND)
            assert said.status == 0, said.text
            assert (works(machine), machine.release("previous")) == (SECOND, FIRST)
            assert machine.install(SECOND).nothing_changed


def test_a_run_that_was_killed_is_finished_though_nothing_is_left_to_change(ready: Machine) -> None:
    """Killed, not cut: memory remembers that the services don't know yet."""
    assert ready.cut_power(1, *installation(SECOND), functions="tell_system")
    ready.write("run/kiosk-recorder-install", "")
    said = ready.install(SECOND)
    assert said.status == 0, said.text
    assert any(told.startswith("restart") for told in ready.told())
