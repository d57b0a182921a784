"""Power cuts on a real ext4: an image in RAM behind a loop device, a real process killed at its n-th change.

The kill stops the program before that system call; what of its earlier ones outlives the cut is then the kernel's
affair: the file system is shut down under its own cache (EXT4_IOC_SHUTDOWN), unmounted, and mounted anew, which
replays its journal as after a power failure. What the program promised lies elsewhere in RAM and isn't touched.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from tests.crash.checker import KIOSK
from tests.crash.judge import Judge
from tests.crash.promises import Promises, notes_in
from tests.crash.workload import crash_settings, encrypt
from tests.plaintext import found_in
from tests.recorder.room import RATE

DataMode = Literal["ordered", "journal"]
"""Mount option `data=`: what ext4 journals; `ordered` is what a Raspberry Pi has."""

How = Literal["killed", "frozen", "journal flushed", "journal lost"]
"""Killed: the process alone dies. Frozen: everything is written back first. Then two power cuts: the running
transaction of ext4's journal is committed before the lights go out, or it is lost with them."""

DATA_MODES: Final[tuple[DataMode, ...]] = ("ordered", "journal")
HOWS: Final[tuple[How, ...]] = ("killed", "frozen", "journal flushed", "journal lost")

_SHUTDOWN: Final = 0x8004587D
"""EXT4_IOC_SHUTDOWN = _IOR('X', 125, __u32), and its flags (fs/ext4/ext4.h)."""
_FLAGS: Final[dict[How, int]] = {"frozen": 0, "journal flushed": 1, "journal lost": 2}

_IMAGE_BYTES: Final = 24 << 20
_CHANGES: Final = "write,pwrite64,ftruncate,fsync,fdatasync,rename,unlink,mkdir"
_NEW_MOUNTS: Final = 0x00020000  # CLONE_NEWNS


@dataclass(frozen=True, slots=True)
class Point:
    """Where and how a life is cut."""

    change: int
    """The system call that isn't reached any more, counted from 1."""
    how: How
    data: DataMode


def points(count: int, changes: int) -> list[Point]:
    """`count` points spread over a life of so many changes; each way of dying in each data mode all through it."""
    ways = [(how, data) for data in DATA_MODES for how in HOWS]
    return [Point(1 + number * changes // count, *ways[number % len(ways)]) for number in range(count)]


def make_image(path: Path) -> None:
    """An empty ext4."""
    path.touch()
    os.truncate(path, _IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(path))


def count_changes(place: Path, *, encrypted: bool = False) -> int:
    """How many system calls of a whole life change something."""
    place.mkdir()
    if encrypted:
        encrypt(place)
    log = place / "log"
    _record(place / KIOSK, place, f"--output={log}")
    return len(log.read_text().splitlines())


def hide_mounts() -> None:
    """From now on this process and its children have mounts of their own, which end with them."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")


@contextmanager
def mounted(image: Path, place: Path, data: DataMode) -> Iterator[Path]:
    """Mount an image at `place`."""
    place.mkdir(exist_ok=True)
    _run("mount", "-t", "ext4", "-o", f"loop,data={data}", str(image), str(place))
    try:
        yield place
    finally:
        _run("umount", str(place))


def try_point(point: Point, place: Path, *, plant: str = "", encrypted: bool = False) -> tuple[str, ...]:
    """Let a recorder live until `point`, cut, recover, and say what is broken."""
    image, notes = place / "image", place / "notes"
    make_image(image)
    notes.mkdir()
    if encrypted:
        encrypt(notes)
    with mounted(image, place / "card", point.data) as card:
        _record(card / KIOSK, notes, f"--inject={_CHANGES}:signal=SIGKILL:when={point.change}", plant=plant)
        if point.how != "killed":
            _shut_down(card, _FLAGS[point.how])
    plain = list(_plain_in(image, notes)) if encrypted else []
    with mounted(image, place / "card", point.data) as card:
        outcome = Judge(notes).judge(crash_settings(card / KIOSK, encrypted=encrypted))
    plain += _plain_in(image, notes) if encrypted else []
    return (*outcome.broken(Promises.read(notes_in(notes))), *plain)


def _plain_in(image: Path, notes: Path) -> Iterator[str]:
    """What was heard and lies on the card in plain, wherever: files, journal, what was removed."""
    content = image.read_bytes()
    sounds = [np.fromfile(path, np.int16) for path in sorted(notes.glob("*.pcm"))]
    if sounds:
        yield from (f"in plain: {what}" for what in found_in(content, np.concatenate(sounds), RATE))


def _record(root: Path, notes: Path, *options: str, plant: str = "") -> None:
    """Run a life under strace; it may end by SIGKILL, but by no mistake of its own."""
    strace = ["strace", "--follow-forks", "-qq", "--signal=none", f"--trace={_CHANGES}", "--output=/dev/null", *options]
    command = [*strace, sys.executable, "-B", "-m", "tests.crash.workload", "record", str(root), str(notes)]
    command += [plant] if plant else []
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the recorder died by itself:\n{ended.stderr}")


def _shut_down(card: Path, flags: int) -> None:
    descriptor = os.open(card, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", flags))
    finally:
        os.close(descriptor)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
