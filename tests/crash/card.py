"""A card that loses power: what is durable, what is only on its way, and what may be there after a cut.

Stricter than any file system the kiosk runs on. What was synced is there. Of what wasn't:

- data reaches the card page by page in any order, and within a page sector by sector; only a sector is whole
- a file that grew may have its new length without its new data: there are zeros, or what lay there before
- entries of directories (creations, renames, removals) reach it in any order, each whole; two changes of the same
  name keep their order
- fsync of a file says nothing about its name; fsync of a directory says nothing about the files in it
- a rename that changes two directories is durable once either of them is synced
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from tests.crash.operations import (
    TOP,
    Change,
    Enter,
    Make,
    Note,
    Operation,
    Resize,
    SyncDirectory,
    SyncFile,
    Write,
    numbered,
)

PAGE: Final = 4096
SECTOR: Final = 512

Fill = Literal["short", "zeros", "junk"]
"""Where a file grew and its data didn't arrive: the file is shorter, or there are zeros, or something old."""


@dataclass(frozen=True, slots=True)
class State:
    """What a power cut left: paths below the top, with their content; None is a directory."""

    files: dict[str, bytes | None]

    def digest(self) -> bytes:
        """Names the state."""
        whole = hashlib.blake2b(digest_size=16)
        for path, content in self.files.items():
            whole.update(f"{path}\0{-1 if content is None else len(content)}\0".encode())
            whole.update(content or b"")
        return whole.digest()

    def lay_out(self, top: Path) -> None:
        """Make it real below the empty directory `top`."""
        for path, content in self.files.items():
            if content is None:
                (top / path).mkdir()
            else:
                (top / path).write_bytes(content)


@dataclass(slots=True)
class _File:
    durable: bytes = b""
    pending: list[Write | Resize] = field(default_factory=list)


Unit = Write | Resize | Enter
"""What reaches the card whole or not at all, but for the sectors of a torn page."""


