"""The room is heard through alsa-lib, in rooms where something is wrong with the microphone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.checkup import microphone, recording
from agent.checkup.finding import Finding
from agent.checkup.microphone import Impression, judged
from agent.checkup.visit import Visit
from agent.settings import Capture
from agent.status import RecorderStatus, write_status
from hw.simulated import SimulatedRoom
from tests.checkup.kiosk import RATE, found, kiosk, verdicts, visit
from tests.clocks import FakeClock
from tests.soundcard import Soundcard

if TYPE_CHECKING:
    from numpy.typing import NDArray

Checked = Callable[..., Visit]


def quiet(seconds: float, amplitude: float = 60) -> NDArray[np.int16]:
    """A room in which nobody speaks."""
    return np.random.default_rng(1).normal(0, amplitude, (round(seconds * RATE), 1)).astype(np.int16)


def clapped(at_s: float) -> NDArray[np.int16]:
    """The same, in which somebody claps once."""
    room = quiet(10)
    begin = round(at_s * RATE)
    decay = np.exp(-np.arange(1600) / 200)[:, np.newaxis]
    room[begin : begin + 1600] += (decay * np.random.default_rng(2).normal(0, 6000, (1600, 1))).astype(np.int16)
    return room


@pytest.fixture
def listening_to(soundcard: Soundcard, tmp_path: Path) -> Checked:
    """A check of a kiosk in a room that lasts ten seconds and plays twenty times as fast."""

    def make(samples: NDArray[np.int16], *, script: list[str] | None = None, **changes: object) -> Visit:
        room: SimulatedRoom = soundcard(samples, speed=20, patient=True, script=script or [])
        return visit(kiosk(tmp_path, capture=Capture(pcm=room.pcm, rate=RATE)), room.clock(), **changes)

    return make


def test_a_quiet_room_is_good(listening_to: Checked) -> None:
    checked = listening_to(quiet(10))
    assert verdicts(found(microphone.look, checked)) == dict.fromkeys(
        ("name", "signal", "noise floor", "clipping"), "green"
    )


def test_what_was_heard_becomes_a_recording_that_is_opened_again(listening_to: Checked) -> None:
    checked = listening_to(quiet(10))
    found(microphone.look, checked)
    findings = found(recording.look, checked)
    assert findings["recording"].verdict == "green"
    assert checked.sample is not None
    assert checked.bytes_per_hour == pytest.approx(len(checked.sample.content) / checked.sample.seconds * 3600)
    assert not checked.layout.root.exists()


def test_a_clap_is_asked_for_in_time_and_heard(listening_to: Checked) -> None:
    asked: list[str] = []
    checked = listening_to(clapped(6), clap=True, ask=asked.append)
    assert found(microphone.look, checked)["clap"].verdict == "green"
    assert asked == ["Clap your hands now, near the microphone."]


def test_a_clap_in_another_room_is_not_heard(listening_to: Checked) -> None:
    assert found(microphone.look, listening_to(quiet(10), clap=True))["clap"].verdict == "red"


def test_nobody_is_asked_when_nobody_is_there(listening_to: Checked) -> None:
    def ask(_text: str) -> None:
        pytest.fail("nobody could answer")

    assert "clap" not in found(microphone.look, listening_to(clapped(6), ask=ask))


def test_a_dead_microphone_is_red(listening_to: Checked) -> None:
    findings = found(microphone.look, listening_to(quiet(10), script=["at 0 zeros"]))
    assert verdicts(findings) == {"name": "green", "signal": "red"}
    assert "digital silence" in findings["signal"].text


def test_a_microphone_without_gain_is_yellow(listening_to: Checked) -> None:
    findings = found(microphone.look, listening_to(quiet(10, amplitude=0.55)))
    assert findings["signal"].verdict == "yellow"


def test_an_overdriven_microphone_is_red(listening_to: Checked) -> None:
    loud = np.random.default_rng(3).normal(0, 20000, (10 * RATE, 1)).clip(-32768, 32767).astype(np.int16)
    findings = found(microphone.look, listening_to(loud))
    assert findings["clipping"].verdict == "red"
    assert findings["noise floor"].verdict == "yellow"


def test_a_broken_input_shows_by_its_offset(listening_to: Checked) -> None:
    assert found(microphone.look, listening_to(quiet(10) + np.int16(4000)))["offset"].verdict == "yellow"


def test_a_loose_plug_shows_by_moments_of_nothing(listening_to: Checked) -> None:
    findings = found(microphone.look, listening_to(quiet(10), script=["at 40000 zeros 8000"]))
    assert findings["stream"].verdict == "yellow"
    assert findings["signal"].verdict == "green"


def test_overruns_are_told(listening_to: Checked) -> None:
    findings = found(microphone.look, listening_to(quiet(20), script=["at 40000 overrun 500"]))
    assert "1 overruns" in findings["stream"].text


def test_a_wrong_name_is_red_and_says_what_there_is(tmp_path: Path) -> None:
    checked = visit(kiosk(tmp_path, capture=Capture(pcm="hw:CARD=Nowhere", rate=RATE)))
    assert found(microphone.look, checked)["signal"].verdict == "red"
    assert found(recording.look, checked)["recording"].verdict == "grey"


def test_a_microphone_that_gives_no_sound_is_red(listening_to: Checked) -> None:
    findings = found(microphone.look, listening_to(quiet(10), script=["at 16000 freeze"]))
    assert "gave no sound" in findings["signal"].text


@pytest.mark.parametrize("pcm", ["default", "hw:0", "plughw:1,0", "hw:CARD=0"])
def test_a_name_that_another_microphone_can_take_is_yellow(tmp_path: Path, pcm: str) -> None:
    assert found(microphone.look, visit(kiosk(tmp_path, capture=Capture(pcm=pcm))))["name"].verdict == "yellow"


def with_card(root: Path, name: str) -> Path:
    """A machine with one sound card, as /proc/asound shows it."""
    asound = root / "proc" / "asound"
    (asound / "card1").mkdir(parents=True)
    (asound / name).symlink_to("card1")
    (asound / "version").write_text("Advanced Linux Sound Architecture\n")
    (asound / "card1" / "id").write_text(f"{name}\n")
    (asound / "cards").write_text(f" 1 [{name:15}]: USB-Audio - A microphone\n      of somebody's\n")
    (asound / "pcm").write_text("01-00: USB Audio : USB Audio : capture 1\n")
    return root


@pytest.mark.parametrize(
    ("pcm", "verdict", "text"),
    [
        ("hw:CARD=KioskMic", "green", "hw:CARD=KioskMic: USB-Audio - A microphone"),
        ("plughw:CARD=KioskMic", "green", "plughw:CARD=KioskMic: USB-Audio - A microphone"),
        ("hw:CARD=Webcam", "red", "hw:CARD=Webcam isn't here; found: hw:CARD=KioskMic"),
    ],
)
def test_the_right_card_is_told_by_its_name(tmp_path: Path, pcm: str, verdict: str, text: str) -> None:
    machine = with_card(tmp_path / "machine", "KioskMic")
    checked = visit(kiosk(tmp_path, capture=Capture(pcm=pcm)), root=machine)
    finding = found(microphone.look, checked)["name"]
    assert (finding.verdict, finding.text) == (verdict, text)


def test_a_channel_without_a_microphone_is_red(soundcard: Soundcard, tmp_path: Path) -> None:
    samples = np.concatenate([quiet(10), np.zeros((10 * RATE, 1), np.int16)], axis=1)
    room = soundcard(samples, RATE, 2, speed=20, patient=True)
    capture = Capture(pcm=room.pcm, rate=RATE, channels=2)
    findings = found(microphone.look, visit(kiosk(tmp_path, capture=capture), room.clock()))
    assert findings["signal"].verdict == "green"
    assert findings["channels"].verdict == "red"
    assert "channel 2" in findings["channels"].text


class Recorder:
    """What a running recorder tells, as the check's clock goes on."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        (root / "runtime").mkdir()
        self._runtime = root / "runtime"
        self.checked = visit(kiosk(root), self.clock, recorder_pid=7, progress=self._paint, seconds=10)
        self.levels: Callable[[float], tuple[float, float, float]] = lambda _s: (-55, -43, 0)
        self.state = "recording"
        self.trouble = ""
        self.pid = 7

    def _paint(self, _text: str) -> None:
        now_ns = self.clock.monotonic_ns()
        rms, peak, clipped = self.levels(now_ns / 1e9 - 100)
        status = RecorderStatus(
            pid=self.pid,
            boot=self.clock.boot,
            state=self.state,  # type: ignore[arg-type]
            since_ns=0,
            updated_ns=now_ns,
            trouble=self.trouble,
            level_rms_dbfs=rms,
            level_peak_dbfs=peak,
            clipped_pct=clipped,
        )
        write_status(self._runtime, status)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


