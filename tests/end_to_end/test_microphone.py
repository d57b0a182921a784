"""What a microphone can do to a recorder: real alsa-lib, the real process, a room whose journal knows every frame.

The rooms here wait for their reader while they are heard, and run at their own pace while they aren't: minutes of sound
pass in a moment, an absence lasts as long as it says. All times are those of the room's clock.

A card of the kernel that comes back under another number needs a kernel with one: here alsa-lib's own configuration
gives the stable name to another PCM, and tests/hw/test_alsa.py renumbers a /proc/asound of its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.errors import EXIT_UNUSABLE
from agent.recorder.levels import FLOOR_DBFS
from agent.settings import Capture, Device, Settings, Spool
from agent.status import RecorderStatus
from agent.timeline import Fault, read
from agent.units import NS_PER_S, Size
from hw.clock import SystemClock
from hw.simulated import Card, Happening, RoomClock, SimulatedRoom
from hw.speech import speech_like
from tests.end_to_end.account import PERIOD_S, judge
from tests.end_to_end.kiosk import Kiosk, decoded, heard, runs, stop
from tests.soundcard import Soundcard, eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16000

NOTICED_S = 3.0
"""A missing microphone is noticed within this."""

HEARD_AGAIN_S = 5.0
"""Recording goes on within this after it is back."""

Start = Callable[..., Kiosk]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Makes kiosks whose stable name for their microphone is "simroom"."""
    kiosks: list[Kiosk] = []

    def make(*, rate: int = RATE, segment_seconds: int = 20) -> Kiosk:
        settings = Settings(
            device=Device(site="north", id="room-1"),
            capture=Capture(pcm="simroom", rate=rate),
            spool=Spool(path=tmp_path / "kiosk", segment_seconds=segment_seconds, sync_seconds=60, keep_free=Size(0)),
        )
        kiosks.append(Kiosk(settings).__enter__())
        return kiosks[-1]

    yield make
    for kiosk in kiosks:
        kiosk.__exit__()


@pytest.fixture(scope="module")
def speech() -> NDArray[np.int16]:
    return speech_like(47, RATE, 1)


def happened(room: SimulatedRoom, what: str) -> list[Happening]:
    return [happening for happening in room.history() if happening.what == what]


def picture(kiosk: Kiosk, state: str) -> RecorderStatus:
    """The recorder's picture of itself once it is in `state`."""
    found: list[RecorderStatus] = []

    def reached() -> bool:
        status = kiosk.status()
        if status is None or status.state != state:
            return False
        found.append(status)
        return True

    eventually(reached, f"the recorder is in the state {state}", 30)
    return found[-1]


def room_s(monotonic_ns: int) -> float:
    """Seconds since the room's clock began."""
    return (monotonic_ns - RoomClock.MONOTONIC_NS) / NS_PER_S


def play_to_the_end(recorder: subprocess.Popen[bytes], room: SimulatedRoom, end: int) -> None:
    """The room freezes at frame `end`; when the recorder has come so far it is stopped."""
    eventually(lambda: any(freeze.position == end for freeze in happened(room, "freeze")), "everything is played", 60)
    assert stop(recorder) == 0


def assert_noticed_and_heard_again(
    kiosk: Kiosk, room: SimulatedRoom, speech: NDArray[np.int16], *, gone: str, back: str, end_s: int
) -> str:
    """The microphone is gone once, then the room plays on to `end_s`. Returns what was said to be the trouble."""
    recorder = kiosk.record(room, room_time=True)
    waiting = picture(kiosk, "waiting_for_microphone")
    left_s = happened(room, gone)[0].position / room.rate
    assert room_s(waiting.since_ns) - left_s <= NOTICED_S
    assert waiting.level_rms_dbfs is None, "a level of long ago would look like a microphone that hears"
    play_to_the_end(recorder, room, end_s * room.rate)
    back_s = happened(room, back)[0].position / room.rate
    again = next(segment for segment in kiosk.segments() if room_s(segment.begin_ns) > left_s)
    assert room_s(again.begin_ns) - back_s <= HEARD_AGAIN_S
    judge(kiosk, room, speech)
    assert " ERROR " in kiosk.log.read_text()
    return waiting.trouble


def test_a_microphone_absent_at_boot_is_said_and_recorded_once_it_is_there(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech, speed=0, script=[f"at 0 unplug {4 * RATE}", f"at {100 * RATE} freeze"])
    kiosk = start()
    trouble = assert_noticed_and_heard_again(kiosk, room, speech, gone="gone", back="returned", end_s=100)
    assert "plugged in" in trouble
    assert kiosk.gaps()[0].reason == "unplugged"


