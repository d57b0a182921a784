"""Home Assistant finds the kiosk: step by step, by a real broker, and by a real Home Assistant where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.discovery import About
from agent.contract.messages import Heard
from agent.contract.metrics import METRICS
from agent.courier.conversation import IDLE_S, Conversation
from agent.courier.conversation import Line as ConversationLine
from agent.courier.discovery import LATEST_S, SETTLE_S, Discovery
from agent.settings import Settings
from agent.status import RecorderStatus, write_status
from hw.clock import SystemClock
from tests.clocks import FakeClock
from tests.courier.kiosk import Kiosk
from tests.courier.listener import listening
from tests.courier.process import courier
from tests.courier.test_reporting import Line
from tests.servers import Broker, mosquitto
from tests.soundcard import eventually

CONFIG = "homeassistant/device/room-12/config"
BIRTH = "homeassistant/status"
ABOUT = About("north", "room-12", "0.1.0", None, None)
ROOT = Path(__file__).resolve().parents[2]


class Other:
    """A subject that counts how often it is told that nobody knows anything."""

    listens_to: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.greeted = 0

    def greet(self, line: ConversationLine) -> None:  # noqa: ARG002 (a subject's)
        self.greeted += 1

    def step(self, line: ConversationLine) -> float:  # noqa: ARG002 (a subject's)
        return IDLE_S


class Talk:
    """A conversation that is about Home Assistant alone."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.other = Other()
        self.line = Line()
        self.woken = 0
        self.subject = Discovery(ABOUT, "homeassistant", [self.other], clock)
        self.subject.asked = self._wake
        self._conversation = Conversation([self.subject], clock, threading.Event())

    def step(self) -> float:
        return self._conversation.step(self.line)

    def say_online(self, payload: bytes = b"online", *, retained: bool = False) -> None:
        (heed,) = self.subject.listens_to.values()
        heed(Heard(BIRTH, payload, retained))

    def told(self) -> int:
        """How often Home Assistant was told since the last call."""
        assert all(message.topic == CONFIG for message in self.line.sent)
        return len(self.line.topics())

    def _wake(self) -> None:
        self.woken += 1


@pytest.fixture
def talk(clock: FakeClock) -> Talk:
    return Talk(clock)


def test_it_listens_to_what_home_assistant_says_of_itself(talk: Talk) -> None:
    assert list(talk.subject.listens_to) == [BIRTH]


def test_it_is_told_at_each_connection_and_others_speak_again_once_it_listens(talk: Talk) -> None:
    for time in (1, 2):
        talk.line.connect()
        assert talk.step() == SETTLE_S
        assert talk.told() == 1
        talk.clock.advance(SETTLE_S)
        assert talk.step() == IDLE_S
        assert (talk.told(), talk.other.greeted) == (0, time)


def test_a_home_assistant_that_starts_is_told_within_a_few_seconds_of_each_kiosks_own(clock: FakeClock) -> None:
    waits = set()
    for _ in range(8):
        talk = Talk(clock)
        talk.line.connect()
        talk.step()
        clock.advance(SETTLE_S)
        talk.step()
        talk.told()
        talk.say_online()
        assert talk.woken == 1
        rest_s = talk.step()
        assert 0 <= rest_s <= LATEST_S
        assert talk.told() == 0
        clock.advance(LATEST_S)
        talk.step()
        assert talk.told() == 1
        waits.add(rest_s)
    assert len(waits) > 1, "a fleet doesn't answer at the same moment"


def test_whoever_says_so_all_the_time_is_told_no_more_often_for_it(talk: Talk) -> None:
    talk.line.connect()
    talk.step()
    talk.told()
    for _ in range(100):
        talk.say_online()
        talk.step()
    talk.clock.advance(LATEST_S)
    talk.step()
    assert talk.told() == 1


@pytest.mark.parametrize(
    ("payload", "retained"), [(b"offline", False), (b"", False), (b"\xff", False), (b"online", True)]
)
def test_nothing_else_makes_it_speak(talk: Talk, payload: bytes, retained: bool) -> None:  # noqa: FBT001
    talk.line.connect()
    talk.step()
    talk.told()
    talk.say_online(payload, retained=retained)
    talk.clock.advance(LATEST_S)
    talk.step()
    assert (talk.told(), talk.woken) == (0, 0)


def test_what_it_asked_while_the_line_was_down_is_answered_by_the_next_connection(talk: Talk) -> None:
    talk.say_online()
    talk.step()
    talk.clock.advance(LATEST_S)
    talk.step()
    assert talk.told() == 0
    talk.line.connect()
    talk.step()
    assert talk.told() == 1


@pytest.fixture
def real(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path / "kiosk", SystemClock())


def settings_of(kiosk: Kiosk, broker: Broker, prefix: str = "homeassistant") -> Settings:
    settings = kiosk.settings(mqtt=broker.url)
    return replace(settings, mqtt=replace(settings.mqtt, discovery_prefix=prefix))


def say(broker: Broker, topic: str, payload: str) -> None:
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-t", topic, "-m", payload, "-q", "1"], check=True)


def test_a_home_assistant_hears_of_the_kiosk_when_either_of_them_comes(real: Kiosk, broker: Broker) -> None:
    with listening(broker, "#") as listener, courier(settings_of(real, broker), {}) as running:
        eventually(lambda: bool(listener.on(CONFIG)), f"it is told: {running.log}")
        with listening(broker, "homeassistant/#") as late:
            eventually(lambda: [message.retained for message in late.on(CONFIG)] == [True], "it is kept for later")
        alerts = len(listener.on("/alert/direct_path"))
        say(broker, BIRTH, "online")
        eventually(lambda: len(listener.on(CONFIG)) == 2, "it is told again", LATEST_S + 10)
        eventually(lambda: len(listener.on("/alert/direct_path")) > alerts, "and that nothing is wrong", 30)
        assert listener.said(CONFIG)[0] == listener.said(CONFIG)[1]
        assert running.end() == 0


