"""Whoever can't be encrypted to keeps the kiosk from starting: it never records in plain instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.settings import Seal
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.keys import PUBLIC, SECRET, age_key
from tests.recorder.room import WriterRoom, noise, settings


@pytest.mark.parametrize(
    ("recipients", "said"),
    [
        (["age1nonsense"], "seal.recipients[0]: the value is a public key with a mistake in it"),
        (
            [PUBLIC, "ssh-rsa AAAA"],
            "seal.recipients[1]: the value isn't a public key that recordings can be encrypted to",
        ),
        ([SECRET], "seal.recipients[0]: the value is a secret key, which no kiosk should ever hold"),
        ([PUBLIC, PUBLIC], "seal.recipients[1]: is there twice"),
    ],
)
def test_a_bad_recipient_is_told_with_its_place_and_nothing_starts(
    kiosk: Kiosk, recipients: list[str], said: str
) -> None:
    kiosk.configure(rest=f"[seal]\nrecipients = {recipients}\n")
    answer = kiosk.run("record")
    assert answer.status == 2
    assert said in answer.err
    assert SECRET not in answer.err
    assert not kiosk.spool.exists()


def test_a_kiosk_that_encrypts_nothing_is_noted(kiosk: Kiosk) -> None:
    assert "seal.recipients is empty" in kiosk.run("config", "check").out
    kiosk.configure(rest=f'[seal]\nrecipients = ["{PUBLIC}"]\n')
    answer = kiosk.run("config", "check")
    assert (answer.status, "seal.recipients" in answer.out) == (0, False)


def test_verify_looks_into_what_is_encrypted_where_a_key_is_at_hand(kiosk: Kiosk) -> None:
    key, other = age_key(kiosk.root), age_key(kiosk.root, "other")
    room = WriterRoom(replace(settings(kiosk.spool), seal=Seal(recipients=(key.public,))), FakeClock())
    room.hear(noise(5))
    room.end()
    for with_key in ((), ("-i", key.secret)):
        answer = kiosk.run("verify", *with_key)
        assert (answer.status, "all is well" in answer.out) == (0, True), answer.out
    answer = kiosk.run("verify", "-i", other.secret)
    assert (answer.status, answer.out.count("can't be opened: isn't encrypted to this key")) == (1, 3)
    for path in room.layout.sealed.glob("*-000001.flac.age"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "hash: spool/sealed/" in kiosk.run("verify").out
