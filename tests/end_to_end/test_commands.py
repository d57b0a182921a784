"""Commands as an admin sends them and an attacker would: real broker, real courier, real recorder."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.contract.age import identities
from agent.contract.commands import compose
from agent.contract.keys import timestamp
from agent.contract.messages import Topics
from agent.contract.signed import public_key, sign
from agent.errors import KioskError
from agent.ledger import Ledger
from agent.mending import readable
from agent.settings import Capture, Commands, Device, Mqtt, Settings, Spool, Upload
from agent.units import NS_PER_S, Size
from fleet import keyring
from hw.clock import SystemClock
from hw.simulated import SimulatedRoom
from tests.courier.listener import Listener, listening
from tests.end_to_end.kiosk import ROOT, Kiosk, stop
from tests.keys import KeyPair, age_key
from tests.servers import Broker, broker  # noqa: F401
from tests.soundcard import RATE, Soundcard, eventually, numbered

SEED, MALLORY = bytes(range(32)), bytes(range(1, 33))
TOPICS = Topics("north", "room-12")


@dataclass
class Scene:
    """One kiosk, one broker, one who listens."""

    kiosk: Kiosk
    room: SimulatedRoom
    broker: Broker
    heard: Listener
    recorder: subprocess.Popen[bytes] = field(init=False)
    courier: subprocess.Popen[bytes] = field(init=False)

    def publish(self, payload: bytes, *options: str) -> None:
        command = ["mosquitto_pub", "-V", "5", "-p", str(self.broker.port), "-q", "1", "-t", TOPICS.command, "-s"]
        subprocess.run([*command, *options], input=payload, check=True)

    def command(self, verb: str, args: dict[str, Any] | None = None, **changed: Any) -> tuple[str, bytes]:  # noqa: ANN401
        made = compose(verb, args or {}, site="north", device="room-12", now_ns=time.time_ns(), lifetime_s=300)
        made |= changed
        return made["id"], sign("command", made, SEED)

    def results(self, name: str) -> list[dict[str, Any]]:
        return [message.content for message in self.heard.on("/cmd/result") if message.content["id"] == name]

    def result(self, name: str) -> dict[str, Any]:
        eventually(lambda: bool(self.results(name)), f"an answer to {name}", 60)
        return self.results(name)[0]

    def tell(self, verb: str, args: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:  # noqa: ANN401
        name, payload = self.command(verb, args, **changed)
        self.publish(payload)
        return self.result(name)

    def insist(self, verb: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        """Tell it again while the recorder, only just started, doesn't know yet what its ledger knows of the time."""
        answers = (self.tell(verb, args) for _ in range(20))
        return next(answer for answer in answers if answer["error"] != "clock")

    def state(self) -> str:
        status = self.kiosk.status()
        return status.state if status else ""

    def wait_for(self, state: str) -> None:
        eventually(lambda: self.state() == state, f"the recorder is {state}", 30)

    def vouch(self) -> None:
        """This boot's time can be trusted, as if the store had been asked before."""
        clock = SystemClock()
        self.kiosk.layout.create()
        with Ledger(self.kiosk.layout.ledger, clock, create=True) as ledger:
            ledger.begin_boot(clock.wall_ns() - clock.monotonic_ns(), "server")

    def record(self, state: str = "recording") -> subprocess.Popen[bytes]:
        """Start the recorder; it knows what its ledger knows of the time."""
        self.recorder = self.kiosk.record(self.room)
        eventually(
            lambda: (
                (status := self.kiosk.status()) is not None and (status.pid, status.state) == (self.recorder.pid, state)
            ),
            f"the recorder is {state}",
            30,
        )
        return self.recorder

    def connections(self) -> int:
        return len(self.heard.on("/birth"))

    def upload(self) -> subprocess.Popen[bytes]:
        before = self.connections()
        self.courier = self.kiosk.upload()
        eventually(lambda: self.connections() > before, "the courier is connected")
        return self.courier


@pytest.fixture
def scene(tmp_path: Path, soundcard: Soundcard, broker: Broker) -> Iterator[Scene]:  # noqa: F811
    settings = Settings(
        device=Device(site="north", id="room-12", groups=("internal",)),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", segment_seconds=2, keep_free=Size(0)),
        upload=Upload(target=f"file://{tmp_path / 'store'}", hours=()),
        mqtt=Mqtt(url=broker.url),
        commands=Commands(admin_keys=(public_key(SEED),)),
    )
    (tmp_path / "store").mkdir()
    with Kiosk(settings) as kiosk, listening(broker, "kiosk/#") as heard:
        yield Scene(kiosk, soundcard(numbered(60_000 * 5)), broker, heard)


