"""`kiosk-recorder try` as a person runs it: it proves what it shows, notices what is wrong, leaves nothing behind."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import boto3
import numpy as np
import pytest
import soundfile
from botocore.config import Config

from agent.config import load
from agent.contract import age
from agent.demo.hearing import CHANNELS, RATE, SIMULATED
from agent.errors import KioskError
from agent.ledger import Ledger, Segment
from agent.spool import Layout
from hw.clock import SystemClock
from hw.simulated import SimulatedRoom
from hw.speech import speech_like
from tests.plaintext import found_in
from tests.soundcard import eventually, numbered

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


class Try:
    """One run of the demonstration that keeps everything, and a look at it from outside."""

    def __init__(
        self,
        keep: Path,
        *options: str,
        terminal: tuple[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; `terminal` is the width and height of one, None for a pipe."""
        self.keep = keep
        self._screen: int | None = None
        there: int | None = None
        if terminal is not None:
            self._screen, there = pty.openpty()
        # On a terminal of its own, where ^C reaches it as from a keyboard.
        command = [*(["setsid", "--ctty", "--wait"] if there else []), sys.executable, "-m", "agent.cli", "try"]
        if there is not None and terminal is not None:
            fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", terminal[1], terminal[0], 0, 0))
        self.process = subprocess.Popen(
            [*command, "--keep", str(keep), *options],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm-256color", **(environment or {})},
            stdin=there,
            stdout=there or subprocess.PIPE,
            stderr=there or subprocess.STDOUT,
        )
        self._printed = b""
        self._reader = threading.Thread(target=self._read)
        if there is not None:
            os.close(there)
            self._reader.start()

    def segments(self) -> list[Segment]:
        """What the ledger has by now."""
        try:
            with Ledger(Layout(self.keep / "kiosk").ledger, SystemClock(), read_only=True) as ledger:
                return list(ledger.segments())
        except KioskError:
            return []

    def wait_for_verified(self, count: int) -> list[Segment]:
        """Wait until so many segments are verified in the bucket; all segments then."""

        def verified() -> bool:
            assert self.process.poll() is None, self.output()
            return sum(segment.state == "acknowledged" for segment in self.segments()) >= count

        eventually(verified, f"{count} segments are verified", PATIENCE_S)
        return self.segments()

    def wait_until_complete(self) -> None:
        """Wait until there are itself, recorder, courier, store and broker."""
        eventually(lambda: len(self.processes()) == 5, "all five processes run", PATIENCE_S)

    def type(self, keys: bytes) -> None:
        """As at a keyboard."""
        assert self._screen is not None
        os.write(self._screen, keys)

    def output(self) -> str:
        """Everything it printed, once it has ended."""
        if self._screen is None:
            return self.process.communicate(timeout=PATIENCE_S)[0].decode()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return self._printed.decode()

    def _read(self) -> None:
        """All the while, as a terminal does: whoever writes to one that nobody reads has to wait."""
        assert self._screen is not None
        with suppress(OSError):
            while True:
                self._printed += os.read(self._screen, 65536)

    def processes(self) -> list[str]:
        """Every process of it that is still there, by something of it in its arguments or its environment."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes() + b"\0" + (place / "environ").read_bytes()
            except OSError:
                continue
            if str(self.keep).encode() in words:
                found.append(f"{place.name}: {words[:200]!r}")
        return found

    def end(self) -> None:
        """However the test went."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self._screen is not None:
            self._reader.join(PATIENCE_S)
            os.close(self._screen)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def tries() -> Iterator[list[Try]]:
    """Runs to be ended after the test."""
    running: list[Try] = []
    yield running
    for each in running:
        each.end()


def heard(keep: Path) -> list[Path]:
    """The recordings that came back, in order."""
    return sorted((keep / "heard").glob("*.flac"))


def test_without_a_terminal_it_ends_by_itself_and_everything_came_back(tmp_path: Path, tries: list[Try]) -> None:
    run = Try(tmp_path / "kept", "--seconds", "11", "--pcm", SIMULATED)
    tries.append(run)
    output = run.output()
    assert run.process.returncode == 0, output
    assert run.processes() == []

    files = heard(run.keep)
    segments = run.segments()
    assert len(files) == len(segments) >= 3
    assert [hashlib.sha256(file.read_bytes()).hexdigest() for file in files] == [one.sha256 for one in segments]
    samples = np.concatenate([soundfile.read(file, dtype="int16", always_2d=True)[0] for file in files])
    assert len(samples) >= 11 * RATE
    played = speech_like(30, RATE, CHANNELS)
    assert np.array_equal(samples, played[: len(samples)])

    assert f"{len(files)} recordings" in output
    assert all(file.name in output for file in files)
    assert "the kiosk is online" in output
    assert "telemetry" in output


