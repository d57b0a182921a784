"""The card that a directory lies on: what it is, how worn it is, and how its file system is doing.

- The mount is looked up in /proc/self/mountinfo (proc_pid_mountinfo(5)), its block device in /sys/dev/block.
- SD cards and eMMC tell what their makers wrote into them (Documentation/driver-api/mmc/mmc-dev-attrs.rst). How worn it
  is only an eMMC tells, since version 5.0: `life_time` and `pre_eol_info` (JEDEC JESD84-B51, EXT_CSD bytes 267 to
  269), as of when the kernel found it at the start. SD cards have nothing of the kind.
- ext4 counts its errors and what was written to it (fs/ext4/sysfs.c; Documentation/ABI/testing/sysfs-fs-ext4). A repair
  by e2fsck sets the errors back.

Where a path leads to may have to be read from the card, which can be stuck, and the reader with it.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from hw.kernel import count_of, hexadecimal_of, told

_MACHINE: Final = Path("/")
_KIB: Final = 1024

_UNWRITABLE: Final = {"ro", "emergency_ro", "shutdown"}
"""A file system's options that refuse every writer; a mount's own refuse those who see it so, as a confined service
does. After an error ext4 says `ro`, on newer kernels `emergency_ro` beside `rw`."""

_DEVICE: Final = re.compile(r"[0-9]{1,4}:[0-9]{1,7}")

_MOST_WORN: Final = 0x0B
"""Beyond its estimated life."""

Spare = Literal["normal", "warning", "urgent"]
_SPARE: Final[dict[int, Spare]] = {1: "normal", 2: "warning", 3: "urgent"}


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says of itself."""

    kind: Literal["SD", "eMMC"]
    name: str | None
    """As its maker calls it, such as "SC16G"."""
    manufacturer: str | None
    """A number such as "0x000003". Who has which is not published."""
    made: str | None
    """Month, such as "2024-06"."""
    life_used_pct: int | None
    """eMMC: at most so much of its life is used, in tens; 110 is beyond it. SD cards don't tell."""
    spare: Spare | None
    """eMMC: its reserve blocks; "warning" when 80 % are used, "urgent" at 90 %."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What a directory lies on, at one moment. None is what nothing tells."""

    device: str | None
    """The block device as the kernel calls it, such as "mmcblk0p2"."""
    card: Card | None
    """None if it is none."""
    read_only: bool | None
    """Whether the file system refuses writers, be it meant or after an error."""
    errors: int | None
    """Errors that ext4 has met since it was made or last repaired."""
    first_error_s: int | None
    """When, in seconds since 1970 by the clock of then; None without an error."""
    last_error_s: int | None
    written_bytes: int | None
    """Written to the file system in its life; ext4 only."""
    size_bytes: int | None
    free_bytes: int | None
    """For ordinary users."""
    free_inodes: int | None
    """None where files aren't limited by number."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a directory's file system comes from."""

    device: str
    """Major and minor number, such as "179:2"."""
    kind: str
    read_only: bool


def read_storage(directory: Path, root: Path = _MACHINE) -> Storage:
    """What `directory` lies on. Waits for a card that is stuck."""
    real = os.path.realpath(directory)
    mount = mount_of(real, told(root / "proc/self/mountinfo") or "")
    block = _block_device(mount, root) if mount else None
    ext4 = root / "sys/fs/ext4" / block.name if block and mount and mount.kind == "ext4" else None
    written = count_of(told(ext4 / "lifetime_write_kbytes")) if ext4 else None
    size_bytes, free_bytes, free_inodes = _room(real)
    return Storage(
        device=block.name if block else None,
        card=_card(block) if block else None,
        read_only=mount.read_only if mount else None,
        errors=count_of(told(ext4 / "errors_count")) if ext4 else None,
        first_error_s=(count_of(told(ext4 / "first_error_time")) or None) if ext4 else None,
        last_error_s=(count_of(told(ext4 / "last_error_time")) or None) if ext4 else None,
        written_bytes=None if written is None else written * _KIB,
        size_bytes=size_bytes,
        free_bytes=free_bytes,
        free_inodes=free_inodes,
    )


def sync_latencies(directory: Path, count: int, size: int) -> list[float]:
    """Seconds that each of `count` syncs of another `size` bytes took. Nothing of it stays. Raises OSError."""
    descriptor = _nameless(directory)
    try:
        found = []
        for _ in range(count):
            os.write(descriptor, os.urandom(size))
            begun = time.monotonic()
            os.fdatasync(descriptor)
            found.append(time.monotonic() - begun)
        return found
    finally:
        os.close(descriptor)


def _nameless(directory: Path) -> int:
    """A file that is gone when it is closed, however that comes about."""
    try:
        return os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    descriptor, name = tempfile.mkstemp(prefix=".speed-", dir=directory)
    os.unlink(name)  # noqa: PTH108 (a name, not a path)
    return descriptor


def mount_of(directory: str, mountinfo: str) -> Mount | None:
    """The uppermost mount that the absolute `directory` lies on, by the text of /proc/self/mountinfo."""
    best: tuple[int, Mount] | None = None
    for line in mountinfo.splitlines():
        match line.partition(" - ")[0].split(" "), line.partition(" - ")[2].split(" "):
            case [_, _, device, _, escaped, *_], [kind, _, options, *_] if _DEVICE.fullmatch(device):
                point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), escaped)
                holds = directory == point or directory.startswith(point.rstrip("/") + "/")
                if point.startswith("/") and holds and (best is None or len(point) >= best[0]):
                    refused = _UNWRITABLE.intersection(options.split(","))
                    best = len(point), Mount(device, kind, bool(refused))
            case _:
                pass
    return best[1] if best else None


def life_used_pct(life_time: str | None) -> int | None:
    """Upper bound of the worse of both kinds of memory in "0x02 0x01": steps of ten, 0 is "not defined"."""
    steps = [hexadecimal_of(word) for word in (life_time or "").split()]
    known = [step * 10 for step in steps if step is not None and 1 <= step <= _MOST_WORN]
    return max(known, default=None)


def _block_device(mount: Mount, root: Path) -> Path | None:
    try:
        return Path(os.path.realpath(root / "sys/dev/block" / mount.device, strict=True))
    except OSError:
        return None


def _card(block: Path) -> Card | None:
    disk = block.parent if told(block / "partition") else block
    device = disk / "device"
    kind = told(device / "type")
    if kind not in ("SD", "MMC"):
        return None
    made = re.fullmatch(r"(0[1-9]|1[0-2])/([0-9]{4})", told(device / "date") or "")
    return Card(
        kind="SD" if kind == "SD" else "eMMC",
        name=told(device / "name"),
        manufacturer=told(device / "manfid"),
        made=f"{made[2]}-{made[1]}" if made else None,
        life_used_pct=life_used_pct(told(device / "life_time")) if kind == "MMC" else None,
        spare=_SPARE.get(hexadecimal_of(told(device / "pre_eol_info")) or 0) if kind == "MMC" else None,
    )


def _room(directory: str) -> tuple[int | None, int | None, int | None]:
    """Size, free bytes and free inodes for ordinary users (statvfs(3))."""
    try:
        usage = os.statvfs(directory)
    except OSError:
        return None, None, None
    inodes = usage.f_favail if usage.f_files else None
    return usage.f_blocks * usage.f_frsize, usage.f_bavail * usage.f_frsize, inodes
