from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hw.storage import Card as SdCard
from hw.storage import Mount, Storage, life_used_pct, mount_of, read_storage
from tests.card import Card, card  # noqa: F401 (a fixture)
from tests.hw.trees import SPOOL, TOP
from tests.soundcard import eventually

KIB = 1024
PLAIN = Storage("mmcblk0p2", None, False, 0, None, None, 0, None, None, None)


def sd(name: str, manufacturer: str, made: str) -> SdCard:
    return SdCard("SD", name, manufacturer, made, None, None)


@pytest.mark.parametrize(
    ("tree", "storage"),
    [
        ("pi3", replace(PLAIN, card=sd("SC16G", "0x000003", "2018-03"), written_bytes=9121712 * KIB)),
        (
            "pi4",
            replace(
                PLAIN,
                card=sd("SN64G", "0x000003", "2024-06"),
                errors=3,
                first_error_s=1756000000,
                last_error_s=1757000000,
                written_bytes=49590013 * KIB,
            ),
        ),
        ("pi5", replace(PLAIN, card=sd("SR128", "0x000003", "2023-11"), written_bytes=120431204 * KIB)),
        (
            "zero2w",
            replace(PLAIN, card=sd("GB1QT", "0x00001b", "2018-07"), read_only=True, written_bytes=1822040 * KIB),
        ),
        (
            "cm4",
            replace(
                PLAIN,
                card=SdCard("eMMC", "DG4016", "0x000045", "2022-01", 20, "normal"),
                written_bytes=20482004 * KIB,
            ),
        ),
        ("not-a-pi", replace(PLAIN, device="nvme0n1p2", written_bytes=484961 * KIB)),
    ],
)
def test_the_card_and_its_file_system(tree: str, storage: Storage) -> None:
    found = read_storage(SPOOL, TOP / tree)
    # How full it is only the machine itself can say, and a tree isn't one.
    assert replace(found, size_bytes=None, free_bytes=None, free_inodes=None) == storage


def test_a_card_without_partitions_as_a_pis_kernel_shows_it() -> None:
    found = read_storage(Path("/mnt/spool"), TOP / "pi3-debian")
    assert found == replace(PLAIN, device="mmcblk0", card=sd("QEMU!", "0x0000aa", "2006-02"), written_bytes=280 * KIB)


def test_where_nothing_is_told_nothing_is_known(tmp_path: Path) -> None:
    nothing = Storage(None, None, None, None, None, None, None, None, None, None)
    assert read_storage(tmp_path / "gone", tmp_path) == nothing


@pytest.mark.parametrize(
    ("life_time", "used_pct"),
    [
        ("0x01 0x01", 10),
        ("0x02 0x05", 50),
        ("0x0b 0x01", 110),
        ("0x00 0x03", 30),
        ("0x00 0x00", None),
        ("0x0c 0xff", None),
        ("-", None),
        ("", None),
        (None, None),
    ],
)
def test_the_worse_half_of_an_emmc_counts_and_what_is_not_defined_does_not(
    life_time: str | None, used_pct: int | None
) -> None:
    assert life_used_pct(life_time) == used_pct


def test_an_sd_card_has_no_wear_whatever_lies_beside_it(tmp_path: Path) -> None:
    root = Path(shutil.copytree(TOP / "cm4", tmp_path / "cm4", symlinks=True))
    (kind,) = root.glob("sys/devices/platform/emmc2bus/*/mmc_host/mmc0/*/type")
    kind.write_text("SD\n")
    found = read_storage(SPOOL, root).card
    assert found is not None
    assert (found.life_used_pct, found.spare) == (None, None)


MOUNTS = (TOP / "zero2w/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("directory", "mount"),
    [
        ("/", Mount("179:2", "ext4", read_only=True)),
        ("/run/kiosk-recorder", Mount("0:23", "tmpfs", read_only=False)),
        ("/runner", Mount("179:2", "ext4", read_only=True)),
        ("/var/lib/kiosk recorder", Mount("179:3", "ext4", read_only=False)),
        ("/var/lib/kiosk recorder/spool", Mount("179:3", "ext4", read_only=False)),
    ],
)
def test_a_directory_lies_on_the_innermost_mount(directory: str, mount: Mount) -> None:
    assert mount_of(directory, MOUNTS) == mount


