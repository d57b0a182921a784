"""A memory card of our own: an ext4 file system in an image behind a loop device, whose every write can be counted."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

_SECTOR_BYTES = 512
_BYTES_PER_INODE = 8192
"""Room for a hundred thousand small recordings in a small image."""

_WRITTEN_AT = 6
"""Sectors written: seventh field of /sys/block/*/stat (Documentation/block/stat.rst)."""


def can_mount() -> bool:
    """Whether this process may mount images."""
    return os.geteuid() == 0 and Path("/dev/loop-control").exists()


class Card:
    """A mounted image; `place` is its root. Mounted as Raspberry Pi OS mounts its card (defaults, noatime)."""

    def __init__(self, image: Path, place: Path, size_bytes: int = 1 << 30) -> None:
        """Make and mount it. The inode tables are written now, so that nothing is written later behind our back."""
        self.place = place
        self._image = image
        place.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(size_bytes)
        at_once = "lazy_itable_init=0,lazy_journal_init=0"
        _run("mkfs.ext4", "-q", "-F", "-E", at_once, "-m", "0", "-i", str(_BYTES_PER_INODE), str(image))
        self._mount()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unmount()
        self._image.unlink()

    def written_bytes(self) -> int:
        """Bytes that reached the device since it was mounted; everything dirty is written out first."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _run("sync", "--file-system", str(self.place))
        fields = Path(f"/sys/block/{self._device}/stat").read_text().split()
        return int(fields[_WRITTEN_AT]) * _SECTOR_BYTES

    def journal_cpu_s(self) -> float:
        """CPU time of the kernel thread that writes this file system's journal: a cost no process is charged for."""
        name = f"jbd2/{self._device}-8"
        for comm in Path("/proc").glob("[0-9]*/comm"):
            with contextlib.suppress(OSError):
                if comm.read_text().strip() == name:
                    return int(comm.with_name("schedstat").read_text().split()[0]) / 1e9
        return 0.0

    def remount(self) -> None:
        """Forget what is cached of it, as after a boot."""
        self._unmount()
        self._mount()

    def _mount(self) -> None:
        self._device = Path(_run("losetup", "--find", "--show", str(self._image)).strip()).name
        _run("mount", "-o", "noatime", f"/dev/{self._device}", str(self.place))

    def _unmount(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("umount", str(self.place))
        _run("losetup", "--detach", f"/dev/{self._device}")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
