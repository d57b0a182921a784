"""What the light says, for each thing that a recorder can be doing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from agent.contract.metrics import RecorderState
from agent.recorder import light
from agent.recorder.light import SIGNS, Situation, sign_of
from agent.settings import Privacy
from hw.gpio import HOLD_S

CARD = (Path(__file__).parents[2] / "docs" / "ROOM.md").read_text()

RECORDING = Situation("recording", 0, "kept")
MUTED = Situation("muted", 1800, "kept")


@pytest.mark.parametrize("state", get_args(RecorderState))
def test_the_light_is_mostly_lit_exactly_while_the_room_is_heard(state: RecorderState) -> None:
    for uploading in (True, False):
        sign = sign_of(Situation(state, 1800, "kept", uploading=uploading))
        assert sign is not None
        rhythm = sign.rhythm
        assert (rhythm.on_s > 2 * rhythm.off_s) == (state in ("recording", "listening"))


def test_nothing_is_said_of_a_mute_before_it_is_known_whether_a_power_cut_can_undo_it() -> None:
    for left_s in (None, 1800, 30):
        assert sign_of(replace(MUTED, left_s=left_s, keeping="under way")) is None
    assert sign_of(MUTED) is light.QUIET
    assert sign_of(replace(MUTED, keeping="failed")) is light.UNKEPT


@pytest.mark.parametrize("state", ["muted", "paused"])
@pytest.mark.parametrize("keeping", ["kept", "failed"])
def test_recording_is_announced_a_minute_before_it_resumes(state: RecorderState, keeping: light.Keeping) -> None:
    situation = Situation(state, 60.1, keeping)
    assert sign_of(situation) is not light.SOON
    assert sign_of(replace(situation, left_s=60.0)) is light.SOON
    assert sign_of(replace(situation, left_s=None)) is not light.SOON


def test_the_light_is_lit_as_soon_as_sound_is_kept_not_only_when_the_card_is_ready() -> None:
    starting = Situation("starting", 0, "kept")
    assert sign_of(starting) is light.DARK
    assert sign_of(replace(starting, hearing=True)) is light.RECORDING


def test_whoever_looks_for_a_device_finds_it_but_is_told_of_recording_first() -> None:
    assert sign_of(replace(MUTED, left_s=60.0, identifying=True)) is light.SOON
    for situation in (RECORDING, MUTED, replace(MUTED, keeping="under way")):
        assert sign_of(replace(situation, identifying=True)) is light.IDENTIFY


def test_no_two_signs_look_alike() -> None:
    assert len({sign.rhythm for sign in SIGNS}) == len({sign.seen for sign in SIGNS}) == len(SIGNS)
    blinking = [sign.rhythm for sign in SIGNS if sign.rhythm.on_s and sign.rhythm.off_s]
    shares = {(round(rhythm.on_s / (rhythm.on_s + rhythm.off_s), 1), rhythm.on_s + rhythm.off_s) for rhythm in blinking}
    assert len(shares) == len(blinking)


def test_the_card_for_the_room_explains_every_sign_and_no_other() -> None:
    told = [line for line in CARD.splitlines() if line.startswith("| ") and not line.startswith("| the light is")]
    assert told == [f"| {sign.seen} | {sign.means} |" for sign in SIGNS]
    assert f"for **{Privacy().mute_minutes} minutes**" in CARD
    assert f"hold the button for {HOLD_S:g} seconds" in CARD