def test_while_a_recorder_runs_its_own_word_is_followed(recorder: Recorder) -> None:
    findings = found(microphone.look, recorder.checked)
    assert verdicts(findings)["signal"] == "green"
    assert "as the running recorder tells" in findings["signal"].text
    assert "-55 dBFS in the quiet, peak -43 dBFS" in findings["signal"].text


def test_a_clap_is_seen_in_the_recorder_s_levels(recorder: Recorder) -> None:
    recorder.levels = lambda s: (-40, -5, 0) if 6 <= s < 7 else (-55, -43, 0)
    recorder.checked.clap = True
    assert found(microphone.look, recorder.checked)["clap"].verdict == "green"


def test_without_a_clap_the_recorder_s_levels_show_none(recorder: Recorder) -> None:
    recorder.checked.clap = True
    assert found(microphone.look, recorder.checked)["clap"].verdict == "red"


def test_a_recorder_that_hears_nothing_is_red(recorder: Recorder) -> None:
    recorder.levels = lambda _s: (-120, -120, 0)
    assert found(microphone.look, recorder.checked)["signal"].verdict == "red"


def test_a_recorder_in_trouble_tells_its_own(recorder: Recorder) -> None:
    recorder.state, recorder.trouble = "waiting_for_microphone", "open microphone: No such device\n  → plug it in"
    finding = found(microphone.look, recorder.checked)["signal"]
    assert (finding.verdict, finding.text, finding.way_out) == (
        "red",
        "open microphone: No such device",
        "plug it in",
    )


def test_a_muted_recorder_is_grey(recorder: Recorder) -> None:
    recorder.state = "muted"
    assert found(microphone.look, recorder.checked)["signal"].verdict == "grey"


def test_a_recorder_that_tells_nothing_is_red(recorder: Recorder) -> None:
    recorder.pid = 8
    assert "has told no level" in found(microphone.look, recorder.checked)["signal"].text


def test_limits_are_those_of_the_alerts(tmp_path: Path) -> None:
    limits = kiosk(tmp_path).alerts.clipping
    assert limits.warning is not None
    assert limits.critical is not None
    for clipped, verdict in ((limits.warning, "green"), (limits.critical, "yellow"), (limits.critical + 0.1, "red")):
        heard = Impression("heard", -55, -1, clipped, None)
        findings = {each.subject: each for each in judged(heard, visit(kiosk(tmp_path)))}
        clipping: Finding = findings["clipping"]
        assert clipping.verdict == verdict
