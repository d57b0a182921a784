"""Signing keys on an admin's disk, by the command an admin uses."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.contract.signed import opened, sign
from agent.errors import KioskError
from fleet import keyring


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def fleet(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KIOSK_FLEET_KEYS": str(where)}
    return subprocess.run(
        [sys.executable, "-m", "fleet.cli", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_a_key_is_made_once_for_its_owner_alone_and_signs(where: Path) -> None:
    made = fleet(where, "keys", "make", "alice")
    assert made.returncode == 0, made.stderr
    path = where / "alice.key"
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(where.stat().st_mode)) == (0o600, 0o700)
    public = made.stdout.strip()
    assert f'admin_keys = ["{public}"]' in made.stderr
    key = keyring.load(path)
    assert opened("flags", sign("flags", {"a": 1}, key.seed), [public]).document == {"a": 1}
    before = path.read_bytes()
    again = fleet(where, "keys", "make", "alice")
    assert again.returncode == 2
    assert "it exists" in again.stderr
    assert path.read_bytes() == before


def test_keys_are_listed_by_their_public_half_alone(where: Path) -> None:
    public = [keyring.make(where, name).public for name in ("alice", "bob")]
    assert json.loads(fleet(where, "keys", "list", "--json").stdout) == dict(zip(("alice", "bob"), public, strict=True))
    listed = fleet(where, "keys", "list").stdout
    assert [line.split() for line in listed.splitlines()] == [["alice", public[0]], ["bob", public[1]]]


def test_without_keys_the_way_to_one_is_told(where: Path) -> None:
    found = fleet(where, "keys", "list")
    assert (found.returncode, found.stdout) == (0, "")
    assert "keys make" in found.stderr


def test_a_key_that_others_may_read_is_refused(where: Path) -> None:
    keyring.make(where, "alice")
    (where / "alice.key").chmod(0o640)
    with pytest.raises(KioskError, match="others may read it"):
        keyring.load(where / "alice.key")


@pytest.mark.parametrize("content", [b"", b"AAAA", b"\xff" * 44, b"not base64!"])
def test_a_file_that_holds_no_key_is_refused(where: Path, content: bytes) -> None:
    keyring.make(where, "alice")
    (where / "alice.key").write_bytes(content)
    with pytest.raises(KioskError, match="holds no key"):
        keyring.load(where / "alice.key")


@pytest.mark.parametrize("name", ["", "A", "../evil", "-x", "a" * 64])
def test_a_key_cannot_be_called_anything(where: Path, name: str) -> None:
    with pytest.raises(KioskError, match="can't be a name"):
        keyring.make(where, name)


def test_the_only_key_is_taken_unless_another_is_named(where: Path) -> None:
    environment = {"KIOSK_FLEET_KEYS": str(where)}
    with pytest.raises(KioskError, match="there is no key"):
        keyring.chosen(None, environment)
    alice = keyring.make(where, "alice")
    assert keyring.chosen(None, environment) == alice
    bob = keyring.make(where, "bob")
    with pytest.raises(KioskError, match="2 keys"):
        keyring.chosen(None, environment)
    assert keyring.chosen("bob", environment) == bob
    assert keyring.chosen(None, environment | {"KIOSK_FLEET_KEY": "bob"}) == bob
    assert keyring.chosen(str(where / "alice.key"), environment) == alice


def test_a_key_does_not_show_its_secret_when_it_is_printed(where: Path) -> None:
    assert repr(keyring.make(where, "alice")) == "Key(alice)"


def test_a_colleagues_key_is_trusted_by_name_and_never_replaced(where: Path, tmp_path: Path) -> None:
    own = keyring.make(where, "alice").public
    public = keyring.make(tmp_path / "elsewhere", "bob").public
    assert fleet(where, "keys", "trust", "bob", public).returncode == 0
    assert keyring.trusted(where) == {own: "alice", public: "bob"}
    listed = fleet(where, "keys", "list").stdout.splitlines()
    assert listed[1].split() == ["bob", public, "(a", "colleague)"]
    for name, key in (("bob", own), ("carol", "ed25519:x"), ("../x", public)):
        with pytest.raises(KioskError, match="trust key"):
            keyring.trust(where, name, key)
    assert keyring.trusted(where) == {own: "alice", public: "bob"}
    (where / "carol.pub").write_text("ed25519:x")
    with pytest.raises(KioskError, match="holds no public key"):
        keyring.trusted(where)


def test_where_no_key_can_be_kept_the_way_to_another_place_is_told(where: Path, tmp_path: Path) -> None:
    public = keyring.make(tmp_path / "elsewhere", "bob").public
    where.write_text("no directory")
    for words in (("make", "alice"), ("trust", "bob", public)):
        refused = fleet(where / "keys", "keys", *words)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"{words[0]} key {where}"), refused.stderr
        assert "KIOSK_FLEET_KEYS names" in refused.stderr
