"""A card has three partitions, and the last one, the spool, can grow; made by the real genimage."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRE_IMAGE = ROOT / "image" / "rpi-image-gen" / "image" / "kiosk" / "pre-image.sh"
GROW = ROOT / "image" / "system" / "grow-spool"

SIZES = {
    "IGconf_image_boot_part_size": "64M",
    "IGconf_image_root_part_size": "96M",
    "IGconf_image_spool_part_size": "256M",
    "IGconf_image_name": "kiosk",
    "IGconf_image_suffix": "img",
}


def run(*command: str | Path, **environment: str) -> str:
    inside = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    done = subprocess.run(command, env=inside, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root_file_system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    for directory in ("boot/firmware", "etc", "var/lib/kiosk-recorder/state"):
        (root / directory).mkdir(parents=True)
    (root / "boot/firmware/cmdline.txt").write_text("console=tty1 root=ROOTDEV fsck.repair=yes rootwait\n")
    return root


@pytest.fixture(scope="module")
def images(root_file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("genimage", "mcopy", "mkfs.vfat"):
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            pytest.skip(f"{tool} isn't installed")
    out, work = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("work")
    run(PRE_IMAGE, root_file_system, out, **SIZES)
    run(
        "genimage", "--config", out / "genimage.cfg", "--rootpath", root_file_system,
        "--tmppath", work, "--inputpath", out, "--outputpath", out,
    )  # fmt: skip
    return out


def test_the_spool_is_a_partition_of_its_own_and_the_last_one(images: Path) -> None:
    table = json.loads(run("sfdisk", "--json", images / "kiosk.img"))["partitiontable"]
    assert table["label"] == "dos"
    assert [part["type"] for part in table["partitions"]] == ["c", "83", "83"]
    assert [part["size"] // 2048 for part in table["partitions"]] == [64, 96, 256]
    assert all(part["start"] % 8192 == 0 for part in table["partitions"]), "an erase block of the card is 4 MiB"


def test_kernel_and_fstab_know_the_partitions_that_there_are(images: Path, root_file_system: Path) -> None:
    signature = json.loads(run("sfdisk", "--json", images / "kiosk.img"))["partitiontable"]["id"].removeprefix("0x")
    assert f"root=PARTUUID={signature}-02 " in (root_file_system / "boot/firmware/cmdline.txt").read_text()
    entries = [line.split() for line in (root_file_system / "etc/fstab").read_text().splitlines()]
    mounts = {mountpoint: (device, options.split(",")) for device, mountpoint, _, options, _, _ in entries}
    assert mounts["/"][0] == f"PARTUUID={signature}-02"
    assert mounts["/boot/firmware"][0] == f"PARTUUID={signature}-01"
    spool, options = mounts["/var/lib/kiosk-recorder"]
    assert spool == "LABEL=kiosk-spool"
    assert {"noatime", "data=ordered", "errors=remount-ro", "nodev", "nosuid", "noexec", "nofail"} <= set(options)
    assert run("blkid", "--output", "value", "--match-tag", "LABEL", images / "spool.ext4").strip() == "kiosk-spool"


def test_the_spool_is_made_for_the_card_that_it_grows_to(images: Path) -> None:
    told = run("dumpe2fs", "-h", images / "spool.ext4")
    facts = dict(re.findall(r"^([^:\n]+): +(.*)$", told, re.MULTILINE))
    assert facts["Block size"] == "4096"
    assert facts["Reserved block count"] == "0"
    assert "resize_inode" in facts["Filesystem features"]
    assert "has_journal" in facts["Filesystem features"]


def test_on_the_root_there_is_nothing_where_the_spool_is_mounted(images: Path) -> None:
    """So a recorder whose spool isn't there doesn't fill the root: nobody but root may write there."""
    listing = run("debugfs", "-R", "ls -p /var/lib/kiosk-recorder", images / "root.ext4")
    names = {line.split("/")[5] for line in listing.splitlines() if line.count("/") >= 6}
    assert names == {".", ".."}
    assert "state" in run("debugfs", "-R", "ls -p /", images / "spool.ext4")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The device of the last partition of a card that has room behind it, mounted at tmp_path/mnt."""
    image = tmp_path / "card.img"
    with image.open("wb") as file:
        file.truncate(160 * 2**20)
    subprocess.run(["sfdisk", "--quiet", image], input="label: dos\n,8M,c\n,16M,83\n,64M,83\n", text=True, check=True)
    return image


def attach(image: Path) -> Path:
    """As a card in a slot: a loop device and its partitions, made by hand where no udev does."""
    try:
        disk = Path(run("losetup", "--find", "--show", image).strip())
    except AssertionError as error:
        pytest.skip(f"no loop device here: {error}")
    run("partx", "--add", disk)
    for number in (1, 2, 3):
        node = Path(f"{disk}p{number}")
        if not node.exists():
            major, minor = Path(f"/sys/class/block/{node.name}/dev").read_text().split(":")
            run("mknod", node, "b", major, minor.strip())
    return disk


def test_the_spool_gets_the_rest_of_the_card_and_keeps_what_it_holds(card: Path, tmp_path: Path) -> None:
    disk = attach(card)
    spool = Path(f"{disk}p3")
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    mounted = False
    try:
        run("mkfs.ext4", "-q", "-b", "4096", spool)
        run("mount", spool, mountpoint)
        mounted = True
        (mountpoint / "recording.flac").write_bytes(b"fLaC" * 1000)
        grown = subprocess.run([GROW, mountpoint], check=False, capture_output=True, text=True)
        sectors = int(Path(f"/sys/class/block/{spool.name}/size").read_text())
        assert sectors == 160 * 2048 - (1 + 8 + 16) * 2048, "the partition ends where the card does"
        assert run("sfdisk", "--json", disk).count(f'"size": {sectors}') == 1, "and the table says so"
        run("umount", mountpoint)
        run("mount", spool, mountpoint)
        assert (mountpoint / "recording.flac").read_bytes() == b"fLaC" * 1000
        if grown.returncode:
            assert "Permission denied to resize" in grown.stderr, grown.stderr
            pytest.skip("the partition grew; this machine's kernel lets nobody resize a mounted file system")
        assert shutil.disk_usage(mountpoint).total > 100 * 2**20
        again = subprocess.run([GROW, mountpoint], check=True, capture_output=True, text=True)
        assert "gets the rest" not in again.stdout
    finally:
        if mounted:
            run("umount", mountpoint)
        run("partx", "--delete", disk)
        run("losetup", "--detach", disk)
        for number in (1, 2, 3):
            Path(f"{disk}p{number}").unlink(missing_ok=True)
