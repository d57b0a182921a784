"""Documents that count only with a signature: an admin's commands, flags and roll-outs, a device's custody (DESIGN §5).

    {"signed": "<the document: JSON text>", "key": "ed25519:<base64>", "signature": "<base64>"}

The signature (Ed25519) is over `kiosk-recorder/{kind}/1`, a newline, and that text byte for byte: whoever checks it
never has to write JSON the way somebody else did, and a document of one kind never passes for another.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from agent.units import MisreadError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

Kind = Literal["command", "flags", "rollout", "manifest", "tombstone", "head"]

PREFIX: Final = "ed25519:"
KEY_PATTERN: Final = r"^ed25519:[A-Za-z0-9+/]{43}=$"
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64

LONGEST_BYTES: Final[Mapping[Kind, int]] = {
    "command": 16 * 1024,
    "flags": 256 * 1024,
    "rollout": 4 * 2**20,
    "manifest": 8 * 2**20,
    "tombstone": 8 * 2**20,
    "head": 1024,
}
"""Payloads beyond this are refused unread. A roll-out holds a few counters of each kiosk: of ten thousand, 2 MB. A
tombstone names what was erased: of 5000 recordings, whose keys may have 1 KiB each (agent.courier.mason)."""


class Refused(Exception):
    """A payload that doesn't count; `reason` is one word for programs, the message says it to a person."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Signed:
    """A document whose signature was found good."""

    document: dict[str, Any]
    key: str
    """The public key that signed it."""
    payload: bytes
    """As it came: whoever gets it passed on can check it again."""


def sign(kind: Kind, document: Mapping[str, Any], seed: bytes) -> bytes:
    """The payload that says `document` in the name of a secret key (its 32-byte `seed`)."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    envelope = {"signed": text, "key": public_key(seed), "signature": signature(kind, text, seed)}
    return json.dumps(envelope, separators=(",", ":"), ensure_ascii=False).encode()


def signature(kind: Kind, text: str, seed: bytes) -> str:
    """The bare signature of a text, base64."""
    from nacl.signing import SigningKey

    return base64.b64encode(SigningKey(seed).sign(_spoken(kind, text)).signature).decode()


def is_signature(kind: Kind, text: str, key: str, signature: str) -> bool:
    """Whether a bare signature is that of `key` over this text."""
    try:
        _check(kind, text, key, signature)
    except Refused:
        return False
    return True


def opened(kind: Kind, payload: bytes, keys: Collection[str]) -> Signed:
    """What a payload says, if one of `keys` signed it.

    Raises Refused: `malformed`, `unsigned`, `wrong_key` (nobody we listen to) or `bad_signature`.
    """
    if len(payload) > LONGEST_BYTES[kind]:
        raise Refused("malformed", f"{len(payload)} bytes are too much")
    envelope = parsed(payload)
    text, key, signature = (envelope.get(name) for name in ("signed", "key", "signature"))
    if signature is None or key is None:
        raise Refused("unsigned", "it isn't signed")
    if not (isinstance(text, str) and isinstance(key, str) and isinstance(signature, str)):
        raise Refused("malformed", "its parts aren't text")
    if key not in keys:
        raise Refused("wrong_key", "it is signed with a key that isn't listed here")
    _check(kind, text, key, signature)
    return Signed(parsed(text), key, payload)


def parsed(text: str | bytes) -> dict[str, Any]:
    """A JSON object that somebody sent. Raises Refused (`malformed`)."""
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Refused("malformed", f"it isn't JSON, from line {error.lineno}, column {error.colno} on") from error
    except (ValueError, RecursionError) as error:
        raise Refused("malformed", "it isn't JSON") from error
    if not isinstance(found, dict):
        raise Refused("malformed", "it isn't a JSON object")
    return found


def public_key(seed: bytes) -> str:
    """The public half, as configuration and documents name it: "ed25519:…"."""
    from nacl.signing import SigningKey

    return PREFIX + base64.b64encode(bytes(SigningKey(seed).verify_key)).decode()


def is_public_key(text: str) -> bool:
    """Whether `text` may be a public key."""
    return text.startswith(PREFIX) and _decoded(text.removeprefix(PREFIX), _KEY_BYTES) is not None


def _check(kind: Kind, text: str, key: str, signature: str) -> None:
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    public, proof = _decoded(key.removeprefix(PREFIX), _KEY_BYTES), _decoded(signature, _SIGNATURE_BYTES)
    if public is None or proof is None:
        raise Refused("bad_signature", "its signature can't be one")
    try:
        VerifyKey(public).verify(_spoken(kind, text), proof)
    except (BadSignatureError, ValueError) as error:
        raise Refused("bad_signature", "its signature is not that of its key") from error


def _spoken(kind: Kind, text: str) -> bytes:
    # Lone surrogates are JSON, but no text: they can't have been signed by `sign`.
    return f"kiosk-recorder/{kind}/1\n{text}".encode(errors="surrogatepass")


def _decoded(text: str, length: int) -> bytes | None:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # One way of writing it alone: the last character has bits that say nothing.
    return found if len(found) == length and base64.b64encode(found).decode() == text else None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


class PublicKey:
    """Marks a `str` as a public key: `Annotated[str, PublicKey()]`. Pydantic reads it; nothing is imported for it."""

    def __get_pydantic_core_schema__(self, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        def checked(text: str) -> str:
            if not is_public_key(text):
                raise MisreadError("isn't a public key", "`kiosk-fleet keys list` shows yours: ed25519:…")
            return text

        return core_schema.no_info_after_validator_function(checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": KEY_PATTERN}
