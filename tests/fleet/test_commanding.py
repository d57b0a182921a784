"""Telling many kiosks at once: two hundred of them, played by one listener on a real mosquitto."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from agent.contract import messages
from agent.contract.commands import Command, judge
from agent.contract.messages import Heard, Message, Topics
from agent.contract.verbs import VERBS
from agent.courier import conversation
from agent.courier.openings import Openings
from agent.courier.presence import Presence
from agent.errors import KioskError
from agent.settings import Device, Settings
from fleet import commanding, roster
from fleet.broker import Address, Line
from fleet.keyring import Key
from hw.board import Identity
from hw.clock import SystemClock
from tests.servers import Broker, broker  # noqa: F401

ALICE = Key("alice", bytes(range(32)))


@pytest.fixture
def fleet(broker: Broker) -> Iterator[Address]:  # noqa: F811
    """200 kiosks; each tenth is offline, each seventh refuses."""
    address, stop, ready = Address(broker.url), threading.Event(), threading.Event()

    def live() -> None:
        with Line(address) as line:
            for number in range(200):
                groups = ("even",) if number % 2 == 0 else ()
                introduce(line, Device(site="north", id=f"room-{number}", groups=groups), online=number % 10 != 0)
            line.listen("kiosk/v1/+/+/cmd")
            ready.set()
            while not stop.is_set():
                for heard in line.hear(0.1):
                    _answer(line, heard)

    thread = threading.Thread(target=live)
    thread.start()
    assert ready.wait(60)
    yield address
    stop.set()
    thread.join()


def introduce(line: Line, device: Device, *, online: bool) -> None:
    """What a kiosk says of itself, by its own code."""
    settings = Settings(device=device)
    said: list[Message] = []
    topics = Topics(device.site, device.id)
    presence = Presence(settings, topics, Identity(None, None), Openings(settings), SystemClock(), {})
    presence.greet(cast("conversation.Line", SimpleNamespace(say=said.append)))
    _, birth = said
    line.publish(birth)
    line.publish(messages.status(topics, online=online))


def _answer(line: Line, heard: Heard) -> None:
    site, device = heard.topic.split("/")[2:4]
    judged = judge(
        heard.payload,
        retained=heard.retained,
        keys={ALICE.public},
        target=f"{site}/{device}",
        now_ns=SystemClock().wall_ns(),
        seen=lambda _: False,
        able=VERBS,
    )
    assert isinstance(judged, Command)
    topics, refuses = Topics(site, device), int(device.removeprefix("room-")) % 7 == 0
    # A repeat that the broker made is refused before the answer comes: that is no answer.
    line.publish(messages.result(topics, {"id": judged.id, "ok": False, "error": "replayed", "text": ""}))
    error = "unavailable" if refuses else None
    line.publish(messages.result(topics, {"id": judged.id, "ok": not refuses, "error": error, "text": ""}))


def test_two_hundred_kiosks_are_told_one_by_one_and_each_is_accounted_for(
    fleet: Address, capsys: pytest.CaptureFixture[str]
) -> None:
    with Line(fleet) as line:
        kiosks = roster.chosen(roster.roster(line))
        assert len(kiosks) == 200
        assert len(roster.chosen(kiosks, group="even")) == 100
        errands = commanding.send(line, kiosks, VERBS["report"], {}, ALICE, 60)
        commanding.wait(line, errands, 60)
    assert commanding.report(errands, waited=True, as_json=True) == 1
    told = {entry["device"]: entry["error"] for entry in json.loads(capsys.readouterr().out)}
    for number in range(200):
        expected = "offline" if number % 10 == 0 else "unavailable" if number % 7 == 0 else None
        assert told[f"room-{number}"] == expected


def test_a_fleet_is_seen_whole_that_mosquitto_would_not_tell_of_at_once(broker: Broker) -> None:  # noqa: F811
    with Line(Address(broker.url)) as line:
        for number in range(1200):
            introduce(line, Device(site="north", id=f"room-{number}", groups=("even",)), online=True)
    with Line(Address(broker.url)) as line:
        found = roster.roster(line)
    assert {kiosk.device for kiosk in found if kiosk.online} == {f"room-{number}" for number in range(1200)}
    assert len(roster.chosen(found, group="even")) == 1200


def test_who_says_nothing_is_told_apart_from_who_refuses(broker: Broker) -> None:  # noqa: F811
    with Line(Address(broker.url)) as line:
        errands = commanding.send(
            line, [roster.Kiosk("north", "deaf", (), online=True)], VERBS["report"], {}, ALICE, 60
        )
        commanding.wait(line, errands, 0.3)
    assert [errand.error for errand in errands] == ["no answer"]


@pytest.mark.parametrize(
    ("verb", "words", "told"),
    [
        ("shell", [], "one of pause"),
        ("erase", [], "needs either"),
        ("mute", ["minutes=0"], "whole minutes"),
        ("mute", ["hours=1"], "takes minutes"),
        ("report", ["x"], "no arguments"),
        ("set-upload-hours", [], "needs"),
    ],
)
def test_what_no_kiosk_would_take_is_not_sent(verb: str, words: list[str], told: str) -> None:
    with pytest.raises(KioskError, match=told):
        commanding.understood(verb, words)


@pytest.mark.parametrize("written", ["0s", "25h", "soon", "5"])
def test_a_command_lives_for_a_day_at_most(written: str) -> None:
    with pytest.raises(KioskError):
        commanding.lifetime(written)
