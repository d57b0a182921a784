"""A card of the tests' own: a real ext4 file system on a loop device, and what a card can do to a recorder.

Needs root and loop devices; where there are none the fixture skips and says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
_EXT4_IOC_SHUTDOWN = 0x8004587D  # fs/ext4/ext4.h
_NOLOGFLUSH = b"\x02\x00\x00\x00"


class Card:
    """Mounted at `path`. What is done to it is undone by `repair`."""

    def __init__(self, path: Path, image: Path, size_mib: int, inodes: int) -> None:
        self.path = path
        self._image = image
        path.mkdir()
        with image.open("wb") as file:
            file.truncate(size_mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m0", "-N", str(inodes), image], check=True)
        self._frozen = self._read_only = False
        self._mount()

    def fill(self) -> None:
        """Take all the room there is."""
        with (self.path / "somebody-else").open("wb") as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
                    file.flush()
            except OSError:
                return

    def use_up_inodes(self) -> None:
        """Make files until no more can be made."""
        hoard = self.path / "hoard"
        hoard.mkdir()
        try:
            for number in range(1 << 20):
                (hoard / str(number)).touch()
        except OSError:
            return

    def become_read_only(self) -> None:
        """As the kernel does when it finds a file system broken: whoever is writing is refused from now on."""
        # `remount,ro` is refused while files are open for writing; sysrq-like force is what an aborted journal does.
        subprocess.run(["mount", "-o", "remount,abort", self.path], check=False)
        self._read_only = True

    def die(self) -> None:
        """Answer EIO to everything: EXT4_IOC_SHUTDOWN."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, _NOLOGFLUSH)
        finally:
            os.close(descriptor)
        self._read_only = True

    def stall(self) -> None:
        """Let every write wait: FIFREEZE."""
        self._ioctl(_FIFREEZE)
        self._frozen = True

    def repair(self) -> None:
        """Sound again: everything that was done to it is undone."""
        if self._frozen:
            self._ioctl(_FITHAW)
            self._frozen = False
        if self._read_only:
            subprocess.run(["umount", "--lazy", self.path], check=True)
            self._mount()
            self._read_only = False
        (self.path / "somebody-else").unlink(missing_ok=True)
        for path in (self.path / "hoard").glob("*"):
            path.unlink()

    def check(self) -> None:
        """Have e2fsck mend it, as a kiosk does when it starts."""
        subprocess.run(["umount", self.path], check=True)
        # 1: "file system errors corrected".
        done = subprocess.run(["e2fsck", "-f", "-y", self._image], check=False, stdout=subprocess.DEVNULL)
        assert done.returncode in (0, 1)
        self._mount()

    def take_out(self) -> None:
        """Unmount for good."""
        self.repair()
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def _mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self._image, self.path], check=True)

    def _ioctl(self, request: int) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, request, 0)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def syncs_fail(process: int, log: Path) -> Iterator[None]:
    """Every fsync and fdatasync of the threads that `process` has now is answered EIO by strace, which logs them.

    Threads that start meanwhile aren't touched: what goes on elsewhere than on the card does so by a new one.
    """
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    threads = [option for thread in Path(f"/proc/{process}/task").iterdir() for option in ("-p", thread.name)]
    tracer = subprocess.Popen(
        ["strace", "-y", "-o", log, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", *threads],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert tracer.stderr is not None
        for _ in range(len(threads) // 2):
            line = tracer.stderr.readline()
            assert "attached" in line, line
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=10)


def missing() -> str:
    """Why this machine can't have such a card; empty if it can."""
    if os.geteuid() != 0:
        return "only root can mount a file system"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    return ""


def inserted(directory: Path, inodes: int) -> Iterator[Card]:
    """For a fixture: a card of 64 MiB with room for so many files, or the test is skipped."""
    if reason := missing():
        pytest.skip(reason)
    card = Card(directory / "card", directory / "card.img", size_mib=64, inodes=inodes)
    yield card
    card.take_out()


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    """A card with room for a few hundred files."""
    yield from inserted(tmp_path, 256)
