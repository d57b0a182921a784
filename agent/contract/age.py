"""Recordings that only the holders of a key can hear: age v1 files (https://age-encryption.org/v1).

    header    text: a stanza for each recipient, one that means nothing, and a MAC on the line that begins with "---"
    nonce     16 bytes
    chunks    64 KiB of content and a tag of 16 bytes each; the last may be shorter, and it alone is marked as the last

Who has one of the keys can tell a file that was cut short from a whole one, and read every whole chunk of it. Whoever
hasn't can still tell that it is such a file, and how much it holds.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NewType, Protocol

from agent.contract import secret_files
from agent.errors import KioskError
from agent.units import MisreadError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

MAGIC: Final = b"age-encryption.org/v1\n"
CHUNK_BYTES: Final = 64 * 1024
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 16

MOST_RECIPIENTS: Final = 20
"""Each takes a hundred bytes or so of every file."""

LONGEST_HEADER_BYTES: Final = 16 * 1024
"""With as many recipients it is a fifth of that; pyrage takes 46 s for a stranger's header of 650 kB."""

PATTERN: Final = r"^(age1[02-9ac-hj-np-z]{58}|ssh-ed25519 [A-Za-z0-9+/]+={0,2}( .*)?)$"

Recipient = NewType("Recipient", object)
"""A public key that pyrage has understood."""


class Reader(Protocol):
    """Where content comes from; `b""` is its end."""

    def read(self, size: int, /) -> bytes: ...


class Appendable(Protocol):
    """Where a file goes."""

    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


def recipient(text: str) -> Recipient:
    """The public key that `text` writes: "age1…" or "ssh-ed25519 …". Raises MisreadError, which doesn't repeat it."""
    import pyrage

    wanted = 'write "age1…" as `age-keygen` shows it, or the line "ssh-ed25519 …" of a .pub file'
    if text.startswith(("AGE-SECRET-KEY-", "-----BEGIN")):
        raise MisreadError(
            "is a secret key, which no kiosk should ever hold", "write the public key that belongs to it"
        )
    kinds = {"age1": pyrage.x25519, "ssh-ed25519 ": pyrage.ssh}
    kind = next((kind for start, kind in kinds.items() if text.startswith(start)), None)
    if kind is None or not text.isprintable():
        raise MisreadError("isn't a public key that recordings can be encrypted to", wanted)
    try:
        return Recipient(kind.Recipient.from_str(text))
    except (pyrage.RecipientError, ValueError) as error:
        raise MisreadError("is a public key with a mistake in it", "copy it again, whole") from error


def key_pair() -> tuple[str, str]:
    """A new key: what `age-keygen` would write for its holder, and the public one that belongs to it."""
    import pyrage

    secret = pyrage.x25519.Identity.generate()
    return f"{secret}\n", str(secret.to_public())


def label(text: str) -> str:
    """Which public key `text` is, short, for who compares it with one at hand: `age-keygen -y`, `ssh-keygen -l`."""
    if not text.startswith("ssh-"):
        return f"{text[:12]}…{text[-6:]}"
    kind, key, *comment = text.split(" ", 2)
    fingerprint = base64.b64encode(hashlib.sha256(base64.b64decode(f"{key}==")).digest()).decode()
    return " ".join([kind, f"SHA256:{fingerprint[:16]}…", *(f"({each})" for each in comment if each)])


def encrypt(content: Reader, file: Appendable, recipients: Sequence[Recipient]) -> None:
    """Read `content` to its end and write it as a file for `recipients`.

    A chunk is written when the first byte after it has been read; the header comes with the first.
    """
    import pyrage

    pyrage.encrypt_io(content, file, recipients)  # type: ignore[arg-type]


def header_bytes(beginning: bytes) -> int | None:
    """Where the nonce begins in a file whose first LONGEST_HEADER_BYTES are given; None: it is no such file."""
    if not beginning.startswith(MAGIC):
        return None
    mac = beginning.find(b"\n--- ", 0, LONGEST_HEADER_BYTES)
    end = beginning.find(b"\n", mac + 1, LONGEST_HEADER_BYTES) if mac >= 0 else -1
    return end + 1 if end >= 0 else None


