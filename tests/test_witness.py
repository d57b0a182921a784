"""The witness: what is said against the contract turns any test red, and what a test says on purpose doesn't."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent.contract import messages
from agent.contract.messages import FLAGS, Message, Topics
from agent.contract.metrics import METRICS
from agent.contract.signed import sign
from fleet.broker import Address, Line
from tests.servers import Broker, mosquitto
from tests.soundcard import eventually
from tests.witness import wrong_with_message

TOPICS = Topics("north", "room-12")
TELEMETRY = messages.telemetry(
    TOPICS,
    {
        metric.name: (metric.choices or ("x",))[0] if metric.kind == "text" else None if metric.null else 1
        for metric in METRICS
    },
    wall_ns=0,
    seq=0,
)
ALERT = messages.alert(TOPICS, "disk", severity="warning", since_ns=0, text="full", value=1.5, threshold=1)
FACTS = {"run": "0123456789ab", "seq": 7, "reason": "cap"}
EVENT = messages.event(TOPICS, "evicted", key="0123456789ab-12", wall_ns=0, facts=FACTS)


def changed(message: Message, **parts: object) -> Message:
    """A message with some parts of its JSON replaced; `...` takes one away."""
    content = json.loads(message.payload) | parts
    payload = json.dumps({name: part for name, part in content.items() if part is not ...}).encode()
    return Message(message.topic, payload, message.qos, message.retain, message.expires_s)


RIGHT = [
    messages.status(TOPICS, online=True),
    TELEMETRY,
    ALERT,
    messages.cleared(TOPICS, "disk"),
    EVENT,
    messages.result(TOPICS, {"id": "0123456789abcdef", "ok": False, "error": "expired", "output": None}),
    Message(TOPICS.command, sign("command", {}, bytes(32)), qos=1, retain=False),
    Message("somewhere/else", b"\xff", qos=0, retain=False),
]
WRONG = {
    "a status of its own": Message(TOPICS.status, b"away", qos=1, retain=True),
    "nothing for a status": Message(TOPICS.status, b"", qos=1, retain=True),
    "telemetry with a name too many": changed(TELEMETRY, cpu_temp_f=122),
    "telemetry with a name too few": changed(TELEMETRY, uptime_s=...),
    "null where something can always tell": changed(TELEMETRY, uptime_s=None),
    "more than all": changed(TELEMETRY, upload_success_rate_pct=100.1),
    "half a thing": changed(TELEMETRY, gap_count=0.5),
    "a counter below 0": changed(TELEMETRY, segments_total=-1),
    "a state that there isn't": changed(TELEMETRY, recorder_state="sleeping"),
    "a time of somewhere": changed(TELEMETRY, ts="2026-03-01T08:00:00+01:00"),
    "telemetry that never expires": Message(TELEMETRY.topic, TELEMETRY.payload, 0, retain=True),
    "telemetry that isn't kept": Message(TELEMETRY.topic, TELEMETRY.payload, 0, retain=False, expires_s=150),
    "telemetry that waits": Message(TELEMETRY.topic, TELEMETRY.payload, 1, retain=True, expires_s=150),
    "no JSON": Message(TOPICS.event, b"hello", qos=1, retain=False),
    "an event that is kept": Message(TOPICS.event, EVENT.payload, 1, retain=True),
    "an event that there isn't": changed(EVENT, event="party"),
    "an event without a fact": changed(EVENT, run=...),
    "an event with a fact of another": changed(EVENT, version=1),
    "an event with a fact that can't be": changed(EVENT, seq="first"),
    "an event of nobody": changed(EVENT, id=""),
    "an alert of no severity": changed(ALERT, severity="bad"),
    "an alert without words": changed(ALERT, text=""),
    "a command that is kept": Message(TOPICS.command, sign("command", {}, bytes(32)), qos=1, retain=True),
    "a command of nobody": Message(TOPICS.command, b'{"signed":"{}"}', qos=1, retain=False),
    "a topic that there isn't": Message(f"{TOPICS.base}/diary", b"{}", qos=1, retain=False),
    "a room that can't be": Message("kiosk/v1/north/Room 12/status", b"online", qos=1, retain=True),
}


@pytest.mark.parametrize("message", RIGHT, ids=lambda message: message.topic)
def test_what_is_right_passes(message: Message) -> None:
    assert wrong_with_message(message) == []


@pytest.mark.parametrize("which", WRONG)
def test_what_is_wrong_is_seen(which: str) -> None:
    assert wrong_with_message(WRONG[which]) != []


def say(broker: Broker, *said: Message) -> None:
    with Line(Address(broker.url)) as line:
        for message in said:
            line.publish(message)


def say_and_kill(broker: Broker, message: Message) -> None:
    say(broker, message)
    transcript = broker.directory / f"witness-{broker.port}.txt"
    eventually(lambda: message.payload.hex() in transcript.read_text(), "it is heard")
    os.kill(broker.pid, signal.SIGKILL)


def test_a_kiosk_that_says_something_wrong_fails_the_test_whose_broker_it_was(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="sleeping"), mosquitto(tmp_path) as broker:
        say(broker, TELEMETRY, WRONG["a state that there isn't"])


def test_the_very_last_message_before_the_broker_ends_is_heard(tmp_path: Path) -> None:
    for number in range(20):
        place = tmp_path / str(number)
        place.mkdir()
        with pytest.raises(AssertionError, match="away"), mosquitto(place) as broker:
            say(broker, WRONG["a status of its own"])


def test_attacks_are_a_tests_own_business_unless_it_asks(tmp_path: Path) -> None:
    garbage = Message(FLAGS, b"garbage", qos=1, retain=True)
    with mosquitto(tmp_path) as broker:
        say(broker, garbage)
    with pytest.raises(AssertionError, match="garbage"), mosquitto(tmp_path, admins=True) as broker:
        say(broker, garbage)


def test_a_broker_that_lets_nobody_else_in_is_heard_all_the_same(tmp_path: Path) -> None:
    known = tmp_path / "known"
    subprocess.run(["mosquitto_passwd", "-c", "-b", known, "room-12", "secret"], check=True, capture_output=True)
    message = ["-u", "room-12", "-P", "secret", "-t", TOPICS.status, "-m", "away", "-r", "-q", "1"]
    options = f"allow_anonymous false\npassword_file {known}"
    with pytest.raises(AssertionError, match="away"), mosquitto(tmp_path, options) as broker:
        subprocess.run(["mosquitto_pub", "-p", str(broker.port), *message], check=True)


def test_a_broker_that_is_killed_keeps_nobody_waiting_and_what_was_heard_counts(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="away"), mosquitto(tmp_path) as broker:
        say_and_kill(broker, WRONG["a status of its own"])
