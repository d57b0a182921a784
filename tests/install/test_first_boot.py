"""A card out of the image becomes a kiosk by what lies on its boot partition, wherever the power is cut meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.conftest import FIRST
from tests.install.machine import ETC, OPT, SPOOL, Machine, Workshop
from tests.install.test_installing import snapshot

pytestmark = pytest.mark.timeout(900)

BOOT = Path("boot/firmware")
RESULT = BOOT / "kiosk-result.txt"
PROVISION = (f"/{OPT}/current/install.sh", "--provision", f"/{BOOT}")
"""What kiosk-first-boot.service does."""

FUNCTIONS = (
    "provision gather take_in put_in_place name_host set_zone wipe commend leave change write_file write_link own"
)

KIOSK = """[device]
site = "south"
id = "room-7"
timezone = "Europe/Madrid"

[mqtt]
url = "mqtts://broker:8883"
certificate = "/etc/kiosk-recorder/mqtt.crt"
key = "/etc/kiosk-recorder/mqtt.key"
"""
SECRETS = {"mqtt.crt": "a certificate\n", "mqtt.key": "a key\n"}

HOSTNAME = """#!/bin/sh
# As hostname(1), of a machine of the tests: this one keeps its name.
[ $# -eq 0 ] || echo "$1" >/run/hostname
cat /run/hostname 2>/dev/null || echo raspberrypi
"""


@pytest.fixture(scope="module")
def image(workshop: Workshop, media: Path, installed: Machine) -> Machine:
    """What is on each card of an image: a release, and nobody's configuration."""
    with Machine(workshop, media, installed) as machine:
        machine.file(ETC / "config.toml").unlink()
        machine.write("usr/local/sbin/hostname", HOSTNAME, 0o755)
        said = machine.make_card(FIRST)
        assert said.status == 0, said.text
        assert "takes its configuration when it starts" in said.text
        machine.file(BOOT).mkdir(parents=True)
    return machine


@pytest.fixture
def card(workshop: Workshop, media: Path, installed: Machine, image: Machine) -> Iterator[Machine]:
    with Machine(workshop, media, image, installed) as machine:
        machine.pretend_systemd()
        yield machine


def leave(card: Machine, config: str | bytes | None = KIOSK, files: dict[str, str] | None = None) -> None:
    """As whoever makes the card: put files on its boot partition."""
    boot = card.file(BOOT)
    if config is not None:
        (boot / "kiosk.toml").write_bytes(config if isinstance(config, bytes) else config.encode())
    for name, text in (SECRETS if files is None else files).items():
        (boot / "kiosk").mkdir(exist_ok=True)
        (boot / "kiosk" / name).write_text(text)


def judge_quickly(card: Machine) -> None:
    """The release finds every configuration good, without the second or two that takes."""
    for program in ("kiosk-recorder", "python"):
        card.write(f"{OPT}/releases/{FIRST}/venv/bin/{program}", "#!/bin/sh\n", 0o755)


def result(card: Machine) -> list[str]:
    """What kiosk-result.txt says, line by line."""
    return card.file(RESULT).read_text().splitlines()


def text(card: Machine, path: Path | str) -> str:
    return card.file(path).read_text()


def assert_is_provisioned(card: Machine, config: str = KIOSK) -> None:
    """Everything that was left is where it belongs, and nothing of it is where it doesn't."""
    assert text(card, ETC / "config.toml") == config
    assert card.run("stat", "-c", "%a %U:%G", f"/{ETC}/config.toml").text.strip() == "640 root:kiosk"
    for name, content in SECRETS.items():
        assert text(card, ETC / name) == content
        assert card.run("stat", "-c", "%a %U:%G", f"/{ETC}/{name}").text.strip() == "600 kiosk-courier:kiosk"
    assert text(card, "etc/hostname") == "room-7\n"
    assert "127.0.1.1\troom-7\n" in text(card, "etc/hosts")
    assert card.file("etc/localtime").readlink() == Path("/usr/share/zoneinfo/Europe/Madrid")
    assert not card.file(BOOT / "kiosk").exists(), "a stolen card has no key on its boot partition"
    assert not card.file(ETC / "incoming").exists()
    assert result(card)[0] == "good"


def test_nobody_tries_to_record_on_a_card_that_has_no_configuration(card: Machine) -> None:
    assert card.file("etc/systemd/system/multi-user.target.wants/kiosk-first-boot.service").is_symlink()
    for unit in ("kiosk-recorder", "kiosk-courier"):
        drop_in = text(card, f"etc/systemd/system/{unit}.service.d/first-boot.conf")
        assert f"ConditionPathExists=/{ETC}/config.toml" in drop_in
    assert card.told() == []
    said = card.run(*PROVISION)
    assert said.status == 2
    assert result(card)[0] == "not good: nothing was taken"
    assert result(card)[2] == "kiosk.toml is missing"


def test_a_card_becomes_the_kiosk_that_its_boot_partition_describes(card: Machine) -> None:
    leave(card)
    said = card.run(*PROVISION)
    assert said.status == 0, said.text
    assert_is_provisioned(card)
    assert card.run("kiosk-recorder", "config", "check").status == 0
    assert text(card, "run/hostname") == "room-7\n"
    assert card.told() == ["daemon-reload"], "services are left to systemd, which starts them next"
    assert "kiosk       room-7" in result(card)


def test_the_next_start_changes_nothing(card: Machine) -> None:
    leave(card)
    assert card.run(*PROVISION).status == 0
    before = snapshot(card.changes)
    said = card.run(*PROVISION)
    assert (said.status, said.text) == (0, "")
    assert snapshot(card.changes) == before


def test_a_wrong_file_is_refused_with_line_and_key_and_nothing_is_taken(card: Machine) -> None:
    leave(card, KIOSK.replace("room-7", "room_7").replace("url", "ulr"))
    said = card.run(*PROVISION)
    assert said.status == 2
    assert list((card.changes / ETC).iterdir()) == []
    told = "\n".join(result(card))
    assert 'kiosk.toml: 2 mistakes\n  line 3, device.id: "room_7"' in told
    assert "line 7, mqtt.ulr" in told
    assert "There is no kiosk yet" in told
    assert (card.file(BOOT / "kiosk" / "mqtt.key")).read_text() == "a key\n", "it stays until all is good"
    leave(card)
    assert card.run(*PROVISION).status == 0
    assert_is_provisioned(card)


def test_all_that_is_wrong_with_the_folder_is_told_at_once(card: Machine) -> None:
    leave(card, files={"mqtt.crt": "", "device.key": "", "my key": "", "huge.bin": "x" * 2**21})
    card.file(BOOT / "kiosk" / "folder").mkdir()
    assert card.run(*PROVISION).status == 2
    told = "\n".join(result(card))
    for words in (
        "kiosk/device.key isn't yours",
        "kiosk/my key can't be a name",
        "kiosk/huge.bin is far too large",
        "kiosk/folder is no file",
        'mqtt.key = "/etc/kiosk-recorder/mqtt.key": there is no such file',
    ):
        assert words in told
    assert "mqtt.crt" not in told


def test_another_configuration_on_a_later_start_is_taken_and_a_wrong_one_leaves_the_kiosk_as_it_was(
    card: Machine,
) -> None:
    leave(card)
    assert card.run(*PROVISION).status == 0
    leave(card, KIOSK.replace("south", "nörth"), files={})
    assert card.run(*PROVISION).status == 2
    assert_is_told = "\n".join(result(card))
    assert "The kiosk goes on as it was" in assert_is_told
    assert text(card, ETC / "config.toml") == KIOSK
    leave(card, KIOSK.replace("south", "north"), files={})
    assert card.run(*PROVISION).status == 0
    assert_is_provisioned(card, KIOSK.replace("south", "north"))
    leave(card, None, files={"mqtt.key": "a new key\n"})
    assert card.run(*PROVISION).status == 0
    assert text(card, ETC / "mqtt.key") == "a new key\n", "a file can be renewed alone"
    assert not card.file(BOOT / "kiosk").exists()


def test_what_was_changed_on_the_kiosk_since_is_not_undone_by_a_start(card: Machine) -> None:
    leave(card)
    assert card.run(*PROVISION).status == 0
    card.write(f"{ETC}/config.toml", KIOSK.replace("south", "west"))
    assert card.run(*PROVISION).status == 0
    assert "west" in text(card, ETC / "config.toml")


def test_a_spool_that_was_made_anew_is_given_to_both_services(card: Machine) -> None:
    leave(card)
    assert card.run(*PROVISION).status == 0
    card.run("rm", "-r", f"/{SPOOL}")
    card.run("mkdir", f"/{SPOOL}")
    assert card.run(*PROVISION).status == 0
    owners = card.run("stat", "-c", "%a %U:%G", f"/{SPOOL}", f"/{SPOOL}/state").text.splitlines()
    assert owners == ["750 kiosk-recorder:kiosk", "770 kiosk-recorder:kiosk"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("kiosk.toml", b"\xef\xbb\xbf" + KIOSK.replace("\n", "\r\n").encode()),
        ("kiosk.toml", KIOSK.replace("\n", "\r\n").encode("utf-16")),
        ("KIOSK.TOML", KIOSK.encode()),
        ("kiosk.toml.txt", KIOSK.encode()),
    ],
    ids=["BOM and CRLF", "UTF-16", "capitals", "a hidden .txt"],
)
def test_a_file_is_understood_however_windows_wrote_it(card: Machine, name: str, written: bytes) -> None:
    leave(card, None, {**SECRETS, "mqtt.key": "a key\r\n", "Thumbs.db": "", "desktop.ini": "", "._mqtt.key": ""})
    (card.file(BOOT) / name).write_bytes(written)
    said = card.run(*PROVISION)
    assert said.status == 0, said.text
    assert_is_provisioned(card)
    assert b"\r\n" in card.file(RESULT).read_bytes(), "and so is what it reads"


