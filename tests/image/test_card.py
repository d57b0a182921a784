"""What is put on a card with a stock Raspberry Pi OS, and what Raspberry Pi Imager is told of ours."""

from __future__ import annotations

import hashlib
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PREPARE = ROOT / "image" / "cloud-init" / "prepare"
MANIFEST = ROOT / "image" / "imager" / "manifest.py"

BY_IMAGER = """#cloud-config
hostname: raspberrypi
user:
  name: technician
runcmd:
  - [ systemctl, enable, --now, ssh ]
"""

ENTRY = {
    "name": str, "description": str, "icon": str, "url": str, "extract_size": int, "extract_sha256": str,
    "image_download_size": int, "release_date": str, "devices": list,
}  # fmt: skip
"""What each entry has: `required` in doc/json-schema/os-list-schema.json of rpi-imager 2.0.11."""

INIT_FORMATS = {"", "systemd", "cloudinit", "cloudinit-rpi", "rpi-preseed", "none"}


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    """The boot partition of Raspberry Pi OS (trixie), as Imager left it."""
    for name in ("config.txt", "cmdline.txt", "meta-data", "network-config"):
        (tmp_path / name).write_text("as it was\n")
    (tmp_path / "user-data").write_text(BY_IMAGER)
    return tmp_path


def prepare(boot: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PREPARE, boot], check=False, capture_output=True, text=True)


def parts(boot: Path) -> list[dict[str, str]]:
    """The archive that user-data has become."""
    text = (boot / "user-data").read_text()
    assert text.startswith("#cloud-config-archive\n")
    archive: list[dict[str, str]] = yaml.safe_load(text)
    return archive


def test_a_card_installs_a_release_and_keeps_what_imager_was_told(boot: Path) -> None:
    assert prepare(boot).returncode == 0
    told, ours = parts(boot)
    assert (told["type"], told["content"]) == ("text/cloud-config", BY_IMAGER)
    assert ours["type"] == "text/x-shellscript-per-boot", "so that it's tried again after a power cut"
    assert ours["content"].splitlines()[0] == "#!/usr/bin/env bash"
    assert (boot / "network-config").read_text() == "as it was\n"


def test_preparing_a_card_twice_is_preparing_it_once(boot: Path) -> None:
    prepare(boot)
    once = (boot / "user-data").read_text()
    prepare(boot)
    assert (boot / "user-data").read_text() == once


def test_the_release_on_the_card_is_one_that_can_be_installed(boot: Path, tmp_path: Path) -> None:
    prepare(boot)
    place = tmp_path / "unpacked"
    place.mkdir()
    subprocess.run(["tar", "-xzf", boot / "kiosk-recorder.tar.gz", "-C", place], check=True)
    assert subprocess.run([place / "install.sh", "--help"], check=False, capture_output=True).returncode == 0
    for name in ("agent", "hw", "fleet", "pyproject.toml", "requirements/kiosk.txt", "image/system"):
        assert (place / name).exists()


@pytest.mark.parametrize(("missing", "words"), [("config.txt", "is no boot partition"), ("meta-data", "no cloud-init")])
def test_what_is_no_such_card_is_left_alone(boot: Path, missing: str, words: str) -> None:
    (boot / missing).unlink()
    said = prepare(boot)
    assert said.returncode == 2
    assert words in said.stderr
    assert (boot / "user-data").read_text() == BY_IMAGER


def manifest(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, MANIFEST, *arguments], check=False, capture_output=True, text=True)


def test_imager_is_told_size_hash_and_place_of_each_image(tmp_path: Path) -> None:
    content = b"a card" * 4096
    plain, packed = tmp_path / "kiosk-trixie-pi4.img", tmp_path / "kiosk-bookworm-zero2w.img.xz"
    plain.write_bytes(content)
    packed.write_bytes(lzma.compress(content))
    first, second = json.loads(manifest(plain, packed).stdout)["os_list"]
    for entry in (first, second):
        assert {name: type(entry[name]) for name in ENTRY} == ENTRY
        assert entry["init_format"] in INIT_FORMATS
        assert entry["extract_size"] == len(content)
        assert entry["extract_sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["url"].startswith("file:///")
    assert first["devices"] == ["pi4-64bit"]
    assert second["devices"] == ["pi3-64bit"]
    assert second["image_download_size"] == packed.stat().st_size


def test_a_downloaded_raspberry_pi_os_may_be_customised(tmp_path: Path) -> None:
    image = tmp_path / "raspios-lite-arm64.img"
    image.write_bytes(b"")
    told = manifest(image, "--init-format", "cloudinit-rpi")
    (entry,) = json.loads(told.stdout)["os_list"]
    assert entry["init_format"] == "cloudinit-rpi"
    assert entry["devices"] == ["pi5-64bit", "pi4-64bit", "pi3-64bit"]


def test_an_image_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "torn.img.xz"
    image.write_bytes(lzma.compress(b"a card" * 4096)[:-20])
    for path in (image, tmp_path / "nowhere.img"):
        said = manifest(path)
        assert said.returncode == 2
        assert said.stderr.startswith("error: ")
        assert said.stdout == ""
