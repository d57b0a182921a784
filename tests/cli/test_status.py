from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from agent.commands.kiosk import running
from agent.commands.status import Kept, Situation, Trouble, troubles
from agent.contract.alerts import Raised
from agent.errors import KioskError
from agent.ledger import Tally
from agent.settings import Device, Mqtt, Settings, Upload
from agent.spool import InstanceLock, Layout
from agent.status import FarEnd, RecorderStatus
from hw.simulated import SimulatedRoom
from tests.choices import write_variants
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.keys import age_key, ssh_key
from tests.recorder.room import RATE, WriterRoom, noise, settings
from tests.soundcard import Soundcard, eventually

PICTURE = RecorderStatus(pid=7, boot="b" * 32, state="recording", since_ns=0, updated_ns=0)
KEPT = Kept({}, None, None, 0, "synchronised")
WELL = Situation(7, 8, PICTURE, 1.0, 0, uploads_due=True, kept=KEPT, ledger_trouble=None)
UPLOADING = Settings(device=Device(site="north", id="room-1"), upload=Upload(target="s3://bucket"))


def what(situation: Situation, settings: Settings = UPLOADING) -> list[str]:
    return [trouble.what for trouble in troubles(situation, settings)]


def test_what_the_courier_has_raised_is_told_once() -> None:
    hot = Raised("warning", 1, "the processor is hot: 83 °C, more than 80 °C\n  → give it air", 83, 80)
    assert list(troubles(replace(WELL, alerts={"temperature": hot}), UPLOADING)) == [
        Trouble("warning, temperature: the processor is hot: 83 °C, more than 80 °C", "give it air")
    ]
    picture = replace(PICTURE, state="waiting_for_microphone", trouble="it is gone\n  → replug it")
    missing = Raised("critical", 1, picture.trouble, 70, 60)
    assert what(replace(WELL, picture=picture, alerts={"microphone_missing": missing})) == ["it is gone"]


def test_when_all_is_well_nothing_is_wrong() -> None:
    assert what(WELL) == []


def test_a_recorder_that_does_not_run_is_wrong() -> None:
    assert what(replace(WELL, recorder_pid=None, picture=None)) == ["the recorder isn't running: nothing is recorded"]


def test_a_recorder_that_hangs_is_wrong() -> None:
    assert what(replace(WELL, picture_age_s=12.0)) == ["the recorder (process 7) has given no sign of life for 12 s"]
    assert what(replace(WELL, picture_age_s=4.0)) == []


def test_a_recorder_without_a_picture_is_wrong() -> None:
    assert what(replace(WELL, picture=None)) == ["the recorder (process 7) doesn't say what it does"]


def test_trouble_is_told_with_its_way_out() -> None:
    picture = replace(PICTURE, state="waiting_for_microphone", trouble="open microphone hw:X: gone\n  → replug it")
    assert list(troubles(replace(WELL, picture=picture), UPLOADING)) == [
        Trouble("open microphone hw:X: gone", "replug it")
    ]


@pytest.mark.parametrize("state", ["waiting_for_microphone", "spool_full", "disk_error"])
def test_a_state_in_which_nothing_is_kept_is_wrong_even_without_words(state: Any) -> None:  # noqa: ANN401
    assert len(what(replace(WELL, picture=replace(PICTURE, state=state)))) == 1


@pytest.mark.parametrize("state", ["starting", "listening", "idle"])
def test_a_state_that_is_meant_is_well(state: Any) -> None:  # noqa: ANN401
    assert what(replace(WELL, picture=replace(PICTURE, state=state))) == []


def test_a_courier_is_missed_only_where_it_has_something_to_do() -> None:
    silent = Settings(device=UPLOADING.device)
    broker = Settings(device=UPLOADING.device, mqtt=Mqtt(url="mqtt://127.0.0.1"))
    alone = replace(WELL, courier_pid=None)
    assert what(alone) == what(alone, broker) == ["the courier isn't running: nothing is uploaded or reported"]
    assert what(alone, silent) == []


