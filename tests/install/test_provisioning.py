"""docs/PROVISIONING.md, typed on a machine line by line, makes it a kiosk and takes the kiosk away again."""

from __future__ import annotations

import tomllib

import pytest

from tests.documents.page import blocks
from tests.install.conftest import FIRST
from tests.install.machine import ETC, OPT, SPOOL, Machine, installation
from tests.keys import PUBLIC

pytestmark = pytest.mark.timeout(600)  # the first to ask for a machine waits for pip

LINES = [line.removeprefix("sudo ") for block in blocks("PROVISIONING", "sh") for line in block.splitlines()]
STICK = "root/stick"
ADMIN = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.fixture
def stick(kiosk: Machine) -> Machine:
    """With what a technician brings; its install.sh knows by itself where the wheels are."""
    (file,) = blocks("PROVISIONING", "toml")
    kiosk.write(f"{STICK}/room-12.toml", file.replace("age1…", PUBLIC).replace("ed25519:…", ADMIN))
    for name in ("broker-ca.crt", "room-12.crt", "room-12.key", "environment", "aws-config"):
        kiosk.write(f"{STICK}/{name}", "")
    command, *options = installation(FIRST)
    kiosk.write(f"{STICK}/install.sh", f'#!/bin/bash\nexec {command} "$@" {" ".join(options)}\n', 0o755)
    return kiosk


def test_what_the_page_says_makes_a_kiosk_and_takes_it_away(stick: Machine) -> None:
    for line in LINES:
        said = stick.run("bash", "-c", f"cd /{STICK} && {line}")
        # A machine of the tests has no microphone: its check is red.
        assert said.status in ({0, 1} if line.startswith("kiosk-recorder check") else {0}), said.text
        if line.endswith("--dry-run"):
            assert said.nothing_changed
        elif line.endswith("--config room-12.toml"):
            assert f"Release {FIRST} records." in said.text
            config = tomllib.loads(stick.file(ETC / "config.toml").read_text())
            assert config["seal"]["recipients"] == [PUBLIC]
            key = stick.run("stat", "-c", "%U %a", f"/{ETC}/room-12.key")
            assert key.text.strip() == "kiosk-courier 600"
    assert not stick.file(OPT).exists()
    assert stick.file(ETC / "config.toml").exists()
    assert stick.file(SPOOL).exists()
