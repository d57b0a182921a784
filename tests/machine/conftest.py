"""One machine for all tests of it: emulated, it takes minutes to become a kiosk."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.keys import KeyPair
from tests.machine.arrivals import Arrivals
from tests.machine.guest import Guest
from tests.machine.image import kept_image, mounted
from tests.machine.kiosk import Kiosk, install_into
from tests.machine.release import Release, broken_release, this_release
from tests.machine.sound import make_noise
from tests.servers import S3Store, mosquitto, s3_store  # noqa: F401

_NOISE_S: Final = 900
"""Longer than any test lets it sound."""

_NEEDED: Final = ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs", "age", "age-keygen", "flac")


@pytest.fixture(scope="session")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a technician brings along. Skips where no machine can be emulated."""
    if missing := [program for program in _NEEDED if shutil.which(program) is None]:
        pytest.skip(f"no machine can be emulated here: {', '.join(missing)} is missing")
    if os.geteuid() != 0:
        pytest.skip("no machine can be emulated here: only root can make its disk")
    return tmp_path_factory.mktemp("stick")


@pytest.fixture(scope="session")
def release(stick: Path) -> Release:
    """This project, to be installed."""
    return this_release(stick / "release")


@pytest.fixture(scope="session")
def newer(stick: Path) -> Release:
    """One to upgrade to. It doesn't live."""
    return broken_release(stick / "newer")


@pytest.fixture(scope="session")
def kiosk_of_the_session(
    stick: Path,
    release: Release,
    newer: Release,
    s3_store: S3Store,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kiosk]:
    """A disk that install.sh made a kiosk's, put into a machine that is switched on.

    Installing into the disk, not in the machine, spares the emulator what takes it longest: pip. For the same reason
    the newer release lies there, as after an upgrade that was taken back.
    """
    image = kept_image()
    disk = tmp_path_factory.mktemp("disk") / "disk.img"
    subprocess.run(["cp", "--sparse=always", image.disk, disk], check=True)
    noise = make_noise(stick, _NOISE_S)
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker, Guest(image, disk) as guest:
        kiosk = Kiosk(guest, Arrivals(s3_store.bucket(), _age_key(tmp_path_factory.mktemp("key"))), broker, noise)
        with mounted(disk) as root:
            kiosk.prepare(root, stick, release, s3_store.kiosk)
            install_into(root, newer, "--upgrade")
            install_into(root, newer, "--rollback")
        guest.boot()
        yield kiosk


@pytest.fixture
def kiosk(kiosk_of_the_session: Kiosk) -> Kiosk:
    """A kiosk that records and sends."""
    kiosk_of_the_session.until_it_records()
    kiosk_of_the_session.vouch_for_the_clock()
    return kiosk_of_the_session


def _age_key(directory: Path) -> KeyPair:
    """Who may hear what the kiosk encrypts: by the ordinary program, as all that opens it is."""
    secret = directory / "clinic.key"
    made = subprocess.run(["age-keygen", "-o", secret], check=True, capture_output=True, text=True)
    return KeyPair(secret, made.stderr.split()[-1])
