"""age v1 files, piece by piece (https://age-encryption.org/v1): also such as nobody would make but to do harm.

Written from the specification over PyNaCl, so that what is wrong in pyrage, or in the program `age`, isn't wrong here
as well.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from typing import Final

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)

from agent.contract import age
from tests.keys import PUBLIC

_LETTERS: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHECKSUM_LETTERS: Final = 6
_COLUMNS: Final = 64

FILE_KEY: Final = bytes(range(16))
SECRET_OF_STANZA: Final = bytes(range(32))
NONCE: Final = bytes(range(100, 116))


def key_of(public: str) -> bytes:
    """The 32 bytes that "age1…" writes in Bech32."""
    letters = public.rpartition("1")[2][:-_CHECKSUM_LETTERS]
    value = 0
    for letter in letters:
        value = value << 5 | _LETTERS.index(letter)
    return (value >> 5 * len(letters) - 256).to_bytes(32, "big")


def stanza(public: str = PUBLIC) -> bytes:
    """The file key, for the holder of one X25519 key."""
    key = key_of(public)
    share = crypto_scalarmult_base(SECRET_OF_STANZA)
    shared = crypto_scalarmult(SECRET_OF_STANZA, key)
    wrapping = derived(shared, share + key, b"age-encryption.org/v1/X25519")
    return another_stanza([b"X25519", unpadded(share)], sealed(FILE_KEY, bytes(12), wrapping))


def another_stanza(arguments: Sequence[bytes], body: bytes) -> bytes:
    """One of any kind."""
    text = unpadded(body)
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text) + 1, _COLUMNS)]
    return b"-> " + b" ".join(arguments) + b"\n" + b"".join(line + b"\n" for line in lines)


def header(stanzas: Sequence[bytes]) -> bytes:
    """Up to the nonce, with the MAC that belongs to it."""
    text = age.MAGIC + b"".join(stanzas) + b"---"
    mac = hmac.digest(derived(FILE_KEY, b"", b"header"), text, "sha256")
    return text + b" " + unpadded(mac) + b"\n"


def payload(chunks: Sequence[tuple[bytes, bool]], *, first: int = 0) -> bytes:
    """The nonce and each chunk with its mark: whether it is the last. They are counted from `first` on."""
    key = derived(FILE_KEY, NONCE, b"payload")
    made = [
        sealed(content, number.to_bytes(11, "big") + bytes([last]), key)
        for number, (content, last) in enumerate(chunks, first)
    ]
    return NONCE + b"".join(made)


def chunks_of(content: bytes, size: int = age.CHUNK_BYTES) -> list[tuple[bytes, bool]]:
    """As everybody cuts it; of another `size` nobody does."""
    pieces = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
    return [(piece, number == len(pieces)) for number, piece in enumerate(pieces, 1)]


def whole(content: bytes, stanzas: Sequence[bytes] = (), public: str = PUBLIC) -> bytes:
    """A file as it should be, with `stanzas` for others before the one for `public`."""
    return header([*stanzas, stanza(public)]) + payload(chunks_of(content))


def derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes by HKDF with SHA-256 (RFC 5869)."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def sealed(content: bytes, nonce: bytes, key: bytes) -> bytes:
    """By ChaCha20-Poly1305 (RFC 8439)."""
    return crypto_aead_chacha20poly1305_ietf_encrypt(content, None, nonce, key)


def unpadded(data: bytes) -> bytes:
    """Base64 without `=`."""
    return base64.b64encode(data).rstrip(b"=")
