"""Recipients by command: kept with their signature, judged again at each start, never back to plain."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract.commands import compose, target_of
from agent.contract.signed import public_key, sign
from agent.errors import KioskError
from agent.recorder.encryption import Recipients
from agent.recorder.rotation import FILE, Rotation, remembered
from tests.keys import age_key

ADMIN, MALLORY = bytes(range(32)), bytes(range(1, 33))
ISSUED_NS = 1_800_000_000 * 10**9


@pytest.fixture
def key(tmp_path: Path) -> str:
    return age_key(tmp_path).public


def ordered(*recipients: str, issued_s: int = 0, seed: bytes = ADMIN, device: str = "room-1") -> bytes:
    args = {"recipients": list(recipients)}
    now_ns = ISSUED_NS + issued_s * 10**9
    document = compose("rotate-recipients", args, site="north", device=device, now_ns=now_ns, lifetime_s=60)
    return sign("command", document, seed)


def kept(directory: Path, payload: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / FILE).write_bytes(payload)
    return directory


def found(card: Path, memory: Path, *, configured: tuple[str, ...] = (), seed: bytes = ADMIN) -> Rotation | None:
    keys = {public_key(seed)}
    return remembered(card, memory, keys=keys, target=target_of("north", "room-1"), configured=configured)


def test_of_two_that_were_kept_the_one_issued_later_counts_wherever_it_lies(tmp_path: Path, key: str) -> None:
    other = age_key(tmp_path, "other").public
    for first, second in ((key, other), (other, key)):
        old, new = ordered(first), ordered(second, issued_s=1)
        for card, memory in ((old, new), (new, old)):
            rotation = found(kept(tmp_path / "card", card), kept(tmp_path / "memory", memory))
            assert rotation is not None
            assert (rotation.recipients, rotation.payload) == ((second,), new)


def test_without_any_the_file_counts(tmp_path: Path) -> None:
    assert found(tmp_path / "card", tmp_path / "memory") is None


@pytest.mark.parametrize("what", ["mallory", "room-2", "torn", "empty"])
def test_one_that_does_not_count_never_makes_a_kiosk_record_in_plain(tmp_path: Path, key: str, what: str) -> None:
    payload = {
        "mallory": ordered(key, seed=MALLORY),
        "room-2": ordered(key, device="room-2"),
        "torn": ordered(key)[:-9],
        "empty": b"",
    }[what]
    card = kept(tmp_path / "card", payload)
    assert found(card, tmp_path / "memory", configured=(key,)) is None, "the file's recipients count"
    with pytest.raises(KioskError, match="recipients") as refusal:
        found(card, tmp_path / "memory")
    assert not refusal.value.retryable


def test_a_card_that_can_not_be_read_does_not_make_a_kiosk_record_in_plain(tmp_path: Path, key: str) -> None:
    card = tmp_path / "card"
    (card / FILE).mkdir(parents=True)
    with pytest.raises(KioskError) as refusal:
        found(card, tmp_path / "memory")
    assert refusal.value.retryable
    rotation = found(card, kept(tmp_path / "memory", ordered(key)))
    assert rotation is not None, "memory knows it"


def test_what_is_encrypted_never_becomes_plain_by_a_change(key: str) -> None:
    recipients = Recipients([key])
    with pytest.raises(AssertionError):
        recipients.change([])
    assert len(recipients.now) == 1
