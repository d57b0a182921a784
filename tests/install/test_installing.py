"""A bare machine becomes a kiosk, and stays one however often that is asked for."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path

import pytest

from tests.install.conftest import FIRST, SECOND, WHO
from tests.install.machine import ETC, OPT, SPOOL, Machine, installation

pytestmark = pytest.mark.timeout(600)  # the first to ask for a machine waits for pip

UNITS = ("kiosk-recorder.service", "kiosk-courier.service", "kiosk-trial.service")


def snapshot(directory: Path) -> dict[str, tuple[int, int, str]]:
    """Everything below: mode, time of change, and where links lead."""
    found = {}
    for folder, _, names in os.walk(directory):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            status = path.lstat()
            link = str(path.readlink()) if stat.S_ISLNK(status.st_mode) else ""
            found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, link)
    return found


def test_a_first_installation_leaves_a_kiosk_that_begins_with_the_next_start(kiosk: Machine) -> None:
    assert kiosk.release() == FIRST
    assert kiosk.run("kiosk-recorder", "--version").text.split()[-1] == FIRST
    config = tomllib.loads(kiosk.file(ETC / "config.toml").read_text())
    assert config["device"] == {"site": "north", "id": "room-12"}
    assert config["capture"]["pcm"] == "hw:CARD=KioskMic"
    assert kiosk.run("kiosk-recorder", "config", "check").status == 0
    for unit in UNITS:
        wanted = f"/etc/systemd/system/multi-user.target.wants/{unit}"
        assert kiosk.run("readlink", "-f", wanted).text.strip() == f"/{OPT}/releases/{FIRST}/image/system/{unit}"


def test_each_process_has_a_user_and_both_write_state_alone(kiosk: Machine) -> None:
    def owner(path: Path) -> str:
        return kiosk.run("stat", "-c", "%U:%G %a", f"/{path}").text.strip()

    assert owner(SPOOL) == "kiosk-recorder:kiosk 750"
    assert owner(SPOOL / "state") == "kiosk-recorder:kiosk 770"
    assert owner(ETC / "config.toml") == "root:kiosk 640"
    for user in ("kiosk-recorder", "kiosk-courier"):
        assert kiosk.run("id", "-gn", user).text.strip() == "kiosk"
        assert kiosk.run("getent", "passwd", user).text.strip().endswith("/nologin")


def test_the_second_run_changes_nothing_and_says_so(kiosk: Machine) -> None:
    before = snapshot(kiosk.changes)
    for arguments in (WHO, (), ("--upgrade",)):
        said = kiosk.install(FIRST, *arguments)
        assert said.status == 0, said.text
        assert said.nothing_changed
    assert snapshot(kiosk.changes) == before
    assert kiosk.told() == []


def test_a_dry_run_says_every_step_and_changes_nothing(bare: Machine) -> None:
    before = snapshot(bare.changes)
    said = bare.install(FIRST, *WHO, "--dry-run")
    assert said.status == 0, said.text
    assert said.nothing_changed
    for step in (f"would build release {FIRST}", f"would write /{ETC}/config.toml", f"would link /{OPT}/current"):
        assert step in said.text
    assert snapshot(bare.changes) == before


def configure(machine: Machine, site: str, rest: str = "") -> tuple[str, str]:
    """The arguments that bring a kiosk of that site another configuration."""
    machine.write("root/kiosk.toml", f'[device]\nsite = "{site}"\nid = "room-12"\n{rest}\n')
    return "--config", "/root/kiosk.toml"


def test_another_configuration_is_begun_with_and_kept_when_the_kiosk_lives(kiosk: Machine) -> None:
    said = kiosk.install(FIRST, *configure(kiosk, "south"))
    assert said.status == 0, said.text
    assert any(told.startswith("restart") for told in kiosk.told())
    for name in ("config.toml", "config.toml.lived"):
        assert tomllib.loads(kiosk.file(ETC / name).read_text())["device"]["site"] == "south"


def test_an_edited_configuration_takes_effect_with_the_next_run(kiosk: Machine) -> None:
    file = kiosk.file(ETC / "config.toml")
    file.write_text(file.read_text().replace("north", "south"))
    said = kiosk.install(FIRST)
    assert said.status == 0, said.text
    assert any(told.startswith("restart") for told in kiosk.told())
    assert kiosk.install(FIRST).nothing_changed


def test_a_configuration_with_which_nothing_lives_is_taken_back(kiosk: Machine) -> None:
    before = kiosk.file(ETC / "config.toml").read_bytes()
    kiosk.is_broken(FIRST)
    said = kiosk.install(FIRST, *configure(kiosk, "south"))
    assert said.status == 1, said.text
    assert "Back to the configuration with which it lived" in said.text
    assert kiosk.file(ETC / "config.toml").read_bytes() == before


def test_answers_never_write_over_a_configuration_that_says_more(kiosk: Machine) -> None:
    before = snapshot(kiosk.changes)
    said = kiosk.install(FIRST, "--site", "south", "--id", "room-12")
    assert said.status == 2
    assert 'says device.site = "north", not "south"' in said.text
    assert snapshot(kiosk.changes) == before


def test_a_file_and_options_that_say_something_else_are_refused(kiosk: Machine) -> None:
    before = snapshot(kiosk.changes / ETC)
    said = kiosk.install(FIRST, *configure(kiosk, "south"), "--site", "north", "--id", "room-12")
    assert said.status == 2
    assert '/root/kiosk.toml says device.site = "south", not "north"' in said.text
    assert "leave out the option" in said.text
    assert snapshot(kiosk.changes / ETC) == before


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("waiting_for_microphone", "runs, but doesn't record: waiting_for_microphone."),
        ("listening", "records."),
        ("recording", "records."),
    ],
)
def test_a_kiosk_is_said_to_record_only_if_it_hears(kiosk: Machine, state: str, told: str) -> None:
    kiosk.write("run/does", state)
    said = kiosk.install(FIRST, *configure(kiosk, "south"))
    assert said.status == 0, said.text
    assert f"Release {FIRST} {told}" in said.text


def test_two_runs_never_change_a_kiosk_at_once(kiosk: Machine) -> None:
    another = f"{' '.join(installation(FIRST))} {' '.join(configure(kiosk, 'south'))}"
    said = kiosk.run(
        "bash",
        "-c",
        f"""
        exec 9>/run/kiosk-recorder-install.lock
        flock 9
        {{ exec 9>&-; {another}; }} >/run/said 2>&1 &
        until grep -qs waits /run/said || ! kill -0 $!; do sleep 0.1; done
        grep site /{ETC}/config.toml
        flock --unlock 9
        wait $!
        """,
    )
    assert said.status == 0, said.text
    assert said.text.strip() == 'site = "north"', "it waited"
    assert "Another install.sh is at work" in kiosk.file("run/said").read_text()
    assert tomllib.loads(kiosk.file(ETC / "config.toml").read_text())["device"]["site"] == "south"


def test_on_a_terminal_what_lacks_is_asked_until_it_can_be_right(kiosk: Machine) -> None:
    kiosk.file(ETC / "config.toml").unlink()
    said = kiosk.answer("North Wing\nnorth\nroom-12\ns3://voices/rooms\n\n", *installation(FIRST))
    assert said.status == 0, said.text
    assert said.text.count("Site, such as north:") == 2
    assert "lower-case letters, digits and hyphens" in said.text
    config = tomllib.loads(kiosk.file(ETC / "config.toml").read_text())
    assert config["device"] == {"site": "north", "id": "room-12"}
    assert (config["upload"]["target"], config["mqtt"]["url"]) == ("s3://voices/rooms", "")


def test_who_gives_no_answer_has_changed_nothing(kiosk: Machine) -> None:
    kiosk.file(ETC / "config.toml").unlink()
    before = snapshot(kiosk.changes)
    said = kiosk.answer("north\n\x04", *installation(FIRST))
    assert said.status == 2, said.text
    assert "nobody answers" in said.text
    assert snapshot(kiosk.changes) == before


def test_a_wrong_configuration_is_refused_before_anything_that_runs_changes(kiosk: Machine) -> None:
    before = snapshot(kiosk.changes / ETC)
    said = kiosk.install(FIRST, *configure(kiosk, "north", "[upload]\nparalel = 3"))
    assert said.status == 2
    assert "paralel" in said.text
    assert "parallel" in said.text, "the nearest key is named"
    assert snapshot(kiosk.changes / ETC) == before
    assert kiosk.told() == []
    dry = kiosk.install(FIRST, "--config", "/root/kiosk.toml", "--dry-run")
    assert dry.status == 2, "what is tried only is judged, too"
    assert "paralel" in dry.text


def test_the_environment_belongs_to_the_technician(kiosk: Machine) -> None:
    kiosk.write(f"{ETC}/environment", "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING=off\n")
    assert kiosk.install(FIRST, *configure(kiosk, "south")).status == 0
    assert kiosk.file(ETC / "environment").read_text() == "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING=off\n"


@pytest.mark.parametrize(
    ("config", "courier", "recorder"),
    [
        ('[upload]\ntarget = "file:///mnt/usb disk/rooms"', ['ReadWritePaths="-/mnt/usb disk/rooms"'], []),
        ('[export]\ntextfile = "/run/prometheus/kiosk.prom"', ['ReadWritePaths="-/run/prometheus"'], []),
        (
            '[spool]\npath = "/srv/room"',
            ['RequiresMountsFor="/srv/room"', 'ReadWritePaths="-/srv/room/state"'],
            ['RequiresMountsFor="/srv/room"', 'ReadWritePaths="-/srv/room"'],
        ),
    ],
)
def test_units_may_write_where_the_configuration_says(
    kiosk: Machine, config: str, courier: list[str], recorder: list[str]
) -> None:
    said = kiosk.install(FIRST, *configure(kiosk, "north", config))
    assert said.status == 0, said.text
    for process, lines in (("courier", courier), ("recorder", recorder)):
        drop_in = kiosk.file(f"etc/systemd/system/kiosk-{process}.service.d/config.conf")
        assert [line for line in lines if line not in drop_in.read_text().splitlines()] == [] if lines else True
        assert drop_in.exists() == bool(lines)
    assert kiosk.install(FIRST).nothing_changed
    assert kiosk.install(FIRST, *configure(kiosk, "north")).status == 0
    assert not kiosk.file("etc/systemd/system/kiosk-courier.service.d/config.conf").exists(), "not needed any more"


def test_secrets_are_given_to_the_courier_alone(kiosk: Machine) -> None:
    kiosk.write(f"{ETC}/broker-password", "secret\n", 0o600)
    broker = f'[mqtt]\nurl = "mqtts://broker:8883"\nusername = "room-12"\npassword_file = "/{ETC}/broker-password"'
    said = kiosk.install(FIRST, *configure(kiosk, "north", broker))
    assert said.status == 0, said.text
    shown = kiosk.run("stat", "-c", "%U %a", f"/{ETC}/broker-password").text
    assert shown.strip() == "kiosk-courier 600"


def test_a_kiosk_has_a_key_of_its_own_that_no_later_run_replaces(kiosk: Machine) -> None:
    shown = kiosk.run("stat", "-c", "%U %a", f"/{ETC}/device.key").text
    assert shown.strip() == "kiosk-courier 600"
    key, enrolment = (kiosk.file(ETC / name).read_bytes() for name in ("device.key", "enrolment.json"))
    assert kiosk.install(FIRST, *configure(kiosk, "south")).status == 0
    assert kiosk.file(ETC / "device.key").read_bytes() == key
    before, now = json.loads(enrolment), json.loads(kiosk.file(ETC / "enrolment.json").read_bytes())
    assert (now["site"], now["device"], now["key"]) == ("south", "room-12", before["key"])


def test_swap_on_the_card_is_ended(kiosk: Machine) -> None:
    kiosk.write("etc/dphys-swapfile", "CONF_SWAPSIZE=512\n")
    kiosk.write("var/swap", "idle memory")
    kiosk.write("etc/rpi/swap.conf", "[Main]\n#Mechanism=auto\n")
    assert kiosk.install(FIRST).status == 0
    assert not kiosk.file("var/swap").exists()
    assert kiosk.run("readlink", "/etc/systemd/system/dphys-swapfile.service").text.strip() == "/dev/null"
    assert "Mechanism=zram" in kiosk.run("cat", "/etc/rpi/swap.conf.d/kiosk-recorder.conf").text


def test_an_image_is_installed_into_from_outside(kiosk: Machine) -> None:
    for made in (ETC / "config.toml", OPT / "current", Path("etc/systemd/system/kiosk-recorder.service")):
        kiosk.file(made).unlink()
    said = kiosk.install_from_outside(SECOND, *WHO)
    assert said.status == 0, said.text
    assert "begins to record when it starts" in said.text
    assert kiosk.told() == [], "the systemd of this machine isn't the image's"
    assert kiosk.install_from_outside(SECOND).nothing_changed
    assert kiosk.release() == SECOND
    assert kiosk.run("kiosk-recorder", "--version").text.split()[-1] == SECOND
    assert kiosk.run("kiosk-recorder", "config", "check").status == 0