def test_a_far_end_that_does_not_answer_is_wrong_once_it_lasts() -> None:
    refused = FarEnd(0, "upload to s3://bucket: 403 AccessDenied\n  → let these credentials put")
    lasting = replace(WELL, far_ends={"card": refused, "direct": refused}, now_ns=90 * 10**9)
    assert list(troubles(lasting, UPLOADING)) == [
        Trouble("for 1 min 30 s: upload to s3://bucket: 403 AccessDenied", "let these credentials put")
    ]
    assert what(replace(lasting, now_ns=30 * 10**9)) == []


def test_a_long_queue_is_wrong_unless_it_is_meant_to_wait() -> None:
    long = replace(WELL, kept=replace(KEPT, tally={"pending": Tally(21, 1, 1.0)}))
    assert what(long) == ["21 recordings wait to be uploaded"]
    assert what(replace(long, uploads_due=False)) == []
    assert what(replace(WELL, kept=replace(KEPT, tally={"pending": Tally(20, 1, 1.0)}))) == []


def test_damage_is_wrong() -> None:
    damaged = replace(WELL, kept=replace(KEPT, tally={"damaged": Tally(1, 1, 1.0)}))
    assert what(damaged) == ["recordings are damaged on the card"]
    unreadable = replace(WELL, kept=None, ledger_trouble=KioskError("read ledger", cause="malformed"))
    assert what(unreadable) == ["the ledger can't be read: malformed"]


def test_the_holder_of_a_lock_is_known_without_touching_the_lock(kiosk: Kiosk) -> None:
    layout = Layout(kiosk.spool)
    assert running(layout, "recorder") is None
    layout.create()
    lock = InstanceLock(layout, "recorder")
    assert running(layout, "recorder") == os.getpid()
    assert running(layout, "courier") is None
    lock.close()
    assert running(layout, "recorder") is None


def test_the_command_on_a_kiosk_that_never_ran(kiosk: Kiosk) -> None:
    answer = kiosk.run("status")
    assert (answer.status, answer.err) == (1, "")
    assert answer.out.startswith("north/room-1: not running\n")
    assert (
        "wrong: the recorder isn't running: nothing is recorded\n  → `systemctl start kiosk-recorder.service`, or"
        in answer.out
    )
    assert not kiosk.spool.exists()


def test_the_command_on_what_a_recorder_left(kiosk: Kiosk) -> None:
    (kiosk.root / "nas").mkdir()
    kiosk.configure(rest=f'[upload]\ntarget = "file://{kiosk.root}/nas"')
    room = WriterRoom(settings(kiosk.spool), FakeClock())
    room.hear(noise(6))
    first = room.sealed()[0]
    assert kiosk.run("status", "--json").json()["last_upload"] is None
    room.ledger.acknowledge(first.name, "stored")
    # It is looked for from the journal's end on, a thousand entries at a time.
    with room.ledger.transaction():
        for _ in range(1500):
            room.ledger.retime(room.ledger.boots()[0])
    room.end()
    document = kiosk.run("status", "--json").json()
    assert document["last_upload"] == "2027-01-15T08:00:06.000+00:00"
    assert document["kept"]["pending"]["count"] == 2
    assert document["kept"]["acknowledged"]["seconds"] == 2.0
    assert document["good"] is False
    assert "last 2027-01-15 08:00:06" in kiosk.run("status").out


@pytest.fixture
def room(kiosk: Kiosk, soundcard: Soundcard) -> SimulatedRoom:
    made = soundcard(noise(10), RATE)
    kiosk.environment |= made.environment
    kiosk.configure(capture='pcm = "simroom"')
    return made


@pytest.mark.usefixtures("room")
def test_a_recording_kiosk_is_well_and_shows_what_it_hears(kiosk: Kiosk) -> None:
    process = kiosk.start("record")
    assert kiosk.recording() == process.pid

    def heard() -> bool:
        return kiosk.run("status", "--json").json()["recorder"]["level_rms_dbfs"] is not None

    eventually(heard, "levels are shown")
    answer = kiosk.run("status")
    assert answer.status == 0
    assert answer.out.startswith("north/room-1: recording since ")
    assert "simroom, 8000 Hz × 1, continuous; level -30 dBFS" in answer.out
    assert "wrong" not in answer.out
    assert "\n  recipients  none: recordings aren't encrypted\n" in answer.out