@pytest.fixture
def alive(scene: Scene) -> Scene:
    """Both processes run, and know what time it is."""
    scene.vouch()
    scene.record()
    scene.upload()
    assert scene.insist("resume")["ok"]
    return scene


def test_every_refusal_is_answered_and_nothing_happens(alive: Scene) -> None:
    scene = alive
    before = json.dumps(compose("mute", {}, site="north", device="room-12", now_ns=0, lifetime_s=300))
    unsigned = {"signed": before}
    past: dict[str, Any] = {"issued": "2020-01-01T00:00:00Z", "expires": "2020-01-01T00:05:00Z"}
    future: dict[str, Any] = {"issued": "2090-01-01T00:00:00Z", "expires": "2090-01-01T00:05:00Z"}
    answers = {
        "other_target": scene.tell("mute", target="north/room-13"),
        "expired": scene.tell("mute", **past),
        "not_yet_valid": scene.tell("mute", **future),
        "unknown_verb": scene.tell("shell"),
        "bad_arguments": scene.tell("mute", {"minutes": 0}),
        "unavailable": scene.tell("identify"),
        "malformed": scene.tell("mute", expires="never"),
    }
    for expected, answer in answers.items():
        assert (answer["ok"], answer["error"]) == (False, expected)
    scene.publish(json.dumps(unsigned).encode())
    assert scene.result(json.loads(before)["id"])["error"] == "unsigned"
    name, payload = scene.command("mute")
    scene.publish(payload.replace(b"mute", b"pause"))
    assert scene.result(name)["error"] == "bad_signature"
    made = compose("mute", {}, site="north", device="room-12", now_ns=time.time_ns(), lifetime_s=300)
    scene.publish(sign("command", made, MALLORY))
    assert scene.result(made["id"])["error"] == "wrong_key"
    assert scene.state() == "recording"


def test_a_retained_command_is_refused_at_each_connection(alive: Scene) -> None:
    name, payload = alive.command("mute")
    # The kiosk that is connected hears it as it is published, without the mark: that one counts.
    other, kept = alive.command("pause")
    alive.courier.kill()
    alive.courier.wait()
    alive.publish(kept, "-r")
    alive.upload()
    assert alive.result(other)["error"] == "retained"
    assert alive.state() == "recording"
    alive.publish(payload)
    assert alive.result(name)["ok"]


def test_a_topic_that_is_emptied_says_nothing(alive: Scene) -> None:
    command = ["mosquitto_pub", "-V", "5", "-p", str(alive.broker.port), "-q", "1", "-t", TOPICS.command, "-n", "-r"]
    subprocess.run(command, check=True)
    assert alive.tell("report")["ok"]
    eventually(
        lambda: any(e.content["event"] == "command" for e in alive.heard.on("/event")), "the event of the next", 30
    )
    refused = [event for event in alive.heard.on("/event") if event.content["event"] == "command_refused"]
    assert refused == []


def test_what_came_before_is_refused_also_by_the_next_courier_and_the_recorder(alive: Scene) -> None:
    scene = alive
    name, payload = scene.command("pause", {"minutes": 60})
    scene.publish(payload)
    scene.publish(payload)
    assert scene.result(name)["ok"]
    assert scene.tell("resume")["ok"]
    scene.wait_for("recording")
    scene.courier.kill()
    scene.courier.wait()
    scene.upload()
    count = len(scene.results(name))
    scene.publish(payload)
    eventually(lambda: len(scene.results(name)) > count, "the repeat is answered")
    assert scene.results(name)[-1]["error"] == "replayed"
    # A courier that was taken hands it over nevertheless.
    mailbox = scene.kiosk.runtime / "commands" / name
    mailbox.write_bytes(payload)
    answer = scene.kiosk.runtime / "results" / name
    eventually(answer.exists, "the recorder answers itself")
    assert json.loads(answer.read_bytes())["error"] == "replayed"
    assert scene.state() == "recording"


def written_down(scene: Scene, name: str) -> bool:
    """Whether the courier's own memory has a command."""
    with contextlib.closing(sqlite3.connect(f"file:{scene.kiosk.layout.state}/commands.db?mode=ro", uri=True)) as book:
        return book.execute("SELECT 1 FROM commands WHERE id = ?", (name,)).fetchone() is not None