def test_sealed_it_records_for_one_key_alone_and_opens_what_came_back(tmp_path: Path, tries: list[Try]) -> None:
    run = Try(tmp_path / "kept", "--seconds", "11", "--pcm", SIMULATED, "--sealed")
    tries.append(run)
    output = run.output()
    assert run.process.returncode == 0, output
    files, segments = heard(run.keep), run.segments()
    assert len(files) == len(segments) >= 3
    assert all(segment.key is not None and segment.key.endswith(".flac.age") for segment in segments)
    samples = np.concatenate([soundfile.read(file, dtype="int16", always_2d=True)[0] for file in files])
    assert np.array_equal(samples, speech_like(30, RATE, CHANNELS)[: len(samples)])
    layout = Layout(run.keep / "kiosk")
    content = b"".join(path.read_bytes() for path in (run.keep / "kiosk").rglob("*") if path.is_file())
    assert found_in(content, samples[:, 0], RATE) == []
    for segment in segments:
        opened = io.BytesIO()
        with layout.audio(segment.name).open("rb") as file:
            assert age.decrypt(file, opened, age.identities(run.keep / "key.txt"))
    (public,) = load(run.keep / "kiosk" / "config.toml", {}).seal.recipients
    assert f"encrypted to {age.label(public)}" in output
    assert f"opened with the key {age.label(public)}, and decoded, sample for sample" in output


def test_ctrl_c_on_a_terminal_seals_what_is_open_and_proves_it(tmp_path: Path, tries: list[Try]) -> None:
    run = Try(tmp_path / "kept", "--pcm", SIMULATED, terminal=(60, 20))
    tries.append(run)
    run.wait_for_verified(1)
    run.type(b"\x03")
    output = run.output()
    assert run.process.returncode == 0, output
    assert run.processes() == []
    *_, last = run.segments()
    assert last.seconds < 5
    assert last.state == "acknowledged"
    assert len(heard(run.keep)) == len(run.segments())
    assert "\x1b[?1049h" in output, "it took the whole terminal"
    assert "\x1b[?1049l" in output, "and gave it back"
    assert "came back from the bucket" in output


def test_an_altered_and_a_missing_object_fail_it(tmp_path: Path, tries: list[Try]) -> None:
    run = Try(tmp_path / "kept", "--seconds", "600", "--pcm", SIMULATED)
    tries.append(run)
    altered, missing = [segment.key for segment in run.wait_for_verified(2)[:2]]
    assert altered is not None
    assert missing is not None
    settings = load(run.keep / "kiosk" / "config.toml", {})
    (keys,) = json.loads((run.keep / "store" / "identities.json").read_text())["identities"][0]["credentials"]
    session = boto3.session.Session(keys["accessKey"], keys["secretKey"], region_name="us-east-1")
    path_style = Config(s3={"addressing_style": "path"})
    with closing(session.client("s3", endpoint_url=settings.upload.endpoint_url, config=path_style)) as client:
        client.put_object(Bucket="kiosk-demo", Key=altered, Body=b"fLaC, but nothing else")
        client.delete_object(Bucket="kiosk-demo", Key=missing)
    run.process.send_signal(signal.SIGINT)
    output = run.output()
    assert run.process.returncode == 1, output
    assert f"{altered}: was altered" in output
    assert f"{missing}: isn't in the bucket" in output
    assert run.processes() == []


def test_a_real_microphone_is_compared_with_the_recorders_own_files(tmp_path: Path, tries: list[Try]) -> None:
    room = SimulatedRoom(tmp_path / "room", numbered(30 * RATE), RATE, CHANNELS, pcm="kioskmic")
    run = Try(tmp_path / "kept", "--seconds", "6", "--pcm", "kioskmic", environment=room.environment)
    tries.append(run)
    output = run.output()
    assert run.process.returncode == 0, output
    assert "decoded, sample for sample, to the recorder's own files" in output
    assert len(heard(run.keep)) == 2


def test_a_microphone_that_isnt_there_ends_it_with_the_reason(tmp_path: Path, tries: list[Try]) -> None:
    run = Try(tmp_path / "kept", "--seconds", "5", "--pcm", "nonsense")
    tries.append(run)
    output = run.output()
    assert run.process.returncode == 2, output
    assert "ALSA knows no such PCM" in output
    assert "kiosk-recorder mics" in output
    assert run.processes() == []


def test_asked_twice_it_ends_at_once_and_claims_nothing(tmp_path: Path, tries: list[Try]) -> None:
    run = Try(tmp_path / "kept", "--seconds", "600", "--pcm", SIMULATED)
    tries.append(run)
    run.wait_until_complete()
    run.process.send_signal(signal.SIGTERM)
    run.process.send_signal(signal.SIGINT)
    output = run.output()
    assert run.process.returncode == 1, output
    assert "nothing was proven" in output
    assert "came back" not in output
    assert run.processes() == []


def test_killing_it_leaves_no_process_behind(tmp_path: Path, tries: list[Try]) -> None:
    run = Try(tmp_path / "kept", "--seconds", "600", "--pcm", SIMULATED)
    tries.append(run)
    run.wait_until_complete()
    run.process.kill()
    run.process.wait(PATIENCE_S)
    eventually(lambda: run.processes() == [], "its children end", PATIENCE_S)


def test_it_never_mixes_with_what_is_there_already(tmp_path: Path, tries: list[Try]) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"dear")
    run = Try(tmp_path, "--seconds", "5")
    tries.append(run)
    output = run.output()
    assert run.process.returncode == 2
    assert "there is something in it already" in output
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
