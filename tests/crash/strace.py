"""Runs a program under strace and reads what it did to the files below one directory.

Every call that takes a path or a descriptor is traced. A call that touches the tree must be one that is understood
here or known to change nothing a power cut could lose: anything else stops the test, so that no way of writing slips
by unseen.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.crash.operations import (
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

_LONGEST_DATA = 1 << 24

_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\w+)")
_DESCRIPTOR = re.compile(r"(?P<number>-?\d+|0x[0-9a-f]+|AT_FDCWD)(?:<(?P<path>[^>]*)>.*)?")

_CHANGES_NOTHING = re.compile(
    "access|chdir|chmod|chown|execve|faccessat2?|fadvise64|fchmod|fchmodat|fchown|fchownat|flock|fstat|fstatfs|getcwd|"
    "getdents64|l?getxattr|lstat|newfstatat|pread64|readlink|readlinkat|stat|statfs|statx|utimensat"
)
"""Or only what recovery doesn't look at: owners, modes and times."""

_CHANGES_DESCRIPTOR_ALONE = re.compile("F_(GETFD|SETFD|GETFL|GETLK|SETLK|SETLKW)")


class NotUnderstood(Exception):
    """The traced program does something that the model doesn't know."""


@dataclass(frozen=True, slots=True)
class _Call:
    line: str
    name: str
    arguments: Sequence[str]
    result: int


def trace(command: Sequence[str], top: Path, notes: Path) -> list[Operation]:
    """Run `command` to its end and return what it did below `top`, in order, with what it wrote to `notes`.

    What lies below `top` beforehand gets its inodes in the order of `numbered`.
    """
    reader = _Reader(top, notes)
    log = notes.with_suffix(".strace")
    strace = [
        *("strace", "--follow-forks", "-y", "-xx", "-a1", "-qq", "--signal=none", f"--string-limit={_LONGEST_DATA}"),
        *("--trace=%file,%desc", "--raw=read,pread64", f"--output={log}", *command),
    ]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    ended = subprocess.run(
        strace, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"the traced program failed:\n{ended.stderr}")
    with log.open() as lines:
        operations = list(reader.read(_calls(lines)))
    log.unlink()
    return operations


def _calls(lines: Iterable[str]) -> Iterator[_Call]:
    """Calls in the order in which they ended."""
    begun: dict[str, str] = {}
    for raw in lines:
        line = raw.rstrip("\n")
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        resumed = re.match(r"\d+ +<\.\.\. \w+ resumed>", line)
        if resumed:
            line = begun.pop(pid) + line[resumed.end() :]
        found = _CALL.match(line)
        if found is not None and found["result"] != "?":
            yield _Call(line, found["name"], found["arguments"].split(", "), int(found["result"], 0))


@dataclass(slots=True)
class _Open:
    inode: int
    append: bool
    offset: int = 0