@pytest.mark.usefixtures("room")
def test_who_can_open_what_is_recorded_now_is_told_as_their_own_tools_tell_it(kiosk: Kiosk) -> None:
    first, second = age_key(kiosk.root), ssh_key(kiosk.root)
    kiosk.configure(capture='pcm = "simroom"', rest=f'[seal]\nrecipients = ["{first.public}", "{second.public}"]')
    kiosk.start("record")
    kiosk.recording()
    document = kiosk.run("status", "--json").json()["recipients"]
    shown = subprocess.run(["ssh-keygen", "-lf", second.secret], capture_output=True, text=True, check=True).stdout
    begin, end, ssh = first.public[:12], first.public[-6:], document["keys"][1]
    assert document["keys"][0] == f"{begin}…{end}"
    assert ssh.startswith("ssh-ed25519 SHA256:")
    assert ssh.split()[1].rstrip("…") in shown
    assert ssh.endswith("(somebody@clinic)")
    assert document["by"] == "file"
    line = next(line for line in kiosk.run("status").out.splitlines() if line.startswith("  recipients"))
    assert line.startswith(f"  recipients  {begin}…{end}, {ssh}; by config.toml, since 20")


def test_a_vanished_microphone_is_told(kiosk: Kiosk, room: SimulatedRoom) -> None:
    kiosk.start("record")
    kiosk.recording()
    room.unplug()
    eventually(lambda: kiosk.run("status").status == 1, "something is wrong")
    answer = kiosk.run("status")
    assert "north/room-1: looking for the microphone since " in answer.out
    assert "wrong: " in answer.out


@pytest.mark.usefixtures("room")
def test_a_killed_recorder_is_not_taken_for_a_running_one(kiosk: Kiosk) -> None:
    process = kiosk.start("record")
    kiosk.recording()
    process.send_signal(signal.SIGKILL)
    process.wait()
    answer = kiosk.run("status")
    assert answer.status == 1
    assert "the recorder isn't running" in answer.out


@pytest.mark.usefixtures("room")
def test_a_stopped_process_is_noticed(kiosk: Kiosk) -> None:
    process = kiosk.start("record")
    kiosk.recording()
    process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: "has given no sign of life for" in kiosk.run("status").out, "it hangs")
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_recorder_that_goes_round_the_card_says_so_and_what_to_do(kiosk: Kiosk, soundcard: Soundcard) -> None:
    kiosk.environment |= soundcard(noise(10), RATE).environment
    kiosk.configure(capture='pcm = "simroom"')
    kiosk.config.write_text(kiosk.config.read_text().replace('keep_free = "0B"', 'keep_free = "1000TiB"'))
    process = kiosk.start("record")

    def in_memory() -> bool:
        recorder = kiosk.run("status", "--json").json()["recorder"]
        return bool(recorder.get("path") == "direct" and recorder["pid"] == process.pid and recorder["run"])

    eventually(in_memory, "it records in memory")
    answer = kiosk.run("status")
    assert answer.status == 1
    assert "  memory " in answer.out
    assert "of 64 MiB" in answer.out
    assert "wrong: recordings don't go to the card but to memory, and a power cut would cost them: " in answer.out
    assert "others have filled the card\n  → look at the card" in answer.out


def test_what_is_chosen_and_by_whom_is_told_also_while_no_recorder_runs(kiosk: Kiosk) -> None:
    kiosk.configure()
    kiosk.recorded(2)
    answer = kiosk.run("status")
    assert "  flags       offline_recording is on (default)" in answer.out.splitlines()
    write_variants(kiosk.root / "runtime", kiosk.spool / "state", {"offline_recording": "off"})
    assert kiosk.run("status", "--json").json()["flags"] == [
        {"flag": "offline_recording", "variant": "off", "source": "flags"}
    ]
    answer = kiosk.run("status", KIOSK_RECORDER_FLAG_OFFLINE_RECORDING="on")
    assert "  flags       offline_recording is on (environment)" in answer.out.splitlines()
