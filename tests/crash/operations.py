"""What a program did to a card, as the operations that matter to a power cut.

Files and directories are inodes, numbers that stay the same through renames; a name is an entry of a directory. The
top of the traced tree is inode 0 and always there, as the root of a mounted file system is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

TOP = 0


@dataclass(frozen=True, slots=True)
class Make:
    """A new inode, not yet anywhere."""

    inode: int
    directory: bool


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of one directory now stands for `inode`, or for nothing."""

    directory: int
    name: str
    inode: int | None


@dataclass(frozen=True, slots=True)
class Enter:
    """Changes of entries that happen together or not at all: a rename is two."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class SyncFile:
    """fsync or fdatasync: data and size of the file are durable, its entry in a directory isn't."""

    file: int


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    directory: int


@dataclass(frozen=True, slots=True)
class Note:
    """What the traced program says about itself: a promise (tests.crash.promises)."""

    text: str


Operation = Make | Write | Resize | Enter | SyncFile | SyncDirectory | Note


def numbered(paths: Iterable[str]) -> dict[PurePosixPath, int]:
    """The inode of each file and directory below the top that is there before the program begins."""
    return {PurePosixPath(): TOP} | {PurePosixPath(path): inode for inode, path in enumerate(sorted(paths), TOP + 1)}