def test_of_stacked_mounts_the_last_counts() -> None:
    stacked = f"{MOUNTS}\n90 26 8:1 / / rw - ext4 /dev/sda1 rw\n91 90 8:17 / / rw - vfat /dev/sdb1 rw"
    assert mount_of("/x", stacked) == Mount("8:17", "vfat", read_only=False)


@pytest.mark.parametrize("options", ["ro", "rw,emergency_ro", "rw,shutdown", "rw,errors=remount-ro,ro"])
def test_a_file_system_that_gave_up_writing_is_read_only(options: str) -> None:
    line = f"26 1 179:2 / / rw - ext4 /dev/root {options}"
    assert mount_of("/x", line) == Mount("179:2", "ext4", read_only=True)


def test_a_card_that_a_service_may_only_read_is_well() -> None:
    """As systemd's ProtectSystem=strict shows it."""
    assert mount_of("/x", "26 1 179:2 / / ro - ext4 /dev/root rw") == Mount("179:2", "ext4", read_only=False)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "26",
        " - ",
        "26 1 179:2 / / rw",
        "a b c d e f - g",
        "26 1 / - ext4 x y",
        "1 1  / / rw - a b c",
        "1 1 8:1 /  rw - a b c",
    ],
)
def test_a_mount_table_that_makes_no_sense_has_no_mounts(line: str) -> None:
    assert mount_of("/x", line) is None


def test_a_mount_that_names_another_file_for_a_device_names_none(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("26 1 ../../etc / / rw - ext4 /dev/root rw\n")
    (tmp_path / "etc").mkdir()
    assert read_storage(SPOOL, tmp_path).device is None


def test_a_real_file_system_is_known_with_all_that_it_tells(card: Card) -> None:  # noqa: F811
    before = read_storage(card.path)
    assert before.device is not None
    assert before.device.startswith("loop")
    assert before.card is None
    assert (before.read_only, before.errors, before.first_error_s, before.last_error_s) == (False, 0, None, None)
    usage = os.statvfs(card.path)
    assert before.size_bytes == usage.f_blocks * usage.f_frsize
    assert before.free_bytes == usage.f_bavail * usage.f_frsize
    assert before.free_inodes == usage.f_favail
    with (card.path / "kiosk").open("wb") as file:
        file.write(bytes(8 << 20))
        os.fsync(file.fileno())
    after = read_storage(card.path / "kiosk")
    assert before.written_bytes is not None
    assert after.written_bytes is not None
    assert after.written_bytes >= before.written_bytes + (8 << 20)
    assert before.free_bytes is not None
    assert after.free_bytes == before.free_bytes - (8 << 20)


def test_errors_are_counted_with_their_times_and_forgotten_when_repaired(card: Card) -> None:  # noqa: F811
    began_s = int(time.time())
    trigger = Path(f"/sys/fs/ext4/{read_storage(card.path).device}/trigger_fs_error")
    for count in (1, 2):
        trigger.write_text("a test")
        eventually(lambda count=count: read_storage(card.path).errors == count, "the error is counted")  # type: ignore[misc]
    found = read_storage(card.path)
    assert found.first_error_s is not None
    assert found.last_error_s is not None
    assert began_s <= found.first_error_s <= found.last_error_s <= time.time()
    card.check()
    assert read_storage(card.path).errors == 0


@pytest.mark.parametrize("happens", [Card.become_read_only, Card.die], ids=["aborted", "shut down"])
def test_a_card_that_refuses_writers_is_read_only_whatever_the_mount_table_says_first(
    card: Card,  # noqa: F811
    happens: Callable[[Card], None],
) -> None:
    happens(card)
    with pytest.raises(OSError, match=r"Read-only|Input/output"):
        (card.path / "x").touch()
    found = read_storage(card.path)
    assert found.read_only is True
    card.repair()
    assert read_storage(card.path).read_only is False


def test_room_that_others_take_is_missing(card: Card) -> None:  # noqa: F811
    card.fill()
    free_bytes = read_storage(card.path).free_bytes
    assert free_bytes is not None
    assert free_bytes < 1 << 16


def test_inodes_that_others_take_are_missing(card: Card) -> None:  # noqa: F811
    card.use_up_inodes()
    assert read_storage(card.path).free_inodes == 0


def test_this_machine() -> None:
    found = read_storage(Path("/tmp"))  # noqa: S108 (only looked at)
    assert found.free_bytes is not None
    assert found.read_only is False
    if found.device is None or not found.device.startswith("mmcblk"):
        assert found.card is None
