"""`kiosk-recorder enrol`: a key that is made once, and the file that an admin believes."""

from __future__ import annotations

import json
import stat

import pytest

from agent.contract.custody import Enrolment
from tests.cli.kiosk import Kiosk


@pytest.fixture
def enrolled(kiosk: Kiosk) -> Kiosk:
    kiosk.configure(rest=f'[custody]\nkey = "{kiosk.root}/device.key"')
    return kiosk


def test_the_key_is_made_once_and_its_public_half_told(enrolled: Kiosk) -> None:
    first = enrolled.run("enrol")
    assert first.status == 0, first.err
    enrolment = Enrolment.parse(first.out)
    assert (enrolment.site, enrolment.device) == ("north", "room-1")
    key = enrolled.root / "device.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = key.read_text().strip()
    assert secret not in first.out + first.err
    out = enrolled.root / "room-1.json"
    again = enrolled.run("enrol", "--out", out)
    assert again.status == 0
    assert Enrolment.parse(out.read_text()).key == enrolment.key
    assert key.read_text().strip() == secret
    assert "kept the key" in again.err


def test_status_says_who_signs_or_why_nobody_does(enrolled: Kiosk) -> None:
    assert "custody     unsigned: " in enrolled.run("status").out
    assert "kiosk-recorder enrol" in enrolled.run("status").out
    enrolled.run("enrol")
    told = enrolled.run("status").out
    assert "custody     signed by ed25519:" in told
    assert json.loads(enrolled.run("status", "--json").out)["signing_key"] in told


def test_a_key_that_others_may_read_is_refused(enrolled: Kiosk) -> None:
    enrolled.run("enrol")
    (enrolled.root / "device.key").chmod(0o644)
    answer = enrolled.run("enrol")
    assert answer.status == 2
    assert "chmod 600" in answer.err


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[custody]\nkey = ""', "names no key"),
        ('[custody]\nkey = "device.key"', "no absolute path"),
        ('[custody]\nmanifest_every = "1s"', "out of range"),
        ('[custody]\nkey = "/nonexistent/device.key"', "make key /nonexistent/device.key"),
    ],
)
def test_what_cant_be_is_said_in_a_line_and_a_way_out(kiosk: Kiosk, section: str, said: str) -> None:
    kiosk.configure(rest=section)
    answer = kiosk.run("enrol")
    assert answer.status == 2
    assert said in answer.err
    assert "→" in answer.err


def test_an_enrolment_goes_nowhere_else_in_silence(enrolled: Kiosk) -> None:
    answer = enrolled.run("enrol", "--out", "/nonexistent/room.json")
    assert answer.status == 2
    assert "/nonexistent/room.json" in answer.err
