from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.commands import mics
from agent.commands.mics import list_microphones
from hw.alsa import Capturing, microphones
from tests.cli.kiosk import Kiosk

if TYPE_CHECKING:
    import pytest

FOUND = [
    Capturing("hw:CARD=KioskMic", "USB Audio Device", "USB Audio"),
    Capturing("hw:CARD=Loopback,DEV=1", "Loopback", "Loopback PCM"),
]


def test_the_command_tells_what_this_machine_has(kiosk: Kiosk) -> None:
    answer = kiosk.run("mics", "--json", config=False)
    assert [microphone["pcm"] for microphone in answer.json()] == [microphone.pcm for microphone in microphones()]
    assert answer.status == (0 if microphones() else 1)


def test_microphones_are_listed_by_the_names_that_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mics, "microphones", lambda: FOUND)
    assert list_microphones(as_json=False) == 0
    assert capsys.readouterr().out == (
        "hw:CARD=KioskMic        USB Audio Device, USB Audio\nhw:CARD=Loopback,DEV=1  Loopback, Loopback PCM\n"
    )
    assert list_microphones(as_json=True) == 0
    assert json.loads(capsys.readouterr().out)[1] == {
        "pcm": "hw:CARD=Loopback,DEV=1",
        "card": "Loopback",
        "device": "Loopback PCM",
    }


def test_a_machine_without_any_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mics, "microphones", list)
    assert list_microphones(as_json=False) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("no microphone found\n  → plug one in")
