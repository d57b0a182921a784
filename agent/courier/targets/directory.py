"""Objects as files below a directory: a NAS, a USB disk.

`<root>/<key>` is the recording and `<root>/<key>.json` what is said about it. Each is written under a hidden temporary
name in the same directory, synced, and then given its name, the recording last: whoever sees a recording sees all of
it, also after a power cut, and its description is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from agent.courier.targets import Deed, DigestRefused, NeedsPerson, Outgoing, Receipt, TargetError, Unreachable
from agent.spool import sync_directory

if TYPE_CHECKING:
    from agent.courier.pace import Pace

_BLOCK = 1 << 17

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links answer to link(2): FAT, exFAT, many network shares."""

_HINTS = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or raise the quota",
    errno.EROFS: "it is mounted read-only: mount it read-write, or look for what is wrong with the disk",
    errno.EACCES: "let the courier's user write there",
    errno.EPERM: "let the courier's user write there",
    errno.ENOTDIR: "correct `upload.target`: part of it is a file",
    errno.ENOENT: "is the disk connected and mounted? Another disk, or a bare directory, counts after a restart",
    errno.ENAMETOOLONG: "choose a shorter `upload.target`",
}


class DirectoryTarget:
    """One directory, which must exist: an absent one is taken for a disk that isn't mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()
        self._device: int | None = None

    @property
    def prefix(self) -> str:
        return ""

    def put(self, outgoing: Outgoing, pace: Pace) -> Receipt:
        final = self._root / outgoing.key
        with pace.open(outgoing.path) as source:
            try:
                self._make_parents(final.parent)
                receipt = Receipt("already_there") if final.exists() else self._write(source, final, outgoing)
                # Also for what was there: the process that wrote it may have died before its name was durable.
                _sync(final.parent)
            except OSError as error:
                self._durable.clear()
                raise _sorted(error, final, self._root) from error
        return receipt

    def server_time(self) -> int | None:
        return None

    def allows(self, deed: Deed, key: str) -> bool:
        final = self._root / key
        try:
            match deed:
                case "get":
                    with final.open("rb") as file:
                        file.read(1)
                case "head":
                    final.stat()
                case "delete":
                    final.unlink()
                    final.with_name(f"{final.name}.json").unlink(missing_ok=True)
        except PermissionError:
            return False
        except OSError as error:
            raise _sorted(error, final, self._root) from error
        return True

    def describe(self) -> str:
        return f"directory {self._root}"

    def close(self) -> None:
        """Nothing is held."""

    def _make_parents(self, directory: Path) -> None:
        """Make everything from the root, which must exist, down to `directory`, durably."""
        if directory in self._durable:
            return
        self._check_mount()
        path = self._root
        for part in directory.relative_to(self._root).parts:
            parent, path = path, path / part
            path.mkdir(exist_ok=True)
            _sync(parent)
        self._durable.add(directory)

    def _check_mount(self) -> None:
        """Raise OSError unless the root is there and is the disk it was before, not the bare mount point below it."""
        device = self._root.stat().st_dev
        if not self._root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self._root))
        if self._device not in (None, device):
            raise FileNotFoundError(errno.ENOENT, "its disk was taken away", str(self._root))
        self._device = device

    def _write(self, source: IO[bytes], final: Path, outgoing: Outgoing) -> Receipt:
        fresh = final.with_name(f".{final.name}.part")
        with fresh.open("wb") as copy:
            digest = _copy(source, copy)
        if digest != outgoing.sha256:
            fresh.unlink()
            raise DigestRefused("copy to", place=str(final), cause=f"its SHA-256 is {digest}, not {outgoing.sha256}")
        self._describe_object(final, outgoing)
        return _name_without_replacing(fresh, final)

    def _describe_object(self, final: Path, outgoing: Outgoing) -> None:
        described = {**outgoing.metadata, "sha256": outgoing.sha256, "bytes": outgoing.size}
        fresh = final.with_name(f".{final.name}.json.part")
        with fresh.open("w") as file:
            json.dump(described, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(final.with_name(f"{final.name}.json"))


def _copy(source: IO[bytes], copy: IO[bytes]) -> str:
    """Copy and sync; the SHA-256 of what was copied."""
    sha256 = hashlib.sha256()
    while block := source.read(_BLOCK):
        sha256.update(block)
        copy.write(block)
    copy.flush()
    os.fsync(copy.fileno())
    return sha256.hexdigest()


def _name_without_replacing(fresh: Path, final: Path) -> Receipt:
    try:
        os.link(fresh, final)
    except FileExistsError:
        fresh.unlink()
        return Receipt("already_there")
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Nobody else writes this key: that it wasn't there a moment ago is good enough where links don't exist.
        fresh.rename(final)
    else:
        fresh.unlink()
    return Receipt("stored")


def _sync(directory: Path) -> None:
    try:
        sync_directory(directory)
    except OSError as error:
        # Some network file systems have no such operation; their server answers for itself.
        if error.errno != errno.EINVAL:
            raise


def _sorted(error: OSError, final: Path, root: Path) -> TargetError:
    hint = _HINTS.get(error.errno or 0)
    kind = Unreachable if hint is None else NeedsPerson
    place = root if error.errno == errno.ENOENT else final
    return kind(
        "copy to",
        place=str(place),
        cause=error.strerror or str(error),
        hint=hint or "look at the disk or the network share",
        retryable=True,
    )
