"""What is reported, step by step: the test owns the clock and stands where the connection would be."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from agent.contract.alerts import NAMES
from agent.contract.keys import timestamp
from agent.contract.messages import TELEMETRY_EVERY_S, Message, Topics
from agent.courier import conversation
from agent.courier.activity import Activity
from agent.courier.alarms import Alarms
from agent.courier.broker import Broker
from agent.courier.conversation import Conversation, Subject
from agent.courier.measures import Measures
from agent.courier.monitor import Monitor
from agent.courier.openings import Openings
from agent.courier.presence import Presence, configuration_digest
from agent.courier.reporter import Reporter
from agent.courier.signs import Signs
from agent.courier.stock import take_stock
from agent.courier.telling import Alerts, Telemetry
from agent.errors import KioskError
from agent.settings import Mqtt
from agent.status import RecorderStatus, write_status
from hw.board import Identity
from tests.clocks import BOOT, FakeClock
from tests.courier.kiosk import Kiosk
from tests.witness import wrong_with_message

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessageInfo


class Line(Broker):
    """A connection that the test makes and breaks."""

    def __init__(self) -> None:
        super().__init__(Mqtt(url="mqtt://127.0.0.1:1"), "room-12", None, lambda: None)
        self.up = False
        self.connections = 0
        self.runs = True
        self.sent: list[Message] = []

    @property
    def connected(self) -> bool:
        return self.up

    @property
    def alive(self) -> bool:
        return self.runs

    def connect(self) -> None:
        self.up = True
        self.connections += 1

    @property
    def session(self) -> int:
        return self.connections if self.up else 0

    def publish(self, message: Message) -> MQTTMessageInfo | None:
        assert wrong_with_message(message) == []
        if self.up:
            self.sent.append(message)
        return None

    def topics(self) -> list[str]:
        """The last part of each topic since the last call."""
        topics = [message.topic.rpartition("/")[2] for message in self.sent]
        self.sent.clear()
        return topics


@pytest.fixture
def line() -> Line:
    return Line()


@dataclass
class Talk:
    """A monitor, and the conversation about what it sees."""

    monitor: Monitor
    conversation: Conversation

    def step(self, line: Line) -> float:
        rest_s = self.monitor.step()
        self.conversation.step(line)
        return rest_s


@pytest.fixture
def talk(kiosk: Kiosk, clock: FakeClock, tmp_path: Path) -> Talk:
    settings, topics, stop = kiosk.settings(), Topics("north", "room-12"), threading.Event()
    measures = Measures(settings, Activity(clock), clock, tmp_path)
    signs, alarms = Signs(0, lambda: "", clock), Alarms(settings.alerts, clock, {})
    monitor = Monitor(lambda: take_stock(kiosk.layout, clock), lambda: None, measures, signs, alarms, clock, stop)
    subjects: list[Subject] = [
        Presence(settings, topics, Identity(None, None), Openings(settings), clock, {}),
        Telemetry(topics, monitor),
        Alerts(topics, monitor),
    ]
    return Talk(monitor, Conversation(subjects, clock, stop))


def test_nothing_is_said_before_there_is_a_connection_and_everything_at_once_then(talk: Talk, line: Line) -> None:
    talk.step(line)
    assert line.topics() == []
    line.connect()
    talk.step(line)
    assert line.topics() == ["status", "birth", "telemetry", *NAMES]


def test_what_is_said_on_a_connection_that_is_gone_is_not_said_on_the_next(
    talk: Talk, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    greet = Telemetry.greet

    def break_meanwhile(telemetry: Telemetry, on: conversation.Line) -> None:
        greet(telemetry, on)
        if line.connections == 1:
            line.connect()

    monkeypatch.setattr(Telemetry, "greet", break_meanwhile)
    line.connect()
    talk.step(line)
    assert line.topics() == ["status", "birth"]
    talk.step(line)
    assert line.topics() == ["status", "birth", "telemetry", *NAMES]


def test_telemetry_comes_every_thirty_seconds_and_counts(talk: Talk, line: Line, clock: FakeClock) -> None:
    line.connect()
    talk.step(line)
    line.topics()
    clock.advance(TELEMETRY_EVERY_S - 1)
    assert talk.step(line) == 1
    assert line.topics() == []
    clock.advance(1)
    talk.step(line)
    assert b'"seq":1,' in line.sent[0].payload
    assert line.topics() == ["telemetry"]


def test_at_each_connection_the_kiosk_says_again_who_it_is(talk: Talk, line: Line, clock: FakeClock) -> None:
    for _ in range(2):
        line.connect()
        talk.step(line)
        assert line.topics() == ["status", "birth", "telemetry", *NAMES]
        clock.advance(5)


def test_a_connection_whose_thread_died_ends_the_reporter(kiosk: Kiosk, clock: FakeClock, line: Line) -> None:
    line.runs = False
    reporter = Reporter(kiosk.settings(), Topics("north", "room-12"), [], [], lambda _: None, clock, threading.Event())
    with pytest.raises(KioskError, match="thread"):
        reporter.look_after(line)


def test_two_configurations_show_the_same_digest_only_if_they_are_alike(kiosk: Kiosk) -> None:
    one = configuration_digest(kiosk.settings("file:///a"))
    assert one == configuration_digest(kiosk.settings("file:///a"))
    assert one != configuration_digest(kiosk.settings("file:///b"))


def picture(clock: FakeClock, path: Literal["spool", "direct"], detour: str = "", trouble: str = "") -> RecorderStatus:
    now_ns = clock.monotonic_ns()
    return RecorderStatus(
        pid=1,
        boot=BOOT,
        state="recording",
        since_ns=0,
        updated_ns=now_ns,
        path=path,
        detour=detour,
        trouble=trouble or detour,
    )


def test_recordings_that_do_not_go_to_the_card_raise_an_alert_until_they_do_again(
    talk: Talk, line: Line, clock: FakeClock, tmp_path: Path
) -> None:
    line.connect()
    write_status(tmp_path, picture(clock, "spool"))
    talk.step(line)
    assert [message.payload for message in line.sent if message.topic.endswith("/alert/direct_path")] == [b""], (
        "an earlier session may have left one"
    )
    line.topics()
    began_ns = clock.wall_ns()
    for _ in range(4):
        write_status(tmp_path, picture(clock, "direct", "card failed\n  → look at it"))
        talk.step(line)
        clock.advance(4)
    (raised,) = [message for message in line.sent if message.topic.endswith("/alert/direct_path")]
    assert (raised.qos, raised.retain) == (1, True)
    assert json.loads(raised.payload) == {
        "severity": "critical",
        "since": timestamp(began_ns),
        "value": 4,
        "threshold": 3,
        "text": "card failed\n  → look at it",
    }
    line.topics()
    for _ in range(4):
        write_status(tmp_path, picture(clock, "spool"))
        talk.step(line)
        clock.advance(4)
    said = [(message.topic, message.payload) for message in line.sent if "/alert/" in message.topic]
    assert said == [(raised.topic, b"")]


def test_memory_that_is_chosen_raises_no_alert_whatever_else_is_wrong(
    talk: Talk, line: Line, clock: FakeClock, tmp_path: Path
) -> None:
    line.connect()
    for _ in range(4):
        write_status(tmp_path, picture(clock, "direct", trouble="the microphone is gone"))
        talk.step(line)
        clock.advance(4)
    assert [message.payload for message in line.sent if message.topic.endswith("/alert/direct_path")] == [b""]
