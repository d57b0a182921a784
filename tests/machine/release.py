"""What is installed in a guest: a release of this project with its wheels, laid out in a directory."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.machine.image import cache

_ROOT: Final = Path(__file__).parents[2]
_PARTS: Final = (
    *("agent", "fleet", "hw", "image", "requirements"),
    *("LICENSE", "README.md", "config.example.toml", "environment.example", "install.sh", "pyproject.toml"),
)


@dataclass(frozen=True, slots=True)
class Release:
    """A copy of the project, as a technician has it on a stick: `install.sh` and the directory `wheels`."""

    directory: Path
    version: str


def this_release(directory: Path) -> Release:
    """This project as it is."""
    _copy(directory)
    return _built(directory)


def broken_release(directory: Path) -> Release:
    """A newer one that installs, understands every configuration, and whose recorder ends as soon as it begins."""
    _copy(directory)
    version = directory / "agent/__init__.py"
    version.write_text(version.read_text().replace('__version__ = "', '__version__ = "9.'))
    (directory / "agent/recorder/__main__.py").write_text("raise SystemExit('this release is broken')\n")
    return _built(directory)


def _copy(directory: Path) -> None:
    directory.mkdir()
    for name in _PARTS:
        part = _ROOT / name
        if part.is_dir():
            shutil.copytree(part, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, directory / name)


def _built(directory: Path) -> Release:
    wheels = directory / "wheels"
    shutil.copytree(_wheelhouse(), wheels, ignore=shutil.ignore_patterns("kiosk_recorder-*", "SHA256SUMS"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--no-index"]
    _run(*pip, "--wheel-dir", str(wheels), str(directory))
    (wheel,) = wheels.glob("kiosk_recorder-*.whl")
    return Release(directory, wheel.name.split("-")[1])


def _wheelhouse() -> Path:
    """What `install.sh wheelhouse` makes, kept in the cache until the locks change."""
    locks = b"".join((_ROOT / "requirements" / name).read_bytes() for name in ("build.txt", "kiosk.txt"))
    directory = cache() / f"wheels-{hashlib.sha256(locks).hexdigest()[:16]}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            for old in cache().glob("wheels-*"):
                shutil.rmtree(old)
            work = cache() / "wheels.new"
            shutil.rmtree(work, ignore_errors=True)
            # The guest has the Debian of this machine, so its own Python is the one to build for.
            _run(str(_ROOT / "install.sh"), "wheelhouse", str(work), environment={"PYTHON": "/usr/bin/python3"})
            work.rename(directory)
    return directory


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout.decode()}{done.stderr.decode()}"