def test_a_courier_that_dies_between_receipt_and_result_says_so_and_does_not_repeat(alive: Scene) -> None:
    scene, recorder, courier = alive, alive.recorder, alive.courier
    recorder.send_signal(signal.SIGSTOP)
    name, payload = scene.command("mute")
    scene.publish(payload)
    eventually((scene.kiosk.runtime / "commands" / name).exists, "the courier handed it over")
    eventually(lambda: written_down(scene, name), "and wrote down that it did")
    courier.kill()
    courier.wait()
    recorder.send_signal(signal.SIGCONT)
    scene.wait_for("muted")
    scene.upload()
    assert scene.result(name)["ok"], "the recorder's answer waited for the next courier"
    scene.publish(payload)
    eventually(lambda: len(scene.results(name)) > 1, "the repeat is answered")
    assert scene.results(name)[-1]["error"] == "replayed"


@pytest.mark.parametrize("verb", ["mute", "pause"])
def test_what_was_played_in_the_quiet_is_nowhere_and_the_account_tiles(alive: Scene, verb: str) -> None:
    scene = alive
    state = {"mute": "muted", "pause": "paused"}[verb]
    assert scene.insist(verb, {"minutes": 60})["ok"]
    assert scene.state() in (state, "recording")
    quiet_ns = time.monotonic_ns()
    scene.wait_for(state)
    # A restart of the recorder, in good order and not, changes nothing.
    stop(scene.recorder)
    for number in (signal.SIGKILL, signal.SIGTERM):
        recorder = scene.record(state)
        status = scene.kiosk.status()
        assert status is not None
        assert status.quiet_until_ns is not None
        recorder.send_signal(number)
        recorder.wait()
    recorder = scene.record(state)
    resumed_ns = time.monotonic_ns()
    assert scene.insist("resume")["ok"]
    scene.wait_for("recording")
    eventually(lambda: scene.kiosk.segments()[-1].begin_ns > resumed_ns, "recording goes on", 30)
    stop(recorder)
    for segment in scene.kiosk.segments():
        assert segment.end_ns <= quiet_ns or segment.begin_ns >= resumed_ns
    assert scene.kiosk.found_wrong() == []
    assert state in {gap.reason for gap in scene.kiosk.gaps()}
    with scene.kiosk.ledger() as ledger:
        assert [entry.body["verb"] for entry in ledger.entries() if entry.kind == "command"] == [
            "resume",
            verb,
            "resume",
        ]


def test_while_the_clock_cannot_be_trusted_nothing_is_obeyed(scene: Scene) -> None:
    if SystemClock().synchronised():
        pytest.skip("this machine's clock is synchronised")
    scene.kiosk.record(scene.room)
    scene.kiosk.wait_for_recording()
    scene.upload()
    assert scene.tell("mute")["error"] == "clock"
    assert scene.state() == "recording"


def test_the_recorder_restarts_when_it_is_told_to_and_says_so_before(alive: Scene) -> None:
    recorder, courier = alive.recorder, alive.courier
    assert alive.tell("restart", {"what": "recorder"})["ok"]
    assert recorder.wait(30) == 75
    assert courier.poll() is None
    assert alive.tell("restart", {"what": "courier"})["ok"]
    assert courier.wait(30) == 75


def test_a_report_follows_the_telemetry_it_asked_for(alive: Scene) -> None:
    answer = alive.tell("report")
    assert answer["ok"]
    assert answer["output"]["seq"] in {message.content["seq"] for message in alive.heard.on("/telemetry")}


def test_ordered_upload_hours_survive_a_restart_and_are_given_back(alive: Scene) -> None:
    hour = (time.gmtime().tm_hour + 3) % 24
    hours = [f"{hour:02}:00-{(hour + 1) % 24:02}:00"]
    assert alive.tell("set-upload-hours", {"hours": hours})["ok"]
    alive.courier.kill()
    alive.courier.wait()
    alive.upload()
    count = len(list(alive.kiosk.segments()))
    eventually(lambda: len(alive.kiosk.segments()) >= count + 2, "recordings pile up")
    eventually(lambda: any(s.state == "pending" for s in alive.kiosk.segments()), "they wait")
    began_ns = time.monotonic_ns()
    assert alive.tell("upload-now")["ok"]
    eventually(
        lambda: all(s.state == "acknowledged" for s in alive.kiosk.segments() if s.end_ns < began_ns), "they go now"
    )
    answer = alive.tell("set-upload-hours", {"hours": None})
    assert answer["output"] == {"hours": [], "from": "file"}
    eventually(lambda: alive.heard.on("/birth")[-1].content["upload_hours"]["from"] == "file", "birth tells it")


