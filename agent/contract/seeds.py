"""Files of secret keys: 32 random bytes (an Ed25519 seed) as one line of base64, for their owner alone."""

from __future__ import annotations

import base64
import binascii
import secrets
from pathlib import Path
from typing import Final

from agent.contract import new_file, secret_files
from agent.errors import KioskError

_SEED_BYTES: Final = 32


def make(path: Path, *, owner: tuple[int, int] | None = None) -> bytes:
    """A new key in a file of mode 0600, durable when it returns; a file that is there is never replaced.

    `owner` are the user and group it is given to. Raises KioskError.
    """
    seed = secrets.token_bytes(_SEED_BYTES)
    try:
        new_file.make(path, base64.b64encode(seed) + b"\n", mode=0o600, owner=owner)
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
