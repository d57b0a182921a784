"""A card's root file system for arm64, made and run on a machine that is no Pi, records.

It takes an hour or more and a network, so it's asked for: KIOSK_RECORDER_ARM64 names a directory for the wheels,
which are made if it's empty (image/wheelhouse). Programs for arm64 are run by qemu-user.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.image.test_layers import NAMES, ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(5400)]

WHEELS = "KIOSK_RECORDER_ARM64"
SUITE = "bookworm"
HOOK = ROOT / "image" / "rpi-image-gen" / "layer" / "kiosk-recorder.sh"

FROM_OTHER_LAYERS = ("systemd",)
"""What the layer requires and doesn't bring."""

FOR_THE_MICROPHONE = ("gcc", "libc6-dev", "libasound2-dev")
"""The simulated one is compiled where it's heard."""


_INSIDE = """
set -e
for each in proc dev; do mount --rbind "/$each" "$1/$each"; done
exec chroot "$@"
"""


def packages() -> list[str]:
    """What the layer brings."""
    listed: list[str] = yaml.safe_load(NAMES["kiosk-recorder"].read_text())["mmdebstrap"]["packages"]
    return listed


@pytest.fixture(scope="module")
def wheelhouse() -> Path:
    if WHEELS not in os.environ:
        pytest.skip(f"it takes an hour: ask for it by {WHEELS}=DIRECTORY")
    for tool in ("mmdebstrap", "arch-test"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} isn't installed")
    if os.geteuid() != 0 or not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        pytest.skip("programs for arm64 can't be run here: it takes root, and qemu-user-static in binfmt_misc")
    wheels = Path(os.environ[WHEELS]).absolute()
    if not list(wheels.glob("kiosk_recorder-*.whl")):
        subprocess.run([ROOT / "image" / "wheelhouse", SUITE, wheels], check=True, stdin=subprocess.DEVNULL)
    return wheels


def test_a_card_for_arm64_records(wheelhouse: Path, tmp_path: Path) -> None:
    card = tmp_path / "card"
    included = ",".join([*packages(), *FROM_OTHER_LAYERS, *FOR_THE_MICROPHONE])
    environment = {**os.environ, "IGconf_kiosk_source": str(ROOT), "IGconf_kiosk_wheelhouse": str(wheelhouse)}
    subprocess.run(
        ["mmdebstrap", "--architectures=arm64", "--variant=apt", f"--include={included}", f"--customize-hook={HOOK}",
         SUITE, card],
        check=True, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (card / "etc/systemd/system/multi-user.target.wants/kiosk-first-boot.service").is_symlink()
    shutil.copy(Path(__file__).with_name("hear.py"), card / "root" / "hear.py")
    inside = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    python = "/opt/kiosk-recorder/current/venv/bin/python"
    heard = subprocess.run(
        ["unshare", "--mount", "bash", "-c", _INSIDE, "bash", card, python, "/root/hear.py"],
        env=inside, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert heard.returncode == 0, heard.stdout + heard.stderr
    told = re.search(r"(\d+) frames in ([\d.]+) s on aarch64", heard.stdout)
    assert told is not None, heard.stdout
    assert int(told[1]) >= 4 * 2 * 16000