def content_bytes(header: int, size: int) -> int:
    """How much a file of `size` bytes holds in chunks of which nothing is missing; of a whole one, everything."""
    chunks, rest = divmod(max(0, size - header - NONCE_BYTES), CHUNK_BYTES + TAG_BYTES)
    return chunks * CHUNK_BYTES + max(0, rest - TAG_BYTES)


class PublicKey:
    """Marks a `str` as a recipient: `Annotated[str, PublicKey()]`. Pydantic reads it; nothing is imported for it."""

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def checked(text: str) -> str:
            recipient(text)
            return text

        return core_schema.no_info_after_validator_function(checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": PATTERN}


def decrypt(file: IO[bytes], content: Appendable, identities: Sequence[Identity]) -> bool:
    """Write to `content` what every whole chunk of `file`, which can be sought, holds. False: it was cut short.

    Nothing is written that isn't as it was encrypted. Raises NotForUs when none of `identities` opens it, NotEncrypted
    when it isn't such a file or is damaged.
    """
    import pyrage

    header = header_bytes(file.read(LONGEST_HEADER_BYTES))
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if header is None:
        raise NotEncrypted(f"its header doesn't end within {LONGEST_HEADER_BYTES} bytes")
    writer = _Told(content)
    try:
        pyrage.decrypt_io(file, writer, identities)  # type: ignore[arg-type]
    except pyrage.DecryptError as error:
        if "matching keys" in str(error):
            raise NotForUs from error
        raise NotEncrypted(str(error)) from error
    except OSError:
        if writer.failure is not None:
            raise writer.failure from None
        whole = content_bytes(header, size) // CHUNK_BYTES
        if writer.count < whole * CHUNK_BYTES:
            raise NotEncrypted(f"chunk {writer.count // CHUNK_BYTES + 1} of {whole} is damaged") from None
        return False
    return True


class NotForUs(Exception):
    """None of the keys at hand opens it."""


class NotEncrypted(Exception):
    """It isn't such a file, or it is damaged."""


Identity = NewType("Identity", object)
"""A secret key that pyrage has understood."""

_UNPROTECT: Final = "make a copy without one in memory: `cp KEY /dev/shm/key; ssh-keygen -p -N '' -f /dev/shm/key`"


def identities(path: Path) -> list[Identity]:
    """The secret keys of a file: as `age-keygen` makes it, or a private key of SSH.

    Raises KioskError, also when others may read it; what it says never holds a key.
    """
    content = secret_files.read(path, "read key")
    if content.startswith((b"-----BEGIN AGE ENCRYPTED", MAGIC)):
        raise _no_key(path, "is protected by a passphrase", f"decrypt it into memory: age -d {path} > /dev/shm/key")
    if content.startswith(b"-----BEGIN"):
        return [_ssh(path, content)]
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise _no_key(path, "holds no key")
    return [_x25519(path, key) for key in keys]


def _x25519(path: Path, text: str) -> Identity:
    import pyrage

    try:
        return Identity(pyrage.x25519.Identity.from_str(text))
    except (pyrage.IdentityError, ValueError):
        if text.startswith(("age1", "ssh-")):
            raise _no_key(path, "is a public key", "name the secret one that belongs to it") from None
        raise _no_key(path, "isn't a key of age or SSH") from None


def _ssh(path: Path, content: bytes) -> Identity:
    import pyrage

    try:
        return Identity(pyrage.ssh.Identity.from_buffer(content))
    except (pyrage.IdentityError, ValueError) as error:
        if "decrypted" in str(error):
            raise _no_key(path, "is protected by a passphrase", _UNPROTECT) from None
        raise _no_key(path, "isn't a private key that age can use", "use an ssh-ed25519 key") from None


def _no_key(path: Path, cause: str, hint: str = "") -> KioskError:
    return KioskError("read key", place=str(path), cause=cause, hint=hint)


class _Told:
    """Remembers how much was written, and why no more could be: pyrage doesn't say on which side an error was."""

    def __init__(self, content: Appendable) -> None:
        self._content = content
        self.count = 0
        self.failure: OSError | None = None

    def write(self, data: bytes, /) -> int:
        try:
            written = self._content.write(data)
        except OSError as error:
            self.failure = error
            raise
        self.count += written
        return written

    def flush(self) -> None:
        self._content.flush()
