"""Signed documents: what counts and what doesn't."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.signed import LONGEST_BYTES, Kind, Refused, is_public_key, opened, public_key, sign

SEED, OTHER = bytes(range(32)), bytes(32)
KEYS = [public_key(SEED)]

documents = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=8), max_size=4
)


def refusal(payload: bytes, kind: Kind = "command") -> str:
    with pytest.raises(Refused) as refused:
        opened(kind, payload, KEYS)
    return refused.value.reason


def changed(**parts: object) -> bytes:
    """A good envelope with some parts replaced; None takes one away."""
    envelope: dict[str, Any] = json.loads(sign("command", {"verb": "report"}, SEED)) | parts
    return json.dumps({name: part for name, part in envelope.items() if part is not None}).encode()


@given(documents)
def test_what_an_admin_signed_is_read_as_it_was_said(document: dict[str, Any]) -> None:
    payload = sign("flags", document, SEED)
    found = opened("flags", payload, KEYS)
    assert found.document == document
    assert (found.key, found.payload) == (KEYS[0], payload)


def test_a_document_of_one_kind_does_not_pass_for_another() -> None:
    assert refusal(sign("flags", {}, SEED)) == "bad_signature"


def test_a_key_that_is_not_listed_does_not_count() -> None:
    assert refusal(sign("command", {}, OTHER)) == "wrong_key"
    assert refusal(changed(key=public_key(OTHER))) == "wrong_key"


@pytest.mark.parametrize("part", ["key", "signature"])
def test_without_key_or_signature_it_is_unsigned(part: str) -> None:
    assert refusal(changed(**{part: None})) == "unsigned"


def test_one_changed_letter_spoils_the_signature() -> None:
    assert refusal(changed(signed='{"verb":"restart"}')) == "bad_signature"


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"\xff", b"[" * 50_000, b'{"signed": NaN}', changed(signed=1), changed(key=["x"])],
)
def test_what_is_no_envelope_is_malformed(payload: bytes) -> None:
    assert refusal(payload) == "malformed"


def test_a_signed_text_that_is_no_object_is_malformed() -> None:
    import base64

    from nacl.signing import SigningKey

    signature = SigningKey(SEED).sign(b"kiosk-recorder/command/1\n[1]").signature
    assert refusal(changed(signed="[1]", signature=base64.b64encode(signature).decode())) == "malformed"


@pytest.mark.parametrize("signature", ["", "!", "AAAA", "é" * 88])
def test_a_signature_that_cannot_be_one_is_refused(signature: str) -> None:
    assert refusal(changed(signature=signature)) == "bad_signature"


def test_a_payload_that_is_too_long_is_refused_unread() -> None:
    assert refusal(b"{" + b" " * LONGEST_BYTES["command"]) == "malformed"


@pytest.mark.parametrize("text", ["", "ed25519:", "ed25519:AAAA", KEYS[0][:-1], KEYS[0].replace("ed25519", "rsa")])
def test_what_cannot_be_a_public_key_is_told_apart(text: str) -> None:
    assert is_public_key(KEYS[0])
    assert not is_public_key(text)
