"""What a person can get wrong: each is told clearly, ends with status 2, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hw.simulated import Card
from tests.cli.kiosk import PROGRAM, ROOT, Kiosk
from tests.recorder.room import RATE
from tests.soundcard import Soundcard

COMMANDS = ["record", "courier", "run", "status", "list", "timeline", "verify", "config show", "config check"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_starts_with_a_wrong_configuration(kiosk: Kiosk, command: str) -> None:
    kiosk.configure(spool='spol = "8GiB"')
    answer = kiosk.run(*command.split())
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith(f"read configuration {kiosk.config}: line 11, spool.spol: unknown key\n  → ")
    assert not kiosk.spool.exists()


@pytest.mark.parametrize(
    ("capture", "spool", "device", "told"),
    [
        (
            "",
            'quarantine_kap = "1MiB"',
            "",
            "line 11, spool.quarantine_kap: unknown key\n  → did you mean `quarantine_cap`?",
        ),
        ('ring_seconds = "30"', "", "", 'line 6, capture.ring_seconds: "30" is text, not a whole number'),
        ("", "cap = 100", "", 'line 11, spool.cap: 100 has no unit\n  → write it in quotes, such as "8GiB"'),
        ("", 'cap = "100KiB"', "", "line 11, spool.cap: 100KiB can't hold two segments: 2 s of 1 × 8000 Hz take up to"),
        ("", "", "../x", 'line 3, device.id: "../x" can\'t be a name\n  → use 1 to 63 lower-case letters'),
    ],
    ids=["unknown key", "wrong type", "no unit", "cap smaller than two segments", "device id ../x"],
)
def test_a_mistake_is_told_with_its_line_and_the_way_out(
    kiosk: Kiosk, capture: str, spool: str, device: str, told: str
) -> None:
    kiosk.configure(capture=capture, spool=spool)
    if device:
        kiosk.config.write_text(kiosk.config.read_text().replace("room-1", device))
    answer = kiosk.run("record")
    assert answer.status == 2
    assert answer.err.startswith(f"read configuration {kiosk.config}: {told}")
    assert not kiosk.spool.exists()


def test_all_mistakes_are_told_at_once(kiosk: Kiosk) -> None:
    kiosk.configure(capture="channels = 99", spool='when_full = "explode"\nsync_seconds = 0')
    answer = kiosk.run("record")
    assert answer.status == 2
    assert ": 3 mistakes\n" in answer.err
    assert all(key in answer.err for key in ("capture.channels", "spool.when_full", "spool.sync_seconds"))


def test_a_missing_configuration_says_where_it_was_looked_for(kiosk: Kiosk) -> None:
    kiosk.config.unlink()
    by_option = kiosk.run("record")
    by_variable = kiosk.run("record", config=False, KIOSK_RECORDER_CONFIG=str(kiosk.config))
    assert by_option == by_variable
    assert by_option.status == 2
    assert by_option.err == (
        f"read configuration {kiosk.config}: no such file\n"
        "  → copy config.example.toml there, or name another file with --config or KIOSK_RECORDER_CONFIG\n"
    )


def test_a_spool_that_cannot_be_written(kiosk: Kiosk) -> None:
    kiosk.spool.write_text("a file where a directory should be")
    answer = kiosk.run("record")
    assert answer.status == 2
    assert f"use spool {kiosk.spool}: Not a directory\n  → point `spool.path` at a directory on a writable card" in (
        answer.err
    )
    assert kiosk.spool.read_text() == "a file where a directory should be"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without rights")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("record", "Permission denied\n  → point `spool.path` at a directory on a writable card"),
        ("courier", "Permission denied\n  → run this as root or as the kiosk's own user"),
        ("list", "this user may not\n  → run the command with sudo\n"),
    ],
)
def test_a_spool_of_somebody_else_is_neither_written_nor_read(command: str, told: str) -> None:
    # Outside pytest's own directories, which nobody else may enter.
    with tempfile.TemporaryDirectory() as directory, Kiosk(Path(directory)) as kiosk:
        kiosk.root.chmod(0o755)
        kiosk.recorded(1)
        done = subprocess.run(
            [
                "setpriv",
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                *PROGRAM,
                command,
                "--config",
                kiosk.config,
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "RUNTIME_DIRECTORY": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode in (126, 127):
        pytest.skip(f"nobody else may run this Python: {done.stderr}")
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_card_that_is_read_only_is_called_so(kiosk: Kiosk) -> None:
    kiosk.recorded(1)
    before = {path: path.read_bytes() for path in kiosk.spool.rglob("*") if path.is_file()}
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, kiosk.spool, *PROGRAM, "list", "--config", kiosk.config],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RUNTIME_DIRECTORY": str(kiosk.root / "runtime")},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine lets nobody mount: {done.stderr}")
    assert done.returncode == 2
    assert "its file system is read-only\n  → mount it writable, or copy the directory to another disk" in done.stderr
    assert {path: path.read_bytes() for path in kiosk.spool.rglob("*") if path.is_file()} == before


def test_a_pcm_that_alsa_does_not_know(kiosk: Kiosk, soundcard: Soundcard) -> None:
    kiosk.environment |= soundcard(np.zeros((RATE, 1), np.int16), RATE).environment
    kiosk.configure(capture='pcm = "kioskmik"')
    answer = kiosk.run("record")
    assert answer.status == 2
    assert "open microphone kioskmik: ALSA knows no such PCM\n" in answer.err
    assert "`kiosk-recorder mics` lists the microphones" in answer.err
    assert kiosk.run("list", "--json").json() == []


def test_a_rate_that_the_card_does_not_have(kiosk: Kiosk, soundcard: Soundcard) -> None:
    card = Card(rates=(44100, 48000))
    kiosk.environment |= soundcard(np.zeros((RATE, 1), np.int16), RATE, card=card).environment
    kiosk.configure(capture='pcm = "simroom"')
    answer = kiosk.run("record")
    assert answer.status == 2
    assert f"asked for {RATE} Hz × 1, S16_LE; the card grants 44100 Hz × 1, S16_LE" in answer.err
    assert "set capture.rate = 44100" in answer.err


def test_a_second_instance_names_the_first_and_leaves_it_alone(kiosk: Kiosk, soundcard: Soundcard) -> None:
    kiosk.environment |= soundcard(np.zeros((RATE, 1), np.int16), RATE).environment
    kiosk.configure(capture='pcm = "simroom"')
    first = kiosk.start("record")
    assert kiosk.recording() == first.pid
    answer = kiosk.run("record")
    assert answer.status == 2
    assert f"start recorder {kiosk.spool}: another recorder already runs here (process {first.pid})\n" in answer.err
    assert first.poll() is None
    assert kiosk.recording() == first.pid


def test_a_second_courier_names_the_first(kiosk: Kiosk) -> None:
    (kiosk.root / "nas").mkdir()
    kiosk.configure(rest=f'[upload]\ntarget = "file://{kiosk.root}/nas"')
    kiosk.recorded(1)
    first = kiosk.start("courier")
    kiosk.logged("uploads go to")
    answer = kiosk.run("courier")
    assert answer.status == 2
    assert f"another courier already runs here (process {first.pid})" in answer.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["list", "--state", "sleeping"], 'there is no state "sleeping"\n  → states: pending, acknowledged,'),
        (["list", "--since", "25:00"], 'read time "25:00": isn\'t a date or time\n  → write "2026-03-01 08:00"'),
        (["timeline", "--until", "soon"], 'read time "soon": isn\'t a date or time'),
        (["open", "-o", "out.flac"], "open recordings: which ones?"),
        (["open", "nothing.flac", "-o", "out.flac"], "open recording nothing.flac: no such file"),
        (["open", "0123456789ab-000000", "-o", "out.flac"], "open recording 0123456789ab-000000: isn't in the spool"),
        (["open", "--run", "0123456789ab", "-o", "out.flac"], "open run 0123456789ab: nothing of it is in the spool"),
        (["open", "x", "-o", "out.mp3"], "write out.mp3: isn't named as audio\n  → end its name in .flac or .wav"),
    ],
)
def test_arguments_that_make_no_sense(kiosk: Kiosk, arguments: list[str], told: str) -> None:
    kiosk.recorded(1)
    answer = kiosk.run(*arguments)
    assert answer.status == 2
    assert told in answer.err