class Card:
    """Takes operations, and gives what a cut may leave of them."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._directories: dict[int, dict[str, int]] = {TOP: {}}
        self._entering: list[Enter] = []

    @classmethod
    def holding(cls, state: State) -> Card:
        """A card on which `state` is durable."""
        card = cls()
        known = numbered(state.files)
        for path, content in state.files.items():
            inode = known[PurePosixPath(path)]
            if content is None:
                card._directories[inode] = {}
            else:
                card._files[inode] = _File(content)
            card._directories[known[PurePosixPath(path).parent]][PurePosixPath(path).name] = inode
        return card

    def apply(self, operation: Operation) -> None:
        """Let the program go on by one operation."""
        match operation:
            case Make(inode, True):
                self._directories[inode] = {}
            case Make(inode, False):
                self._files[inode] = _File()
            case Write(inode) | Resize(inode):
                self._files[inode].pending.append(operation)
            case Enter():
                self._entering.append(operation)
            case SyncFile(inode):
                file = self._files[inode]
                file.durable = _content(file.durable, _pieces(file.pending), "short")
                file.pending = []
            case SyncDirectory(directory):
                self._sync_directory(directory)
            case Note():
                pass

    def _sync_directory(self, directory: int) -> None:
        left: list[Enter] = []
        done: set[tuple[int, str]] = set()
        for enter in reversed(self._entering):
            if any(change.directory == directory for change in enter.changes):
                durable = [change for change in enter.changes if (change.directory, change.name) not in done]
                for change in durable:
                    _enter(self._directories, change)
                done |= {(change.directory, change.name) for change in durable}
            # Of an earlier change of a name that a later one has settled nothing is left to arrive.
            elif waiting := tuple(change for change in enter.changes if (change.directory, change.name) not in done):
                left.append(Enter(waiting))
        self._entering = left[::-1]

    def units(self) -> list[Unit]:
        """Everything on its way, in order: a cut keeps any of it."""
        moving: list[Unit] = [piece for file in self._files.values() for piece in _pieces(file.pending)]
        return [*moving, *self._entering]

    def after_cut(self, kept: Collection[int], fill: Fill = "short", tearing: random.Random | None = None) -> State:
        """The state when of `units()` those numbered in `kept` arrived, of some pages only sectors."""
        number = 0
        contents: dict[int, bytes] = {}
        for inode, file in self._files.items():
            arrived: list[Write | Resize] = []
            pieces = list(_pieces(file.pending))
            for piece in pieces:
                if number in kept:
                    arrived += _torn(piece, tearing) if tearing is not None else [piece]
                number += 1
            length = 0 if fill == "short" else _length(file.durable, pieces)
            contents[inode] = _content(file.durable, arrived, fill, length)
        directories = {inode: dict(entries) for inode, entries in self._directories.items()}
        for enter in self._entering:
            if number in kept:
                for change in enter.changes:
                    _enter(directories, change)
            number += 1
        return State(dict(_walk(TOP, "", directories, contents)))


def _enter(directories: dict[int, dict[str, int]], change: Change) -> None:
    entries = directories[change.directory]
    if change.inode is None:
        entries.pop(change.name, None)
    else:
        entries[change.name] = change.inode


def _walk(
    inode: int, path: str, directories: dict[int, dict[str, int]], contents: dict[int, bytes]
) -> Iterator[tuple[str, bytes | None]]:
    for name, child in sorted(directories[inode].items()):
        if name.endswith("-shm"):
            # SQLite's shared memory is nobody's after a cut: it is made anew from the WAL.
            continue
        if child in directories:
            yield path + name, None
            yield from _walk(child, f"{path}{name}/", directories, contents)
        else:
            yield path + name, contents[child]


def _pieces(pending: list[Write | Resize]) -> Iterator[Write | Resize]:
    """Writes parted at the borders of pages."""
    for change in pending:
        if isinstance(change, Resize):
            yield change
            continue
        begin, end = change.offset, change.offset + len(change.data)
        while begin < end:
            border = min(end, (begin // PAGE + 1) * PAGE)
            yield Write(change.file, begin, change.data[begin - change.offset : border - change.offset])
            begin = border


def _torn(piece: Write | Resize, tearing: random.Random) -> list[Write | Resize]:
    """What arrives of a page when the power goes in the midst of it: some of its sectors, mostly the first ones."""
    if isinstance(piece, Resize) or tearing.random() < 0.5:
        return [piece]
    borders = [piece.offset, *range((piece.offset // SECTOR + 1) * SECTOR, piece.offset + len(piece.data), SECTOR)]
    first = tearing.randrange(len(borders) + 1)
    in_order = tearing.random() < 0.7
    sectors: list[Write | Resize] = []
    for place, begin in enumerate(borders):
        end = (begin // SECTOR + 1) * SECTOR
        if place < first if in_order else tearing.random() < 0.5:
            sectors.append(Write(piece.file, begin, piece.data[begin - piece.offset : end - piece.offset]))
    return sectors


def _length(durable: bytes, pieces: list[Write | Resize]) -> int:
    """How long the file is when all of it arrives."""
    length = len(durable)
    for piece in pieces:
        length = piece.size if isinstance(piece, Resize) else max(length, piece.offset + len(piece.data))
    return length


def _content(durable: bytes, arrived: Iterable[Write | Resize], fill: Fill, length: int = 0) -> bytes:
    content: bytearray | None = None
    for piece in arrived:
        if content is None:
            content = bytearray(durable)
        if isinstance(piece, Resize):
            _stretch(content, piece.size, "zeros")
            del content[piece.size :]
        else:
            _stretch(content, piece.offset, fill)
            content[piece.offset : piece.offset + len(piece.data)] = piece.data
    if length > len(durable if content is None else content):
        content = bytearray(durable) if content is None else content
        _stretch(content, length, fill)
    return durable if content is None else bytes(content)


def _stretch(content: bytearray, size: int, fill: Fill) -> None:
    missing = size - len(content)
    if missing > 0:
        content += _JUNK[len(content) % PAGE :][:missing] if fill == "junk" else b""
        content += bytes(size - len(content))


_JUNK: Final = random.Random(0).randbytes(1 << 20)