@pytest.mark.timeout(180)
def test_thousands_of_forged_payloads_are_not_obeyed_and_the_courier_goes_on(alive: Scene) -> None:
    name, good = alive.command("mute")
    flood = b"\n".join(
        good.replace(b"\n", b" ")[:place] + bytes([33 + number % 90]) + good[place + 1 :]
        for number, place in zip(range(3000), itertools.cycle(range(1, len(good) - 1)), strict=False)
        if good[place] != 33 + number % 90
    )
    command = ["mosquitto_pub", "-V", "5", "-p", str(alive.broker.port), "-q", "1", "-t", TOPICS.command, "-l"]
    subprocess.run(command, input=flood, check=True)
    # The broker may drop what comes on top of a flood: an admin who gets no answer asks again.
    asked: list[str] = []

    def answered() -> bool:
        if len(asked) * 5 <= time.monotonic() - began_s:
            again, payload = alive.command("report")
            alive.publish(payload)
            asked.append(again)
        return any(alive.results(each) for each in asked)

    began_s = time.monotonic()
    eventually(answered, "the courier answers after the flood", 90)
    assert alive.state() == "recording"
    assert not any(message.content["ok"] and message.content["id"] == name for message in alive.heard.on("/cmd/result"))
    assert len(alive.heard.on("/cmd/result")) < 200, "a stranger can't make the kiosk flood the broker"


def fleet(scene: Scene, keys: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"KIOSK_FLEET_KEYS": str(keys), "KIOSK_FLEET_BROKER": scene.broker.url}
    return subprocess.run(
        [sys.executable, "-m", "fleet.cli", "command", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_an_admin_is_told_plainly_what_became_of_a_command(alive: Scene, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keyring.make(keys, "stranger")
    refused = fleet(alive, keys, "room-12", "mute", "minutes=1")
    assert refused.returncode == 1
    assert "refused (wrong_key)" in refused.stdout
    assert "--key" in refused.stdout
    assert fleet(alive, keys, "room-12", "mute", "minutes=0").returncode == 2
    assert "did you mean" in fleet(alive, keys, "room-21", "report").stderr
    assert "--yes" in fleet(alive, keys, "--all", "report").stderr
    (keys / "stranger.key").write_text("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    told = fleet(alive, keys, "--group", "internal", "report", "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)[0]["ok"]
    alive.courier.terminate()
    alive.courier.wait()
    away = fleet(alive, keys, "north/room-12", "report")
    assert (away.returncode, "offline" in away.stdout) == (1, True)


def opens(path: Path, key: KeyPair) -> bool:
    try:
        readable(path, identities(key.secret))
    except KioskError:
        return False
    return True


def test_recipients_are_changed_by_command_for_the_next_segment_and_every_start_after(
    alive: Scene, tmp_path: Path
) -> None:
    scene = alive
    old, new = age_key(tmp_path, "old"), age_key(tmp_path, "new")

    def newest() -> Path:
        """A segment that began after this moment."""
        layout = scene.kiosk.layout
        known = {path.name for path in (*layout.sealed.iterdir(), *layout.open.iterdir())}
        known = {name.partition(".")[0] for name in known}

        def fresh() -> list[Path]:
            paths = (*layout.sealed.glob("*.flac"), *layout.sealed.glob("*.flac.age"))
            return [path for path in paths if path.name.partition(".")[0] not in known]

        eventually(lambda: bool(fresh()), "another segment is sealed", 30)
        return fresh()[0]

    os.kill(scene.courier.pid, signal.SIGSTOP)  # it would remove what is uploaded
    assert newest().name.endswith(".flac"), "this kiosk was set up without encryption"
    os.kill(scene.courier.pid, signal.SIGCONT)
    answer = scene.tell("rotate-recipients", {"recipients": [old.public]})
    assert (answer["ok"], answer["output"]) == (True, {"recipients": 1}), answer["text"]
    issued = timestamp(time.time_ns() - 10 * NS_PER_S)
    late, payload = scene.command("rotate-recipients", {"recipients": [old.public]}, issued=issued)
    answer = scene.tell("rotate-recipients", {"recipients": [new.public]})
    assert answer["ok"]
    for wrong in ([], ["age1nonsense"], "age1"):
        assert scene.tell("rotate-recipients", {"recipients": wrong})["error"] == "bad_arguments"
    scene.publish(payload)
    assert scene.result(late)["error"] == "failed", "an older command doesn't bring back who was revoked"
    stop(scene.courier)
    for _ in range(2):
        path = newest()
        assert path.name.endswith(".flac.age")
        assert (opens(path, new), opens(path, old)) == (True, False)
        stop(scene.recorder)
        scene.record()
