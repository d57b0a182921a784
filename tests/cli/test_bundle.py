"""`kiosk-recorder support-bundle`: what helps is in it, and nothing that hurts."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from agent.support.bundle import packed
from tests.cli.kiosk import Kiosk

PARTS = [
    "about.json",
    "configuration.toml",
    "disks.txt",
    "environment.txt",
    "hardware.json",
    "ledger.json",
    "log-courier.txt",
    "log-installation.txt",
    "log-kernel.txt",
    "log-recorder.txt",
    "processes.txt",
    "releases.txt",
    "sound.txt",
    "spool.txt",
    "status.json",
    "timeline.json",
]


def contents(archive: Path) -> dict[str, bytes]:
    """By the names without their folder, which is named as the archive."""
    with tarfile.open(archive) as opened:
        folder = archive.name.removesuffix(".tar.gz")
        assert all(member.isfile() and member.name.startswith(f"{folder}/") for member in opened.getmembers())
        return {
            member.name.partition("/")[2]: file.read()
            for member in opened.getmembers()
            if (file := opened.extractfile(member)) is not None
        }


def bundled(kiosk: Kiosk, *arguments: str | Path) -> dict[str, bytes]:
    archive = kiosk.root / "bundle.tar.gz"
    answer = kiosk.run("support-bundle", archive, *arguments)
    assert answer.status == 0, answer.err
    return contents(archive)


def read(parts: dict[str, bytes], name: str) -> Any:  # noqa: ANN401 (of JSON)
    return json.loads(parts[name])


def test_it_holds_what_a_helper_asks_for(kiosk: Kiosk) -> None:
    kiosk.recorded(5)
    parts = bundled(kiosk)
    assert list(parts) == PARTS
    assert read(parts, "about.json")["device"] == "room-1"
    assert read(parts, "status.json")["kept"]["pending"]["count"] == 3
    ledger = read(parts, "ledger.json")
    assert ledger["here"]["pending"]["count"] == 3
    assert re.fullmatch(r"[0-9a-f]{12,32}", ledger["epoch"])
    assert read(parts, "timeline.json")["faults"] == []
    assert read(parts, "hardware.json")["storage"]["free_bytes"] > 0
    assert b'id = "room-1"' in parts["configuration.toml"]
    assert b" sealed/" in parts["spool.txt"].replace(b"spool/sealed/", b"sealed/")
    assert b"recorder: not running" in parts["processes.txt"]


def test_there_is_no_audio_in_it(kiosk: Kiosk) -> None:
    kiosk.recorded(5)
    parts = bundled(kiosk)
    recordings = list((kiosk.spool / "spool" / "sealed").glob("*.flac"))
    assert len(recordings) == 3
    everything = b"".join(parts.values())
    for recording in recordings:
        sound = recording.read_bytes()
        assert sound[:4] not in everything
        assert sound[200:232] not in everything


def test_what_is_in_it_is_told(kiosk: Kiosk) -> None:
    archive = kiosk.root / "bundle.tar.gz"
    answer = kiosk.run("support-bundle", archive)
    assert [line.split()[-1] for line in answer.out.splitlines()[:-1]] == [f"bundle/{name}" for name in PARTS]
    assert "no audio, no keys, no passwords" in answer.out
    assert archive.stat().st_mode & 0o777 == 0o600
    other = kiosk.run("support-bundle", kiosk.root / "other.tar.gz", "--json").json()
    assert [file["name"] for file in other["files"]] == [f"other/{name}" for name in PARTS]


def test_the_same_texts_make_the_same_bytes() -> None:
    texts = {"b.txt": "two", "a.txt": "one"}
    content = packed(texts, "folder", 1_800_000_000)
    assert content == packed(dict(reversed(texts.items())), "folder", 1_800_000_000)
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        assert opened.getnames() == ["folder/a.txt", "folder/b.txt"]


def test_nothing_is_overwritten(kiosk: Kiosk) -> None:
    archive = kiosk.root / "bundle.tar.gz"
    archive.write_text("precious")
    answer = kiosk.run("support-bundle", archive)
    assert (answer.status, answer.out) == (2, "")
    assert "exists already" in answer.err
    assert archive.read_text() == "precious"


def test_an_archive_is_named_as_one(kiosk: Kiosk) -> None:
    assert kiosk.run("support-bundle", kiosk.root / "bundle.zip").status == 2


def test_a_broken_configuration_is_part_of_the_trouble_not_its_end(kiosk: Kiosk) -> None:
    kiosk.config.write_text("[device]\nsite = 1\n")
    parts = bundled(kiosk)
    assert list(parts) == PARTS
    assert b"site" in parts["configuration.toml"]
    assert b"not available" in parts["status.json"]
    assert read(parts, "hardware.json")["storage"]["free_bytes"] > 0


JOURNALCTL = """#!/bin/sh
echo "2026-03-01T08:00:00+0100 room-1 $* said CANARY-PASSWORD and CANARY-AWS to https://me:CANARY-URL@store/"
cat {key} {password} {environment} {aws}
"""


@pytest.fixture
def planted(kiosk: Kiosk) -> Kiosk:
    """A kiosk that holds secrets in every place it can, and a journal into which all of them got."""
    root = kiosk.root
    (root / "password").write_text("CANARY-PASSWORD\nCANARY-SECOND-LINE\n")
    (root / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nCANARYKEYCANARYKEY\n-----END PRIVATE KEY-----\n")
    for name in ("password", "key.pem"):
        (root / name).chmod(0o600)
    (root / "certificate.pem").write_text("no certificate\n")
    (root / "aws").write_text("[kiosk]\naws_secret_access_key = CANARY-AWS-FILE\n")
    (root / "environment").write_text(
        "AWS_SECRET_ACCESS_KEY=CANARY-AWS\nAWS_SESSION_TOKEN='CANARY-TOKEN'\nPLAIN=CANARY-PLAIN\n"
        f"AWS_SHARED_CREDENTIALS_FILE={root}/aws\nKIOSK_RECORDER_FLAG_OFFLINE_RECORDING=off\n"
    )
    kiosk.configure(
        rest='[upload]\ntarget = "s3://bucket/prefix"\n'
        f'[mqtt]\nurl = "mqtts://broker"\nusername = "room-1"\npassword_file = "{root}/password"\n'
        f'certificate = "{root}/certificate.pem"\nkey = "{root}/key.pem"\n'
    )
    kiosk.config.write_text(kiosk.config.read_text() + "# the old password was CANARY-COMMENT\n")
    (root / "bin").mkdir()
    journalctl = root / "bin" / "journalctl"
    journalctl.write_text(
        JOURNALCTL.format(
            key=root / "key.pem", password=root / "password", environment=root / "environment", aws=root / "aws"
        )
    )
    journalctl.chmod(0o755)
    kiosk.environment |= {"PATH": f"{root}/bin:/usr/bin:/bin", "SOME_API_TOKEN": "CANARY-SHELL"}
    return kiosk


@pytest.mark.parametrize("mistake", ["", "colour = 1\n"])
def test_no_secret_is_in_it_wherever_it_lay(planted: Kiosk, mistake: str) -> None:
    planted.recorded(2)
    planted.config.write_text(planted.config.read_text() + mistake)
    parts = bundled(planted, "--environment", planted.root / "environment")
    # PLAIN is no secret by its name: only its name is in the list, though a log may tell it.
    logs = {name for name in parts if name.startswith("log-")}
    for name, content in parts.items():
        found = content.replace(b"PLAIN=CANARY-PLAIN", b"") if name in logs else content
        assert b"CANARY" not in found, f"{name}: {found[max(0, found.find(b'CANARY') - 60) :][:120]!r}"
    assert b"kiosk-recorder.service" in parts["log-recorder.txt"]
    assert b"said *** and *** to https://***@store/" in parts["log-recorder.txt"]
    assert parts["environment.txt"] == (
        b"AWS_SECRET_ACCESS_KEY is set\nAWS_SESSION_TOKEN is set\nAWS_SHARED_CREDENTIALS_FILE is set\n"
        b"KIOSK_RECORDER_FLAG_OFFLINE_RECORDING=off\nPLAIN is set\n"
    )
    if mistake:
        assert b"unknown key" in parts["configuration.toml"]
    else:
        assert f'password_file = "{planted.root}/password"'.encode() in parts["configuration.toml"]
        assert read(parts, "status.json")["device"] == "room-1"


def test_an_address_with_a_password_is_refused_and_not_told(planted: Kiosk) -> None:
    told = planted.config.read_text()
    address = 'endpoint_url = "https://me:CANARY-URL@store.example/?x=CANARY-QUERY"'
    planted.config.write_text(told.replace("[upload]\n", f"[upload]\n{address}\n"))
    assert b"CANARY" not in bundled(planted)["configuration.toml"]
