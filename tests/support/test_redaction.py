"""What is known to be a secret, and what looks like one, is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.support.redaction import is_secret, redact, secrets_of


def test_a_known_secret_is_taken_out_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("Sesame-Open\n")
    known = secrets_of(f'[mqtt]\nurl = "mqtts://b"\npassword_file = "{tmp_path}/password"  # ours\n')
    assert redact("he said Sesame-Open, and it let him in", known) == "he said ***, and it let him in"


def test_secrets_in_addresses_are_known_in_both_spellings() -> None:
    known = secrets_of('endpoint_url = "https://me:p%40ssword@store/?sig=s3cr3t"')
    assert {"p%40ssword", "p@ssword", "s3cr3t"} <= known


def test_a_secret_that_was_written_down_where_its_file_belongs_is_known() -> None:
    assert secrets_of("password_file = 'hunter22'\npassword = \"hunter23\"\nkey = hunter24") == {
        "hunter22",
        "hunter23",
        "hunter24",
    }


def test_names_of_sites_and_public_keys_are_no_secrets() -> None:
    assert secrets_of('[device]\nsite = "north"\n[flags]\nkeys = ["ed25519:AAAA"]\n[mqtt]\nurl = "mqtts://b"') == set()


def test_secrets_in_the_environment_are_known_and_names_of_files_are_not() -> None:
    environment = {
        "AWS_SECRET_ACCESS_KEY": "wJalr/XUtn",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SESSION_TOKEN": "FQoGZ",
        "AWS_PROFILE": "kiosk",
        "AWS_CONFIG_FILE": "/etc/kiosk-recorder/aws-config",
    }
    assert secrets_of("", environment) == {"wJalr/XUtn", "AKIDEXAMPLE", "FQoGZ"}


def test_secrets_in_aws_files_are_known(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[kiosk]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalr/XUtn\nregion = eu-west-1\n"
    )
    assert secrets_of("", {"AWS_SHARED_CREDENTIALS_FILE": str(file)}) == {"AKIDEXAMPLE", "wJalr/XUtn"}


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "API_KEY", "DB_PASSWORD", "aws_session_token"])
def test_such_names_hold_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["PATH", "MONKEY", "KEYBOARD", "AWS_SHARED_CREDENTIALS_FILE", "HOME"])
def test_such_names_do_not(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\nCANARY\n-----END OPENSSH PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nCANARY",
        "AGE-SECRET-KEY-1CANARY",
        "connect to https://user:CANARY@store:8333/ refused",
        "aws_secret_access_key = CANARY",
        '"password": "CANARY"',
        "token=CANARY&x=1",
        "AKIACANARYCANARYCANA",
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    assert "CANARY" not in redact(text, ())


@pytest.mark.parametrize(
    "text",
    [
        'password_file = "/etc/kiosk-recorder/password"',
        '"credentials": {"severity": "critical"}',
        "[alerts.credentials]\nwarning = 300",
        "ed25519:AAAA is an admin's public key",
        '"passwords": [\n  1\n]',
    ],
)
def test_what_only_speaks_of_secrets_stays(text: str) -> None:
    assert redact(text, ()) == text


def test_a_secret_within_another_one_does_not_leave_a_rest() -> None:
    assert redact("abcdefgh", {"cdef", "abcdefgh"}) == "***"
