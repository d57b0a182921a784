"""The fleet's admins, who sign flag documents, and somebody who would like to be one."""

from __future__ import annotations

import base64
import json
from typing import Any

from agent.contract.signed import Kind, public_key, sign
from tests.contract.flag_documents import document

SEED, SECOND_SEED, STRANGERS_SEED = bytes(range(32)), bytes(range(1, 33)), bytes(32)
KEY, SECOND_KEY = public_key(SEED), public_key(SECOND_SEED)


def decided(version: int, variant: str, *, seed: bytes = SEED, **more: Any) -> bytes:  # noqa: ANN401
    """The payload that chooses `variant` of `offline_recording` for all."""
    return sign("flags", document(version, default=variant, **more), seed)


def changed(payload: bytes, **parts: object) -> bytes:
    """An envelope with some parts replaced; None takes one away."""
    envelope: dict[str, Any] = json.loads(payload) | parts
    return json.dumps({name: part for name, part in envelope.items() if part is not None}).encode()


def attacks(version: int, variant: str) -> dict[str, tuple[bytes, str]]:
    """Payloads that would choose `variant` if they counted, with the reason for which they don't."""
    good, other = decided(version, variant), decided(version + 1, variant)
    text = json.loads(other)["signed"]
    kinds: tuple[Kind, ...] = ("command", "rollout")
    return {
        "unsigned": (json.dumps(document(version, default=variant)).encode(), "unsigned"),
        "signature taken away": (changed(good, signature=None), "unsigned"),
        "key taken away": (changed(good, key=None), "unsigned"),
        "a stranger's": (decided(version, variant, seed=STRANGERS_SEED), "wrong_key"),
        "a stranger's under our name": (
            changed(decided(version, variant, seed=STRANGERS_SEED), key=KEY),
            "bad_signature",
        ),
        "another text": (changed(good, signed=text), "bad_signature"),
        "one more blank": (changed(good, signed=json.loads(good)["signed"] + " "), "bad_signature"),
        "a signature of zeros": (changed(good, signature=base64.b64encode(bytes(64)).decode()), "bad_signature"),
        "no signature": (changed(good, signature="x"), "bad_signature"),
        **{
            f"signed as a {kind}": (sign(kind, document(version, default=variant), SEED), "bad_signature")
            for kind in kinds
        },
        "too long": (good + b" " * 256 * 1024, "malformed"),
        "cut off": (good[:-1], "malformed"),
        "garbage": (b"\xff\x00" * 500, "malformed"),
        "nested without end": (b"[" * 200_000, "malformed"),
        "a number without end": (b'{"signed":' + b"9" * 200_000 + b"}", "malformed"),
        "no document": (sign("flags", {}, SEED), "invalid"),
        "no version": (sign("flags", {"flags": {}}, SEED), "invalid"),
        "a mistake": (decided(version, "perhaps"), "invalid"),
    }
