"""Where recordings lie, as an auditor sees it: objects to be listed and read, and vouched for by the store itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from agent.contract.bucket import Found
from agent.errors import KioskError

_DESCRIBED: Final = (".flac.json", ".age.json", ".json.json")
"""What a kiosk lays beside each object in a directory: it tells nothing that the manifests don't."""


class Store(Protocol):
    """Every method may be called from several threads. All raise KioskError when the store doesn't answer."""

    prefix: str
    """What was named to be looked at, without slashes at its ends."""

    def walk(self, prefix: str) -> Iterator[Found]:
        """Every object whose key begins so, in the order of the keys, a page at a time."""

    def everything(self, prefix: str) -> Iterator[str]:
        """Every key that begins so of which the store holds anything, be it an old version behind a mark of removal."""

    def below(self, prefix: str) -> list[str]:
        """The names directly below a prefix under which there is more; of `prefix` with a slash at its end."""

    def read(self, key: str, most: int) -> bytes:
        """An object of at most so many bytes; of a longer one its beginning."""

    def sha256(self, key: str) -> str:
        """Hex digest of an object that is read for it; "" when it isn't there any more."""

    def attested(self, key: str) -> str | None:
        """The digest that the store itself keeps; None when it keeps none, "" when the object isn't there any more."""

    def remove(self, key: str, *, bypass_governance: bool = False) -> None:
        """Remove an object for ever, every version of it. One that isn't there is no error.

        With `bypass_governance` a lock in that mode doesn't count. Raises KioskError when the store refuses: these
        credentials may not, or it is locked.
        """


def open_store(place: str, endpoint_url: str = "", region: str = "") -> Store:
    """The store that was named. Raises KioskError."""
    if place.startswith("s3://"):
        from fleet.bucket import Bucket

        name, _, prefix = place.removeprefix("s3://").partition("/")
        return Bucket(name, prefix, endpoint_url=endpoint_url, region=region)
    root = Path(place.removeprefix("file://"))
    if not root.is_dir():
        raise KioskError(
            "open store", place=place, cause="no such directory", hint="name it s3://bucket/prefix, or a directory"
        )
    return Folder(root)


class Folder:
    """A directory that a kiosk filled. A key that would lead elsewhere is refused: KioskError."""

    prefix = ""

    def __init__(self, root: Path) -> None:
        self._root = root

    def walk(self, prefix: str) -> Iterator[Found]:
        # From the deepest directory that the prefix names.
        start = prefix.rpartition("/")[0]
        self._path(start)
        for found in self._below(start):
            if found.key.startswith(prefix):
                yield found

    def everything(self, prefix: str) -> Iterator[str]:
        return (found.key for found in self.walk(prefix))

    def below(self, prefix: str) -> list[str]:
        try:
            with os.scandir(self._path(prefix.rstrip("/"))) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []

    def read(self, key: str, most: int) -> bytes:
        try:
            with self._path(key).open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise _told(self._root / key, error) from error

    def sha256(self, key: str) -> str:
        try:
            with self._path(key).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise _told(self._root / key, error) from error

    def attested(self, key: str) -> str | None:  # noqa: ARG002 (a store's)
        return None

    def remove(self, key: str, *, bypass_governance: bool = False) -> None:  # noqa: ARG002 (a store's)
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.json").unlink(missing_ok=True)
        except OSError as error:
            raise _told(path, error) from error

    def _path(self, key: str) -> Path:
        """Where it lies. In a bucket these parts are names like others; here they'd be ways."""
        if key and not {"", ".", ".."}.isdisjoint(key.split("/")):
            raise KioskError("read store", place=f"{self._root}, {key!r}", cause="no object is called so")
        return self._root / key

    def _below(self, directory: str) -> Iterator[Found]:
        try:
            with os.scandir(self._root / directory) as entries:
                # As S3 orders keys: a directory counts with its slash.
                found = sorted(entries, key=lambda entry: entry.name + "/" * entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _told(self._root / directory, error) from error
        for entry in found:
            key = f"{directory}/{entry.name}" if directory else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(key)
            elif not entry.name.startswith(".") and not entry.name.endswith(_DESCRIBED):
                status = entry.stat()
                yield Found(key, status.st_size, status.st_mtime_ns)


def _told(path: Path, error: OSError) -> KioskError:
    return KioskError(
        "read store", place=str(path), cause=error.strerror or str(error), hint="run this as who may read there"
    )
