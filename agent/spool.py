"""Where recordings and state lie on disk, and how their files are named.

    <root>/spool/open/<run>-<seq>.part        being written
    <root>/spool/sealed/<run>-<seq>.flac      finished: never changes again
    <root>/spool/sealed/<run>-<seq>.flac.age  the same where recordings are encrypted (agent.contract.age)
    <root>/spool/{open,sealed}/<run>-<seq>.meta   its sidecar (agent.sidecar)
    <root>/spool/quarantine/…                 what nobody understands
    <root>/{orders,recipients}.json           what was ordered (agent.recorder.standing, agent.recorder.rotation)
    <root>/erase/<id>.json                    what is to be erased (agent.recorder.erasing)
    <root>/state/ledger.db                    the ledger (agent.ledger)
    <root>/state/outbox.db                    events that wait for the broker (agent.courier.outbox)
    <root>/state/{recorder,courier}.lock      one instance each
    <root>/state/{flags,variants}.json        the fleet's decision, and what it chose here (agent.flags)

The recorder alone writes below `spool/`; the courier only reads there, and so does the command line but where it holds
the recorder's lock (`verify --repair`, `erase`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import KioskError

_STEM = re.compile(r"(?P<run>[0-9a-f]{12})-(?P<seq>[0-9]{6}|[1-9][0-9]{6,17})")

_CARD_TROUBLE = frozenset(
    {errno.EROFS, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENODEV, errno.ENXIO, errno.EUCLEAN, errno.ESTALE}
)
"""What a card answers that fails or is full; everything else is a mistake of the configuration."""

AUDIO_SUFFIX = ".flac"
ENCRYPTED_SUFFIX = ".flac.age"
AUDIO_SUFFIXES = (AUDIO_SUFFIX, ENCRYPTED_SUFFIX)
PART_SUFFIX = ".part"
META_SUFFIX = ".meta"


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """A segment's identity: the gap-free run it belongs to and its place there."""

    run: str
    seq: int

    @classmethod
    def parse(cls, stem: str) -> SegmentName:
        """Read "<run>-<seq>". Raises ValueError."""
        match = _STEM.fullmatch(stem)
        if match is None:
            raise ValueError(f"not the name of a segment: {stem!r}")
        return cls(match["run"], int(match["seq"]))

    def __str__(self) -> str:
        return f"{self.run}-{self.seq:06d}"


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file name of the spool, understood."""

    name: SegmentName
    suffix: str

    @staticmethod
    def suffix_of(path: Path) -> str:
        """Of a file of ours, all of it: ".flac.age"."""
        return "".join(path.suffixes)

    @classmethod
    def parse(cls, filename: str) -> SegmentFile | None:
        """Read a bare file name; None when it isn't one of ours."""
        stem, dot, suffix = filename.partition(".")
        if dot + suffix not in (PART_SUFFIX, *AUDIO_SUFFIXES, META_SUFFIX):
            return None
        try:
            return cls(SegmentName.parse(stem), dot + suffix)
        except ValueError:
            return None


class Layout:
    """The paths below one root (`spool.path`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = root / "spool"
        self.open = self.spool / "open"
        self.sealed = self.spool / "sealed"
        self.quarantine = self.spool / "quarantine"
        self.state = root / "state"
        self.ledger = self.state / "ledger.db"

    def create(self) -> None:
        """Make what is missing; durable before return. Raises KioskError when the place can't be written."""
        above = [directory for directory in self.root.parents if not directory.exists()]
        try:
            for directory in (self.root, self.spool, self.open, self.sealed, self.quarantine):
                directory.mkdir(parents=True, exist_ok=True, mode=0o750)
            # Both processes write there, as two users of one group (docs/adr/0013).
            self.state.mkdir(exist_ok=True, mode=0o770)
            self._probe()
            for directory in (self.spool, self.root, *(directory.parent for directory in above)):
                sync_directory(directory)
            # Whoever may not read the directory above found the root already made.
            with suppress(PermissionError):
                sync_directory(self.root.parent)
        except OSError as error:
            raise KioskError(
                "use spool",
                place=str(self.root),
                # A file where a directory should be.
                cause=os.strerror(errno.ENOTDIR)
                if isinstance(error, FileExistsError)
                else error.strerror or str(error),
                hint="point `spool.path` at a directory on a writable card that this user may write",
                retryable=error.errno in _CARD_TROUBLE,
            ) from error

    def _probe(self) -> None:
        """Write and sync something: a dying card's mount table may still say that it can be written."""
        # One name for ever: what a power cut leaves of it is gone after the next start.
        probe = self.open / ".probe"
        with probe.open("wb") as file:
            file.write(bytes(1))
            file.flush()
            os.fsync(file.fileno())
        probe.unlink(missing_ok=True)

    def part(self, name: SegmentName) -> Path:
        """The audio file while it's being written."""
        return self.open / f"{name}{PART_SUFFIX}"

    def open_meta(self, name: SegmentName) -> Path:
        """The sidecar while the segment is being written."""
        return self.open / f"{name}{META_SUFFIX}"

    def audio(self, name: SegmentName) -> Path:
        """The sealed audio file as it is there, encrypted or not; where there is none, an unencrypted one's place."""
        encrypted, plain = self.audio_either_way(name)
        return encrypted if encrypted.exists() else plain

    def audio_either_way(self, name: SegmentName) -> tuple[Path, Path]:
        """Where the sealed audio file is if it's encrypted, and if it isn't."""
        return self.audio_as(name, encrypted=True), self.audio_as(name, encrypted=False)

    def audio_as(self, name: SegmentName, *, encrypted: bool) -> Path:
        """Where the sealed audio file belongs."""
        return self.sealed / f"{name}{ENCRYPTED_SUFFIX if encrypted else AUDIO_SUFFIX}"

    def meta(self, name: SegmentName) -> Path:
        """The sealed sidecar."""
        return self.sealed / f"{name}{META_SUFFIX}"


def files_below(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Every regular file directly in `directory`; nothing when it doesn't exist."""
    try:
        with os.scandir(directory) as entries:
            yield from (entry for entry in entries if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return


def sync_directory(directory: Path) -> None:
    """Make creations, renames and removals in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path | str, content: bytes, *, durable: bool) -> None:
    """Replace a file as a whole: whoever reads it sees the old or the new one. Raises OSError.

    If it's to be `durable`, the new one survives a power cut on return. Without pathlib: pictures of the moment are
    replaced once a second for ever.
    """
    fresh = f"{path}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(fresh, path)  # noqa: PTH104 (see above)
    if durable:
        sync_directory(Path(path).parent)


class InstanceLock:
    """One process a role: held from construction until the process ends, however it ends."""

    def __init__(self, layout: Layout, role: str) -> None:
        """Raises KioskError when another process holds the lock of `role`."""
        path = layout.state / f"{role}.lock"
        try:
            self._file = os.fdopen(_opened(path, os.O_RDWR | os.O_CREAT), "r+")
        except OSError:
            # A card that has become read-only: a lock takes no writing.
            self._file = os.fdopen(_opened(path, os.O_RDONLY), "r")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise KioskError(
                f"start {role}",
                place=str(layout.root),
                cause=f"another {role} already runs here (process {holder})",
                hint="stop it first, or give this one another `spool.path`",
            ) from error
        if self._file.writable():
            self._file.truncate(0)
            self._file.write(str(os.getpid()))
            self._file.flush()

    def close(self) -> None:
        """Let the next one in."""
        self._file.close()


def _opened(path: Path, flags: int) -> int:
    """A file that both processes may write, never where a link of the other's making leads. Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660)