class _Reader:
    """Follows descriptors and names. All calls that matter come from one thread, or `NotUnderstood` is raised."""

    def __init__(self, top: Path, notes: Path) -> None:
        known = numbered(str(path.relative_to(top)) for path in top.rglob("*"))
        self._top = PurePosixPath(top)
        self._notes = _escaped(str(notes))
        self._inodes = dict(known)
        self._directories = {inode for path, inode in known.items() if (top / path).is_dir()}
        self._sizes = {inode: (top / path).stat().st_size for path, inode in known.items()}
        self._next = max(known.values()) + 1
        self._open: dict[int, _Open] = {}
        self._mark = _escaped(str(top))
        self._pid: str | None = None

    def read(self, calls: Iterable[_Call]) -> Iterator[Operation]:
        for call in calls:
            if call.result < 0 and call.result != -1:
                raise NotUnderstood(call.line[:300])
            if call.result == -1:
                continue
            yield from self._understand(call)

    def _understand(self, call: _Call) -> Iterator[Operation]:
        if call.name == "write" and self._notes in call.arguments[0]:
            yield from (Note(line) for line in _text(call.arguments[1]).decode().splitlines())
            return
        # What is written elsewhere may speak of the tree: a log does.
        touched = call.arguments[0] if call.name in ("write", "pwrite64") else call.line
        ours = self._mark in touched or (call.name in ("read", "pread64") and self._descriptor(call) is not None)
        if not ours or _CHANGES_NOTHING.fullmatch(call.name):
            return
        pid = call.line.split(" ", 1)[0]
        if self._pid not in (None, pid):
            raise NotUnderstood(f"a second thread: {call.line[:300]}")
        handler: Callable[[_Call], Iterable[Operation]] | None = getattr(self, f"_on_{call.name}", None)
        if handler is None:
            raise NotUnderstood(call.line[:300])
        found = list(handler(call))
        if found:
            self._pid = pid
        yield from found

    # Descriptors.

    def _on_openat(self, call: _Call) -> Iterator[Operation]:
        path = self._path(call.arguments[0], call.arguments[1])
        flags = call.arguments[2].split("|")
        if "O_TMPFILE" in flags or path is None:
            raise NotUnderstood(call.line[:300])
        inode = self._inodes.get(path)
        if inode is None:
            inode = self._new(path)
            yield Make(inode, directory=False)
            yield Enter((self._change(path, inode),))
        elif "O_TRUNC" in flags:
            yield from self._resize(inode, 0)
        self._open[call.result] = _Open(inode, "O_APPEND" in flags)

    def _on_close(self, call: _Call) -> Iterator[Operation]:
        self._open.pop(_number(call.arguments[0]), None)
        return iter(())

    def _on_fcntl(self, call: _Call) -> Iterator[Operation]:
        if not _CHANGES_DESCRIPTOR_ALONE.fullmatch(call.arguments[1]):
            raise NotUnderstood(call.line[:300])
        return iter(())

    def _on_ioctl(self, call: _Call) -> Iterator[Operation]:
        if call.arguments[1] != "TCGETS":
            raise NotUnderstood(call.line[:300])
        return iter(())

    def _on_mmap(self, call: _Call) -> Iterator[Operation]:
        if "MAP_SHARED" in call.arguments[3] and "PROT_WRITE" in call.arguments[2] and not self._is_shm(call):
            raise NotUnderstood(call.line[:300])
        return iter(())

    def _is_shm(self, call: _Call) -> bool:
        """SQLite's shared memory holds nothing that must survive: it is made anew from the WAL."""
        return _escaped("-shm") in call.line

    def _on_lseek(self, call: _Call) -> Iterator[Operation]:
        self._file(call).offset = call.result
        return iter(())

    def _on_read(self, call: _Call) -> Iterator[Operation]:
        self._file(call).offset += call.result
        return iter(())

    # Data.

    def _on_write(self, call: _Call) -> Iterator[Operation]:
        file = self._file(call)
        if file.append:
            file.offset = self._sizes[file.inode]
        yield self._write(file.inode, file.offset, call)
        file.offset += call.result

    def _on_pwrite64(self, call: _Call) -> Iterator[Operation]:
        yield self._write(self._file(call).inode, int(call.arguments[3]), call)

    def _write(self, inode: int, offset: int, call: _Call) -> Operation:
        data = _text(call.arguments[1])[: call.result]
        if len(data) != call.result:
            raise NotUnderstood(f"data cut off: {call.line[:300]}")
        self._sizes[inode] = max(self._sizes[inode], offset + len(data))
        return Write(inode, offset, data)

    def _on_ftruncate(self, call: _Call) -> Iterator[Operation]:
        return self._resize(self._file(call).inode, int(call.arguments[1]))

    def _on_fallocate(self, call: _Call) -> Iterator[Operation]:
        inode = self._file(call).inode
        if call.arguments[1] != "0":
            raise NotUnderstood(call.line[:300])
        return self._resize(inode, max(self._sizes[inode], int(call.arguments[2]) + int(call.arguments[3])))

    def _resize(self, inode: int, size: int) -> Iterator[Operation]:
        if self._sizes[inode] != size:
            self._sizes[inode] = size
            yield Resize(inode, size)

    def _on_fsync(self, call: _Call) -> Iterator[Operation]:
        inode = self._file(call).inode
        yield SyncDirectory(inode) if inode in self._directories else SyncFile(inode)

    _on_fdatasync = _on_fsync

    # Names.

    def _on_mkdir(self, call: _Call) -> Iterator[Operation]:
        path = self._path("", call.arguments[0])
        if path is None:
            raise NotUnderstood(call.line[:300])
        inode = self._new(path)
        self._directories.add(inode)
        yield Make(inode, directory=True)
        yield Enter((self._change(path, inode),))

    def _on_rename(self, call: _Call) -> Iterator[Operation]:
        source, target = (self._path("", argument) for argument in call.arguments)
        if source is None or target is None or self._inodes[source] in self._directories:
            raise NotUnderstood(call.line[:300])
        inode = self._inodes.pop(source)
        self._inodes[target] = inode
        yield Enter((self._change(source, None), self._change(target, inode)))

    def _on_link(self, call: _Call) -> Iterator[Operation]:
        source, target = (self._path("", argument) for argument in call.arguments)
        if source is None or target is None:
            raise NotUnderstood(call.line[:300])
        self._inodes[target] = self._inodes[source]
        yield Enter((self._change(target, self._inodes[source]),))

    def _on_unlink(self, call: _Call) -> Iterator[Operation]:
        path = self._path("", call.arguments[0])
        if path is None:
            raise NotUnderstood(call.line[:300])
        self._inodes.pop(path)
        yield Enter((self._change(path, None),))

    _on_rmdir = _on_unlink

    def _new(self, path: PurePosixPath) -> int:
        inode, self._next = self._next, self._next + 1
        self._inodes[path] = inode
        self._sizes[inode] = 0
        return inode

    def _change(self, path: PurePosixPath, inode: int | None) -> Change:
        return Change(self._inodes[path.parent], path.name, inode)

    def _path(self, directory: str, name: str) -> PurePosixPath | None:
        """A path relative to the top, or None when it lies elsewhere."""
        base = _DESCRIPTOR.fullmatch(directory)
        start = bytes.fromhex(base["path"].replace("\\x", "")).decode() if base and base["path"] else "/"
        full = PurePosixPath(start) / _text(name).decode()
        return full.relative_to(self._top) if full.is_relative_to(self._top) else None

    def _file(self, call: _Call) -> _Open:
        file = self._descriptor(call)
        if file is None:
            raise NotUnderstood(f"a descriptor from nowhere: {call.line[:300]}")
        return file

    def _descriptor(self, call: _Call) -> _Open | None:
        return self._open.get(_number(call.arguments[0]))


def _number(argument: str) -> int:
    found = _DESCRIPTOR.fullmatch(argument)
    return -1 if found is None or found["number"] == "AT_FDCWD" else int(found["number"], 0)


def _text(argument: str) -> bytes:
    """A string as strace -xx prints it."""
    if not (argument.startswith('"') and argument.endswith('"')):
        raise NotUnderstood(f"not a whole string: {argument[:100]}")
    return bytes.fromhex(argument[1:-1].replace("\\x", ""))


def _escaped(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())