def test_each_file_goes_where_it_belongs(card: Machine) -> None:
    leave(card, files={**SECRETS, "environment": "AWS_PROFILE=kiosk\n", "clinic.nmconnection": "[wifi]\nssid=clinic\n"})
    assert card.run(*PROVISION).status == 0
    assert text(card, ETC / "environment") == "AWS_PROFILE=kiosk\n"
    network = "/etc/NetworkManager/system-connections/clinic.nmconnection"
    assert card.run("stat", "-c", "%a %U:%G", network).text.strip() == "600 root:root"


def test_nothing_of_a_card_is_left_when_it_is_no_kiosk_any_more(card: Machine) -> None:
    leave(card)
    assert card.run(*PROVISION).status == 0
    said = card.run(f"/{OPT}/current/install.sh", "--uninstall")
    assert said.status == 0, said.text
    assert "kiosk" not in card.run("ls", "-R", "/etc/systemd/system").text


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.long), 29])
def test_after_a_power_cut_at_any_step_the_next_start_has_it_all(
    workshop: Workshop, media: Path, installed: Machine, image: Machine, step: int
) -> None:
    at = 1
    while True:
        with Machine(workshop, media, image, installed) as card:
            card.pretend_systemd()
            judge_quickly(card)
            leave(card)
            was_cut = card.cut_power(at, *PROVISION, functions=FUNCTIONS)
            if was_cut:
                taken = card.file(ETC / "incoming").exists() or card.file(ETC / "config.toml").exists()
                assert taken or card.file(BOOT / "kiosk" / "mqtt.key").exists(), "it is in one place at least"
                said = card.run(*PROVISION)
                assert said.status == 0, (at, said.text)
            assert_is_provisioned(card)
        if not was_cut:
            break
        at += step
    assert at > 60, "there were that many steps"


def test_the_boot_partition_may_be_fat(card: Machine, tmp_path: Path) -> None:
    image = tmp_path / "boot.img"
    with image.open("wb") as file:
        file.truncate(8 * 2**20)
    made = subprocess.run(["mkfs.vfat", image], check=False, capture_output=True, text=True)
    card.write("tmp/boot.img", "")
    card.file("tmp/boot.img").write_bytes(image.read_bytes())
    mounted = card.run("mount", "-o", "loop", "/tmp/boot.img", f"/{BOOT}")  # noqa: S108 (the machine's own)
    if made.returncode or mounted.status:
        pytest.skip(f"no FAT can be mounted here: {made.stderr or mounted.text}".strip())
    leave(card)
    said = card.run(*PROVISION)
    assert said.status == 0, said.text
    assert_is_provisioned(card)