def test_without_a_prefix_home_assistant_is_told_nothing(real: Kiosk, broker: Broker) -> None:
    with listening(broker, "#") as listener, courier(settings_of(real, broker, ""), {}) as running:
        eventually(lambda: bool(listener.on("/telemetry")), f"telemetry: {running.log}")
        say(broker, BIRTH, "online")
        assert running.end() == 0
        eventually(lambda: listener.said("/room-12/status")[-1:] == ["offline"], "goodbye")
    assert {message.topic for message in listener.heard if message.topic.startswith("homeassistant")} == {BIRTH}


def test_the_shipped_access_list_lets_it_through_and_no_other_kiosks(real: Kiosk, tmp_path: Path) -> None:
    listed = (ROOT / "fleet" / "access" / "kiosks.acl").read_text()
    access, known, password = (tmp_path / name for name in ("access", "known", "password"))
    access.write_text(f"user fleet\ntopic readwrite #\n{listed}")
    known.touch()
    for user in ("room-12", "fleet"):
        subprocess.run(["mosquitto_passwd", "-b", known, user, "word"], check=True, capture_output=True)
    password.write_text("word\n")
    password.chmod(0o600)
    options = f"allow_anonymous false\npassword_file {known}\nacl_file {access}"
    with mosquitto(tmp_path, options) as broker, listening(broker, "#", ["-u", "fleet", "-P", "word"]) as fleet:
        settings = settings_of(real, broker)
        mqtt = replace(settings.mqtt, username="room-12", password_file=password)
        with courier(replace(settings, mqtt=mqtt), {}) as running:
            eventually(lambda: bool(fleet.on(CONFIG) and fleet.on("/telemetry")), f"it is told: {running.log}")
            says = ["-u", "room-12", "-P", "word", "-q", "1", "-t"]
            command = ["mosquitto_pub", "-p", str(broker.port), *says]
            for topic in ("homeassistant/device/room-13/config", BIRTH, "kiosk/v1/north/room-13/status"):
                subprocess.run([*command, topic, "-m", "online"], check=True)
            subprocess.run(
                [
                    "mosquitto_pub",
                    "-p",
                    str(broker.port),
                    "-u",
                    "fleet",
                    "-P",
                    "word",
                    *says[4:],
                    BIRTH,
                    "-m",
                    "online",
                ],
                check=True,
            )
            eventually(lambda: len(fleet.on(CONFIG)) == 2, "Home Assistant is heard", LATEST_S + 10)
            assert running.end() == 0
    assert not [message for message in fleet.heard if "room-13" in message.topic]
    assert len(fleet.on(BIRTH)) == 1


class House:
    """A real Home Assistant (tests/house.py)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def look(self) -> dict[str, Any]:
        """What it sees now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seen: dict[str, Any] = json.loads(self._process.stdout.readline())
        return seen

    def state(self, entity: str) -> str | None:
        found = self.look()["states"].get(entity)
        return None if found is None else str(found["state"])


@contextmanager
def house(python: str, broker: Broker, directory: Path) -> Iterator[House]:
    directory.mkdir()
    (directory / "configuration.yaml").touch()
    command = [python, "tests/house.py", str(broker.port), str(directory)]
    log = (directory / "log").open("w")
    with (
        log,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n", (directory / "log").read_text()
            yield House(process)
        finally:
            process.kill()


def test_a_real_home_assistant_shows_the_kiosk_as_it_is(real: Kiosk, broker: Broker, tmp_path: Path) -> None:
    python = os.environ.get("KIOSK_RECORDER_HOMEASSISTANT")
    if not python or not Path(python).exists():
        pytest.skip("KIOSK_RECORDER_HOMEASSISTANT names no Python that has a Home Assistant (2024.11 or later)")
    runtime = real.root / "run"
    runtime.mkdir()

    def picture(path: str) -> None:
        now_ns = real.clock.monotonic_ns()
        status = RecorderStatus(pid=1, boot=real.clock.boot, state="recording", since_ns=0, updated_ns=now_ns)
        write_status(runtime, replace(status, path=path, trouble="card failed"))  # type: ignore[arg-type]

    picture("spool")
    with house(python, broker, tmp_path / "house") as seen:
        with courier(settings_of(real, broker), {}) as running:
            eventually(lambda: seen.state("sensor.north_room_12_recorder") == "recording", f"{running.log}", 40)
            eventually(lambda: seen.state("binary_sensor.north_room_12_direct_path") == "off", "no problem", 40)
            picture("direct")
            eventually(lambda: seen.state("binary_sensor.north_room_12_direct_path") == "on", "a problem", 40)
            picture("spool")
            eventually(lambda: seen.state("binary_sensor.north_room_12_direct_path") == "off", "an end of it", 40)
            told = seen.look()
            assert told["warnings"] == []
            (device,) = (each for each in told["devices"] if each["name"] == "north/room-12")
            assert device["area_id"] == "north"
            states = told["states"]
            names = {each["friendly_name"].removeprefix("north/room-12 ") for each in states.values()}
            off = {"Custody head", "Throttling bits"}
            assert {metric.label for metric in METRICS} - off <= names
            assert states["sensor.north_room_12_upload_success_rate"]["state"] == "unknown", "null"
            assert states["binary_sensor.north_room_12_connected"]["state"] == "on"
            running.kill()
        eventually(lambda: seen.state("sensor.north_room_12_recorder") == "unavailable", "it is gone", 40)
        assert seen.state("binary_sensor.north_room_12_connected") == "off"
