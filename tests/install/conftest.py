"""Releases to install, and machines to install them on."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.install.machine import OPT, ROOT, Machine, Workshop

FIRST, SECOND = "0.1.0", "0.2.0"

LIB = OPT / "releases" / FIRST / "venv/lib"
"""Where the first release has its packages."""

WHO = ("--site", "north", "--id", "room-12")

_PARTS = ("agent", "hw", "fleet", "image", "requirements", "install.sh", "pyproject.toml", "README.md", "LICENSE",
          "environment.example", "config.example.toml")  # fmt: skip
"""What a release consists of before it is built."""


@pytest.fixture(scope="session")
def wheels() -> Path:
    """What kiosk-recorder needs, as wheels: fetched and built once for each lock."""
    lock = (ROOT / "requirements" / "kiosk.txt").read_bytes()
    place = Path(sys.prefix) / f"wheels-{hashlib.sha256(lock).hexdigest()[:12]}"
    with (Path(sys.prefix) / "wheels.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not place.exists():
            fresh = place.with_suffix(".new")
            subprocess.run([ROOT / "install.sh", "wheelhouse", fresh], check=True, stdin=subprocess.DEVNULL)
            for made_anew in (*fresh.glob("kiosk_recorder-*"), fresh / "SHA256SUMS"):
                made_anew.unlink()
            fresh.rename(place)
    return place


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Skips where nobody may mount."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount layers and change to another root directory")
    with ExitStack() as stack:
        try:
            workshop = stack.enter_context(Workshop(tmp_path_factory.mktemp("workshop")))
            with Machine(workshop, tmp_path_factory.mktemp("nothing")):
                pass
        except OSError as error:
            pytest.skip(f"layers can't be mounted here: {error}")
        yield workshop


@pytest.fixture(scope="session")
def media(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases, each with its wheelhouse, as they'd lie on a USB stick."""
    place = tmp_path_factory.mktemp("media")
    place.chmod(0o755)  # it's the users' of both services to read, too
    for version in (FIRST, SECOND):
        release = place / version
        release.mkdir()
        for part in _PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, release / part)
        (release / "agent" / "__init__.py").write_text(f'__version__ = "{version}"\n')
        house = release / "wheels"
        shutil.copytree(wheels, house, copy_function=os.link)
        built = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(house)]
        subprocess.run(built, cwd=release, check=True, capture_output=True)
        sums = subprocess.run("sha256sum -- *.whl", shell=True, cwd=house, check=True, stdout=subprocess.PIPE)  # noqa: S602
        (house / "SHA256SUMS").write_bytes(sums.stdout)
    return place


@pytest.fixture
def bare(workshop: Workshop, media: Path) -> Iterator[Machine]:
    """A machine that never saw a kiosk-recorder."""
    with Machine(workshop, media) as machine:
        machine.pretend_systemd()
        yield machine


@pytest.fixture(scope="session")
def installed(workshop: Workshop, media: Path) -> Machine:
    """One on which the first release was installed, by the real pip. For others to begin with."""
    with Machine(workshop, media) as machine:
        machine.pretend_systemd()
        said = machine.install(FIRST, *WHO)
        assert said.status == 0, said.text
        machine.make_environments_quickly(LIB)
    return machine


@pytest.fixture
def kiosk(workshop: Workshop, media: Path, installed: Machine) -> Iterator[Machine]:
    """A machine on which the first release runs."""
    with Machine(workshop, media, installed) as machine:
        yield machine
