"""`record`, `courier` and `run`: real processes on a simulated room."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from agent.commands.running import next_delay
from hw.simulated import SimulatedRoom
from tests.cli.kiosk import PROGRAM, ROOT, Kiosk
from tests.recorder.room import RATE, noise
from tests.soundcard import Soundcard, eventually


@pytest.fixture(autouse=True)
def room(kiosk: Kiosk, soundcard: Soundcard) -> SimulatedRoom:
    made = soundcard(noise(10), RATE)
    kiosk.environment |= made.environment
    kiosk.configure(capture='pcm = "simroom"')
    return made


@pytest.fixture
def nas(kiosk: Kiosk, tmp_path: Path) -> Path:
    """A directory to upload to."""
    directory = tmp_path / "nas"
    directory.mkdir()
    kiosk.configure(capture='pcm = "simroom"', rest=f'[upload]\ntarget = "file://{directory}"\nclock_wait = "0s"')
    return directory


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits to be noticed by its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def courier(kiosk: Kiosk) -> int:
    """Wait until a courier runs; its process id."""
    found: list[int | None] = []

    def runs() -> bool:
        found.append(kiosk.run("status", "--json").json()["courier"]["pid"])
        return found[-1] is not None

    eventually(runs, "a courier runs")
    return found[-1] or 0


def test_record_becomes_the_lean_recorder(kiosk: Kiosk) -> None:
    process = kiosk.start("record")
    assert kiosk.recording() == process.pid
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    assert b"agent.recorder" in command
    loaded = Path(f"/proc/{process.pid}/maps").read_text()
    assert "soundfile" in loaded or "sndfile" in loaded
    assert "pydantic" not in loaded
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    listed = kiosk.run("list", "--json").json()
    assert listed
    assert not list((kiosk.spool / "spool" / "open").iterdir())


def test_what_lies_in_the_working_directory_is_never_run(kiosk: Kiosk, tmp_path: Path) -> None:
    trap = tmp_path / "agent"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('run from the working directory')")
    (tmp_path / "pickle.py").write_text("raise SystemExit('run from the working directory')")
    process = subprocess.Popen(
        [*PROGRAM, "record", "--config", str(kiosk.config)],
        cwd=tmp_path,
        env={
            **os.environ,
            **kiosk.environment,
            "PYTHONPATH": str(ROOT),
            "RUNTIME_DIRECTORY": str(tmp_path / "runtime"),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert kiosk.recording() == process.pid
    finally:
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert "working directory" not in said
    assert process.returncode == 0


def test_the_courier_uploads_what_waits_and_ends(kiosk: Kiosk, nas: Path) -> None:
    kiosk.recorded(5)
    answer = kiosk.run("courier", "--once")
    assert answer.status == 0
    assert len(list(nas.rglob("*.flac"))) == 3
    assert {segment["state"] for segment in kiosk.run("list", "--json").json()} == {"acknowledged"}


def test_a_courier_without_anywhere_to_go_says_so(kiosk: Kiosk) -> None:
    kiosk.recorded(1)
    answer = kiosk.run("courier", "--once")
    assert answer.status == 2
    assert "there is no `upload.target`" in answer.err


def test_run_records_and_uploads_until_told_to_stop(kiosk: Kiosk, nas: Path) -> None:
    process = kiosk.start("run")
    recorder = kiosk.recording()
    sender = courier(kiosk)
    eventually(lambda: bool(list(nas.rglob("*.flac"))), "something is uploaded")
    assert kiosk.run("status").status == 0
    # As a terminal's Ctrl-C does: to the group, of which only `run` itself is one.
    assert process.pid not in (os.getpgid(recorder), os.getpgid(sender))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 0
    assert ended(recorder)
    assert ended(sender)
    assert not list((kiosk.spool / "spool" / "open").iterdir())
    lines = kiosk.log.read_text().splitlines()
    assert any(line.startswith("recorder │ ") and "microphone is heard" in line for line in lines)
    assert any(line.startswith("courier  │ ") and "uploads go to" in line for line in lines)
    assert not any("Traceback" in line for line in lines)
    assert kiosk.run("verify").status == 0


def test_a_killed_recorder_is_started_again_and_recovers(kiosk: Kiosk) -> None:
    process = kiosk.start("run")
    recorder = kiosk.recording()
    os.kill(recorder, signal.SIGKILL)
    kiosk.logged("recorder │ was ended by SIGKILL and is started again in 1 s")
    eventually(lambda: ended(recorder), "the first recorder is gone")
    assert kiosk.recording() != recorder
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert kiosk.run("verify").status == 0


def test_without_target_and_broker_there_is_no_courier(kiosk: Kiosk) -> None:
    process = kiosk.start("run")
    kiosk.recording()
    assert "run      │ no courier: neither `upload.target` nor `mqtt.url` is set" in kiosk.log.read_text()
    assert kiosk.run("status", "--json").json()["courier"]["pid"] is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_a_recorder_that_cannot_begin_ends_run_with_2(kiosk: Kiosk, nas: Path) -> None:
    kiosk.config.write_text(kiosk.config.read_text().replace("simroom", "kioskmik"))
    answer = kiosk.run("run")
    assert answer.status == 2
    assert "recorder │" in answer.err
    assert "ALSA knows no such PCM" in answer.err
    assert "recorder │ can't record: see above" in answer.err
    assert list(nas.iterdir()) == []


def test_a_second_run_ends_with_2_and_leaves_the_first_alone(kiosk: Kiosk) -> None:
    kiosk.start("run")
    recorder = kiosk.recording()
    answer = kiosk.run("run")
    assert answer.status == 2
    assert f"another recorder already runs here (process {recorder})" in answer.err
    assert kiosk.recording() == recorder


@pytest.mark.usefixtures("nas")
def test_when_run_is_killed_its_children_end_in_good_order(kiosk: Kiosk) -> None:
    process = kiosk.start("run")
    recorder, sender = kiosk.recording(), courier(kiosk)
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        eventually(lambda: ended(recorder) and ended(sender), "nobody is left behind")
    finally:
        for pid in (recorder, sender):
            if not ended(pid):
                os.kill(pid, signal.SIGKILL)
    assert not list((kiosk.spool / "spool" / "open").iterdir())


def test_an_absent_microphone_is_waited_for(kiosk: Kiosk, soundcard: Soundcard) -> None:
    kiosk.environment |= soundcard(np.zeros((RATE, 1), np.int16), RATE, script=["at 0 unplug"]).environment
    process = kiosk.start("record")
    kiosk.logged("open microphone")
    assert process.poll() is None


def test_delays_grow_and_are_forgiven() -> None:
    delays = [next_delay(None, 0.1)]
    for _ in range(6):
        delays.append(next_delay(delays[-1], 0.1))
    assert delays == [1, 2, 4, 8, 16, 30, 30]
    assert next_delay(30, 61) == 1
