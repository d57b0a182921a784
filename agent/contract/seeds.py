"""Files of secret keys: 32 random bytes (an Ed25519 seed) as one line of base64, for their owner alone."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from pathlib import Path
from typing import Final

from agent.contract import secret_files
from agent.errors import KioskError

_SEED_BYTES: Final = 32


def make(path: Path, *, owner: tuple[int, int] | None = None) -> bytes:
    """A new key in a file of mode 0600, durable when it returns; a file that is there is never replaced.

    `owner` are the user and group it is given to. Raises KioskError.
    """
    seed = secrets.token_bytes(_SEED_BYTES)
    # Under another name first: a power cut must not leave half a key where a key is looked for.
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            if owner is not None:
                os.fchown(descriptor, *owner)
            file.write(base64.b64encode(seed) + b"\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(fresh, path)
        finally:
            fresh.unlink()
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except FileExistsError as error:
        raise KioskError("make key", place=str(path), cause="it exists", hint="choose another name") from error
    except OSError as error:
        raise KioskError(
            "make key", place=str(path), cause=error.strerror or str(error), hint="run this as who may write there"
        ) from error
    return seed


def load(path: Path, hint: str) -> bytes:
    """The seed in a file. Raises KioskError when it isn't one, or others may read it; `hint` for when there is none."""
    text = secret_files.read(path, "read key", hint=hint)
    try:
        seed = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        seed = b""
    if len(seed) != _SEED_BYTES:
        raise KioskError("read key", place=str(path), cause="it holds no key", hint="bring it back from your backup")
    return seed
