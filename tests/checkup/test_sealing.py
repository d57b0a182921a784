"""What is heard is sealed as the recorder does it, and opened again where a key is at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.checkup import machine, microphone, recording, store
from agent.checkup.visit import Visit
from agent.contract import age
from agent.settings import Capture, Seal, Upload
from hw.memory import Memory, Swap
from tests.checkup.kiosk import RATE, found, kiosk, visit
from tests.checkup.test_store import tight
from tests.keys import age_key, ssh_key
from tests.servers import Bucket
from tests.soundcard import Soundcard

Heard = Callable[..., Visit]


@pytest.fixture
def heard(soundcard: Soundcard, tmp_path: Path) -> Heard:
    """A check that has listened to a room, for these recipients."""

    def make(*recipients: str, identities: tuple[Path, ...] = (), upload: Upload | None = None) -> Visit:
        samples = np.random.default_rng(1).normal(0, 60, (2 * RATE, 1)).astype(np.int16)
        room = soundcard(samples, speed=20, patient=True)
        settings = replace(
            kiosk(tmp_path, capture=Capture(pcm=room.pcm, rate=RATE), upload=upload), seal=Seal(recipients=recipients)
        )
        checked = visit(settings, room.clock(), seconds=2, identities=identities)
        found(microphone.look, checked)
        return checked

    return make


def test_with_recipients_only_what_is_sealed_is_uploaded(heard: Heard, bucket: Bucket, tmp_path: Path) -> None:
    tight(bucket)
    upload = Upload(target=f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url, region="us-east-1")
    checked = heard(age_key(tmp_path).public, upload=upload)
    found(store.look, checked)
    ((name, content),) = bucket.contents().items()
    assert name.endswith(".flac.age")
    assert content.startswith(age.MAGIC)
    assert b"fLaC" not in content


@pytest.mark.parametrize("make", [age_key, ssh_key])
def test_the_key_at_hand_opens_it_again(heard: Heard, tmp_path: Path, make: Callable[[Path], object]) -> None:
    key = make(tmp_path)
    checked = heard(key.public, identities=(key.secret,))  # type: ignore[attr-defined]
    finding = found(recording.look, checked)["sealing"]
    assert finding.verdict == "green"
    assert "opened again" in finding.text


def test_another_key_does_not_and_that_is_red(heard: Heard, tmp_path: Path) -> None:
    checked = heard(age_key(tmp_path).public, identities=(age_key(tmp_path, "other").secret,))
    assert found(recording.look, checked)["sealing"].verdict == "red"


def test_without_a_key_it_says_that_nothing_was_opened(heard: Heard, tmp_path: Path) -> None:
    finding = found(recording.look, heard(age_key(tmp_path).public))["sealing"]
    assert finding.verdict == "green"
    assert "not opened again" in finding.text


def test_without_recipients_it_is_yellow(heard: Heard) -> None:
    assert found(recording.look, heard())["sealing"].verdict == "yellow"


def test_a_recorder_that_does_not_seal_what_it_should_is_red(heard: Heard, tmp_path: Path) -> None:
    checked = heard(age_key(tmp_path).public)
    assert checked.sample is not None
    checked.kept = replace(checked.sample, sealed=None)
    assert found(recording.look, checked)["sealing"].verdict == "red"


def test_swap_to_the_card_is_red_with_recipients(heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(1 << 30, 1 << 29, None, (Swap("/var/swap", "disk", 1 << 20, 0),))
    monkeypatch.setattr(machine, "read_memory", lambda _root: memory)
    assert found(machine.look, heard())["swap"].verdict == "yellow"
    assert found(machine.look, heard(age_key(tmp_path).public))["swap"].verdict == "red"
