"""`kiosk-recorder check`, as a technician runs it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.checkup.areas import AREAS
from agent.contract.age import MAGIC
from hw.simulated import SimulatedRoom
from tests.checkup.test_store import tight
from tests.cli.kiosk import PROGRAM, ROOT, Kiosk
from tests.keys import age_key
from tests.recorder.room import RATE, noise
from tests.servers import Bucket
from tests.soundcard import Soundcard, eventually


@pytest.fixture
def room(kiosk: Kiosk, soundcard: Soundcard) -> SimulatedRoom:
    made = soundcard(noise(30, rate=RATE), RATE)
    kiosk.configure(capture=f'pcm = "{made.pcm}"')
    return made


QUICK = ("--seconds", "1", "--no-clap")


def by_subject(document: Any) -> dict[tuple[str, str], dict[str, Any]]:  # noqa: ANN401 (of JSON)
    return {(finding["area"], finding["subject"]): finding for finding in document["findings"]}


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("room")
def test_a_kiosk_is_checked_before_its_first_start(kiosk: Kiosk) -> None:
    answer = kiosk.run("check", *QUICK, "--json")
    document = answer.json()
    findings = by_subject(document)
    assert document["kiosk"] == "north/room-1"
    assert findings["microphone", "signal"]["verdict"] == "green"
    assert findings["recording", "recording"]["facts"]["bytes"] > 0
    assert {area for area, _ in findings} == set(AREAS)
    assert document["good"] is (answer.status == 0)
    assert sum(document["counts"].values()) == len(document["findings"])
    # Nothing of what was heard is anywhere.
    assert not kiosk.spool.exists()
    assert not (kiosk.root / "runtime").exists()


@pytest.mark.usefixtures("room")
def test_a_person_reads_verdicts_and_ways_out(kiosk: Kiosk) -> None:
    answer = kiosk.run("check", *QUICK, "--only", "microphone", "--only", "broker")
    assert answer.status == 0
    assert "  green   signal: heard for 1 s: " in answer.out
    assert (
        "broker\n  yellow  connection: mqtt.url is empty: nobody is told when this kiosk stops recording\n"
        "          → write the broker's address into `[mqtt]`\n"
    ) in answer.out
    assert answer.out.endswith("2 yellow, 3 green: works, but look at it\n")
    assert answer.err == ""


def test_a_dead_microphone_exits_1(kiosk: Kiosk, soundcard: Soundcard) -> None:
    dead = soundcard(np.zeros((RATE, 1), np.int16), RATE)
    kiosk.configure(capture=f'pcm = "{dead.pcm}"')
    answer = kiosk.run("check", *QUICK, "--only", "microphone")
    assert answer.status == 1
    assert "  red     signal: digital silence" in answer.out


def test_what_it_can_not_begin_with_exits_2(kiosk: Kiosk) -> None:
    answer = kiosk.run("check", "--only", "microfone")
    assert (answer.status, answer.out) == (2, "")
    assert answer.err == "check microfone: there is no such area\n  → did you mean microphone?\n"
    kiosk.config.write_text("[device]\nsite = 1\n")
    assert kiosk.run("check").status == 2


def test_while_the_kiosk_records_the_recorder_keeps_microphone_and_pins(kiosk: Kiosk, room: SimulatedRoom) -> None:
    kiosk.configure(capture=f'pcm = "{room.pcm}"', rest="[gpio]\nled = 17\n")
    kiosk.start("record", GPIOZERO_PIN_FACTORY="that-nobody-has")
    pid = kiosk.recording()
    eventually(lambda: bool(kiosk.run("list", "--json").json()), "a finished segment")
    areas = [word for name in ("microphone", "recording", "machine") for word in ("--only", name)]
    findings = by_subject(kiosk.run("check", "--seconds", "2", *areas, "--json").json())
    assert findings["microphone", "signal"]["verdict"] == "green"
    assert "as the running recorder tells" in findings["microphone", "signal"]["text"]
    assert findings["recording", "recording"]["verdict"] == "green"
    assert "the recorder's newest" in findings["recording", "recording"]["text"]
    assert findings["machine", "button and light"]["verdict"] == "red"
    assert "as the running recorder tells: use pin GPIO 17" in findings["machine", "button and light"]["text"]
    assert kiosk.run("status", "--json").json()["recorder"]["pid"] == pid
    assert kiosk.run("timeline", "--json").json()["totals"]["not_recorded_s"] == {}


def test_a_sealed_recording_of_the_spool_is_opened_with_the_key_at_hand(kiosk: Kiosk, room: SimulatedRoom) -> None:
    key = age_key(kiosk.root)
    kiosk.configure(capture=f'pcm = "{room.pcm}"', rest=f'[seal]\nrecipients = ["{key.public}"]\n')
    kiosk.start("record")
    kiosk.recording()
    eventually(lambda: bool(kiosk.run("list", "--json").json()), "a finished segment")
    for identity, opened in ((key, "green"), (age_key(kiosk.root, "other"), "red")):
        answer = kiosk.run("check", "--only", "recording", "--identity", identity.secret, "--json")
        findings = by_subject(answer.json())
        assert findings["recording", "recording"]["verdict"] == "green"
        assert findings["recording", "sealing"]["verdict"] == opened, findings


def test_a_kiosk_that_works_is_good_though_nothing_stays_on_its_card(
    kiosk: Kiosk, room: SimulatedRoom, bucket: Bucket
) -> None:
    tight(bucket)
    key = age_key(kiosk.root)
    kiosk.configure(
        capture=f'pcm = "{room.pcm}"',
        spool='keep_uploaded = "0s"',
        rest=f'[seal]\nrecipients = ["{key.public}"]\n'
        f'[upload]\ntarget = "s3://{bucket.name}/rooms"\nendpoint_url = "{bucket.store.url}"\n'
        f'region = "us-east-1"\nclock_wait = "0s"\n',
    )
    kiosk.start("record")
    kiosk.start("courier")
    kiosk.recording()
    eventually(lambda: any("_check" not in name for name in bucket.keys()), "an uploaded segment")  # noqa: SIM118
    areas = [word for name in ("recording", "store", "card") for word in ("--only", name)]
    answer = kiosk.run("check", "--seconds", "1", *areas, "--identity", key.secret, "--json")
    findings = by_subject(answer.json())
    for each in (("recording", "recording"), ("recording", "sealing"), ("store", "upload")):
        assert findings[each]["verdict"] == "green", findings[each]
    assert "the recorder's newest" in findings["recording", "recording"]["text"]
    assert "opened again" in findings["recording", "sealing"]["text"]
    assert "at least" not in findings["card", "space"]["text"]
    (uploaded,) = (name for name in bucket.keys() if "/_check/" in name)  # noqa: SIM118
    assert uploaded.endswith(".flac.age")
    assert bucket.get(uploaded)[0].startswith(MAGIC)
    # A second of sound, not a line of text.
    assert findings["store", "upload"]["facts"]["bytes"] > RATE // 2
    assert not [path for path in files_below(kiosk.root) if b"fLaC" in path.read_bytes()]


def test_the_services_environment_counts_and_the_shell_s_more(kiosk: Kiosk) -> None:
    environment = kiosk.root / "environment"
    environment.write_text("# the technician's switch\nKIOSK_RECORDER_FLAG_OFFLINE_RECORDING=off\n")
    check = ("check", "--only", "software", "--json", "--environment", environment)
    assert by_subject(kiosk.run(*check).json())["software", "flags"]["verdict"] == "yellow"
    answer = kiosk.run(*check, KIOSK_RECORDER_FLAG_OFFLINE_RECORDING="")
    assert by_subject(answer.json())["software", "flags"]["verdict"] == "green"


@pytest.mark.parametrize("name", ["page.html", "page.txt"])
def test_a_page_to_sign_is_written_once(kiosk: Kiosk, name: str) -> None:
    page = kiosk.root / name
    answer = kiosk.run("check", "--only", "software", "--report", page)
    text = page.read_text()
    for word in ("north/room-1", "Versions", "Signature", "admin keys", "commands.admin_keys is empty"):
        assert word in text
    again = kiosk.run("check", "--only", "software", "--report", page)
    assert (answer.status, again.status, again.out) == (0, 2, "")
    assert "exists already" in again.err


def test_a_page_is_text_or_html(kiosk: Kiosk) -> None:
    answer = kiosk.run("check", "--report", kiosk.root / "page.pdf")
    assert (answer.status, answer.out) == (2, "")


class Terminal:
    """A person's, on which a check runs."""

    def __init__(self, kiosk: Kiosk, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = b""
        self.process = subprocess.Popen(
            [*PROGRAM, "check", *arguments, "--config", str(kiosk.config)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        )
        os.close(theirs)

    def read(self, text: bytes = b"never") -> None:
        """Until `text` is shown, or to the end."""
        try:
            while text not in self.shown:
                self.shown += os.read(self._ours, 4096)
        except OSError:
            os.close(self._ours)


@pytest.mark.usefixtures("room")
def test_a_person_at_the_terminal_is_asked_for_a_clap(kiosk: Kiosk) -> None:
    terminal = Terminal(kiosk, "--seconds", "2", "--only", "microphone")
    terminal.read()
    assert terminal.process.wait(20) == 1
    assert b"Clap your hands now, near the microphone." in terminal.shown
    assert b"no clap was heard" in terminal.shown
    assert b"listening, 1 of 2 s" in terminal.shown


@pytest.mark.usefixtures("room")
def test_ctrl_c_ends_it_without_a_word(kiosk: Kiosk) -> None:
    terminal = Terminal(kiosk, "--seconds", "300", "--only", "microphone")
    terminal.read(b"listening, 1 of 300 s")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(20) == 130
    terminal.read()
    assert b"Traceback" not in terminal.shown