def test_a_microphone_that_is_pulled_out_and_put_back(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    script = [f"at {65 * RATE + 1234} unplug {4 * RATE}", f"at {130 * RATE} freeze"]
    room = soundcard(speech, speed=0, script=script)
    assert_noticed_and_heard_again(start(), room, speech, gone="gone", back="returned", end_s=130)


@pytest.mark.parametrize("freeze", ["freeze", "restless"])
def test_a_microphone_that_freezes_is_opened_anew(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16], freeze: str
) -> None:
    """Frozen, and frozen while it claims to be ready."""
    script = [f"at {65 * RATE + 1234} {freeze} {4 * RATE}", f"at {130 * RATE} freeze"]
    room = soundcard(speech, speed=0, script=script)
    trouble = assert_noticed_and_heard_again(start(), room, speech, gone="freeze", back="thaw", end_s=130)
    assert "gave no sound for 2.5 s" in trouble


def test_a_microphone_that_stalls_for_less_than_that_hides_no_gap(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    script = [f"at {65 * RATE + 1234} freeze {RATE + RATE // 2}", f"at {130 * RATE} freeze"]
    room = soundcard(speech, speed=0, script=script)
    kiosk = start()
    play_to_the_end(kiosk.record(room, room_time=True), room, 130 * RATE)
    judge(kiosk, room, speech)
    assert kiosk.gaps()[0].reason == "overrun"


def test_overruns_in_bursts_are_accounted_one_by_one(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    """Six bursts of ten, some so close that hardly a frame is heard in between."""
    generator = np.random.default_rng(7)
    at, script = 20 * RATE, []
    for _ in range(6):
        for _ in range(10):
            lost, heard_frames = (int(frames) for frames in generator.integers((1, 1), (RATE // 2, RATE // 4)))
            script.append(f"at {at} overrun {lost}")
            at += lost + heard_frames
        at += 30 * RATE
    end = at // RATE + 1
    room = soundcard(speech, speed=0, script=[*script, f"at {end * RATE} freeze"])
    kiosk = start()
    play_to_the_end(kiosk.record(room, room_time=True), room, end * RATE)
    assert len(happened(room, "overrun")) == 60
    judge(kiosk, room, speech)
    with kiosk.ledger() as ledger:
        assert ledger.counters()["overruns_total"] == 60


def test_a_stream_that_is_suspended_goes_on_after_a_gap(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    script = [f"at {30 * RATE + 77} suspend {9 * RATE}", f"at {70 * RATE} suspend 5", f"at {100 * RATE} freeze"]
    room = soundcard(speech, speed=0, script=script)
    kiosk = start()
    play_to_the_end(kiosk.record(room, room_time=True), room, 100 * RATE)
    judge(kiosk, room, speech)
    assert [gap.reason for gap in kiosk.gaps()[:2]] == ["overrun", "overrun"]
    assert "(suspended)" in kiosk.log.read_text()


def test_digital_silence_is_recorded_and_shown(soundcard: Soundcard, start: Start, speech: NDArray[np.int16]) -> None:
    """A dead capsule, a plug pulled out at the jack: the card goes on giving zeros."""
    script = [f"at {30 * RATE} zeros", f"at {90 * RATE} freeze {RATE // 4}", f"at {91 * RATE} freeze"]
    room = soundcard(speech, speed=0, script=script)
    kiosk = start()
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: bool(happened(room, "thaw")), "a minute of zeros is played")
    status = picture(kiosk, "recording")
    assert (status.level_rms_dbfs, status.level_peak_dbfs) == (FLOOR_DBFS, FLOOR_DBFS)
    play_to_the_end(recorder, room, 91 * RATE)
    (segments,) = runs(kiosk.segments())
    audio = np.concatenate([decoded(kiosk.layout.audio(segment.name).read_bytes()) for segment in segments])
    np.testing.assert_array_equal(audio[: 30 * RATE], heard(room, speech, 0, 30 * RATE))
    assert len(audio) > 90 * RATE
    assert not audio[30 * RATE :].any()


@pytest.mark.parametrize("drift_ppm", [-300.0, 300.0])
def test_a_crystal_that_drifts_makes_no_gap_in_hours_and_is_told_in_ppm(
    soundcard: Soundcard, start: Start, drift_ppm: float
) -> None:
    rate, hours = 8000, 2
    noise = np.random.default_rng(3).integers(-3, 4, (61 * rate, 1)).astype(np.int16)
    end = hours * 3600 * rate
    room = soundcard(noise, rate, speed=0, drift_ppm=drift_ppm, script=[f"at {end} freeze"])
    kiosk = start(rate=rate, segment_seconds=600)
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: bool(happened(room, "freeze")), "hours are played", 60)
    assert picture(kiosk, "recording").drift_ppm == pytest.approx(drift_ppm, abs=2)
    assert stop(recorder) == 0
    verdict = judge(kiosk, room, noise)
    assert (verdict.recorded, verdict.lost) == (end, 0)
    segments = kiosk.segments()
    seconds = (segments[-1].end_ns - segments[0].begin_ns) / NS_PER_S
    assert (end / rate / seconds - 1) * 1e6 == pytest.approx(drift_ppm, abs=2), "seconds go by the clock, not by frames"


def named(directory: Path, card: SimulatedRoom) -> None:
    """Let the stable name mean this card: what udev and the kernel do when a microphone is plugged in."""
    draft = directory / "asound.conf.new"
    draft.write_text(f'<{card.directory / "asound.conf"}>\npcm.kioskmic "{card.pcm}"\n')
    draft.replace(directory / "asound.conf")


def replugged(kiosk: Kiosk, tmp_path: Path, first: SimulatedRoom, other: SimulatedRoom) -> subprocess.Popen[bytes]:
    """Record from `first` by a stable name, pull it out, put `other` in under that name."""
    named(tmp_path, first)
    kiosk.settings = replace(kiosk.settings, capture=replace(kiosk.settings.capture, pcm="kioskmic"))
    first.environment = {"ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")}
    recorder = kiosk.record(first)
    kiosk.wait_for_recording()
    eventually(lambda: kiosk.captured_s() >= 2, "2 s are sealed")
    first.unplug()
    picture(kiosk, "waiting_for_microphone")
    named(tmp_path, other)
    return recorder


def test_a_microphone_that_comes_back_as_another_card_is_found_under_its_stable_name(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16], tmp_path: Path
) -> None:
    first = soundcard(speech, pcm="card1")
    other = soundcard(np.ascontiguousarray(speech[::-1]), pcm="card3")
    kiosk = start(segment_seconds=1)
    recorder = replugged(kiosk, tmp_path, first, other)
    back_ns = SystemClock().monotonic_ns()
    kiosk.wait_for_recording()
    assert happened(other, "start")[0].at_ns - back_ns <= HEARD_AGAIN_S * NS_PER_S
    sealed = kiosk.captured_s()
    eventually(lambda: kiosk.captured_s() >= sealed + 2, "recording goes on")
    assert stop(recorder) == 0
    before, after = runs(kiosk.segments())
    for segments, source in ((before, speech), (after, speech[::-1])):
        audio = np.concatenate([decoded(kiosk.layout.audio(segment.name).read_bytes()) for segment in segments])
        np.testing.assert_array_equal(audio, source[: len(audio)])
    (gap, *_) = kiosk.gaps()
    assert gap.reason == "unplugged"
    silent_ns = happened(other, "start")[0].at_ns - happened(first, "gone")[0].at_ns
    assert (gap.end_ns - gap.begin_ns - silent_ns) / NS_PER_S == pytest.approx(0, abs=PERIOD_S)


def test_a_format_that_is_not_granted_at_the_start_ends_the_recorder_with_the_way_out(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech, card=Card(rates=(48000,)))
    kiosk = start()
    assert kiosk.record(room).wait(20) == EXIT_UNUSABLE
    assert "set capture.rate = 48000" in kiosk.log.read_text()


def test_another_microphone_that_lacks_the_format_is_a_state_until_the_right_one_is_back(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16], tmp_path: Path
) -> None:
    right = soundcard(speech, pcm="card1")
    wrong = soundcard(speech, pcm="card3", card=Card(rates=(48000,)))
    kiosk = start(segment_seconds=1)
    recorder = replugged(kiosk, tmp_path, right, wrong)
    advice = "capture.rate = 48000"
    eventually(lambda: (status := kiosk.status()) is not None and advice in status.trouble, "it is said")
    eventually(lambda: len(happened(wrong, "open")) >= 3, "it is tried again and again")
    assert picture(kiosk, "waiting_for_microphone").trouble
    right.replug()
    named(tmp_path, right)
    back_ns = SystemClock().monotonic_ns()
    kiosk.wait_for_recording()
    assert happened(right, "start")[-1].at_ns - back_ns <= HEARD_AGAIN_S * NS_PER_S
    status = picture(kiosk, "recording")
    assert status.trouble == ""
    assert stop(recorder) == 0
    assert kiosk.log.read_text().count(advice) == 1
    assert {gap.reason for gap in kiosk.gaps()} == {"unplugged", "restart"}
    assert not timeline_faults(kiosk)


def timeline_faults(kiosk: Kiosk) -> list[Fault]:
    with kiosk.ledger() as ledger:
        return read(ledger).faults
