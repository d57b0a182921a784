"""What is wrong with the recording: each alert is raised by its real cause, and cleared when that goes.

Real alsa-lib, the real recorder and courier, a real mosquitto. Both processes live in the room's time, which passes so
many times faster than ours: minutes pass within seconds, with the limits of the table.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from agent.settings import Capture, Device, Mqtt, Settings, Spool, Upload
from agent.units import Duration, Size
from hw.simulated import SimulatedRoom
from tests.alerts.fleet import Fleet
from tests.card import Card
from tests.end_to_end.kiosk import Kiosk
from tests.faults.store_line import StoreLine, answers, passes
from tests.recorder.room import noise
from tests.servers import Broker, Bucket
from tests.soundcard import RATE, Soundcard, eventually

FAST = 20.0
"""A minute of the room's is three seconds."""

Mode = Literal["continuous", "voice"]


@pytest.fixture
def settings(tmp_path: Path, broker: Broker) -> Settings:
    return Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", segment_seconds=20, keep_free=Size(0), cap=Size(256 << 20)),
        mqtt=Mqtt(url=broker.url),
    )


@pytest.fixture
def room(soundcard: Soundcard) -> SimulatedRoom:
    return soundcard(noise(60, rate=RATE), RATE, speed=FAST, patient=True)


@pytest.fixture
def begin(tmp_path: Path, fleet: Fleet) -> Iterator[Callable[..., Kiosk]]:
    """Starts a kiosk of which all is well."""
    kiosks: list[Kiosk] = []

    def start(settings: Settings, room: SimulatedRoom, *, room_time: bool = True) -> Kiosk:
        kiosk = Kiosk(settings, beside=tmp_path).__enter__()
        kiosks.append(kiosk)
        kiosk.record(room, room_time=room_time)
        eventually(lambda: hears(kiosk), "the room is heard", 40)
        kiosk.upload(room=room if room_time else None)
        eventually(lambda: bool(fleet.listener.on("/telemetry")), "the fleet hears of it", 40)
        return kiosk

    yield start
    for kiosk in kiosks:
        kiosk.__exit__()


def hears(kiosk: Kiosk) -> bool:
    status = kiosk.status()
    return status is not None and status.level_rms_dbfs is not None


def recorder_of(kiosk: Kiosk) -> subprocess.Popen[bytes]:
    status = kiosk.status()
    assert status is not None
    return kiosk.process(status.pid)


def impatient(settings: Settings) -> Settings:
    """In real time: a room doesn't go on while nobody listens to it."""
    limits = replace(settings.alerts.capture_stalled, warning=Duration(12), critical=Duration(20))
    return replace(settings, alerts=replace(settings.alerts, capture_stalled=limits))


def test_microphone_missing(begin: Callable[..., Kiosk], settings: Settings, room: SimulatedRoom, fleet: Fleet) -> None:
    begin(settings, room)
    room.unplug()
    warning = fleet.sees("microphone_missing", "warning")
    assert warning["threshold"] == 10 < warning["value"]
    assert "\n  → " in warning["text"]
    critical = fleet.sees("microphone_missing", "critical")
    assert critical["threshold"] == 60 < critical["value"]
    assert critical["since"] == warning["since"]
    room.replug()
    fleet.sees_cleared("microphone_missing")
    assert fleet.changes("microphone_missing") == ["raised", "escalated", "cleared"]
    assert fleet.changes("capture_stalled") == [], "one cause, one alert"


def test_microphone_missing_that_is_there_but_frozen(
    begin: Callable[..., Kiosk], settings: Settings, room: SimulatedRoom, fleet: Fleet
) -> None:
    begin(settings, room)
    room.tell("now freeze")
    fleet.sees("microphone_missing", "warning")
    room.tell("now thaw")
    fleet.sees_cleared("microphone_missing")


def test_capture_stalled_by_a_recorder_that_is_stuck(
    begin: Callable[..., Kiosk], settings: Settings, soundcard: Soundcard, fleet: Fleet
) -> None:
    room = soundcard(noise(60, rate=RATE), RATE)
    recorder = recorder_of(begin(impatient(settings), room, room_time=False))
    recorder.send_signal(signal.SIGSTOP)
    try:
        assert "no sign of life" in fleet.sees("capture_stalled", "warning")["text"]
        fleet.sees("capture_stalled", "critical")
    finally:
        recorder.send_signal(signal.SIGCONT)
    fleet.sees_cleared("capture_stalled")


def test_capture_stalled_by_a_recorder_that_is_gone(
    begin: Callable[..., Kiosk], settings: Settings, soundcard: Soundcard, fleet: Fleet
) -> None:
    room = soundcard(noise(60, rate=RATE), RATE)
    kiosk = begin(impatient(settings), room, room_time=False)
    recorder = recorder_of(kiosk)
    recorder.kill()
    recorder.wait()
    fleet.sees("capture_stalled", "warning")
    kiosk.record(room)
    fleet.sees_cleared("capture_stalled")


@pytest.mark.parametrize("mode", ["continuous", "voice"])
def test_no_signal(
    begin: Callable[..., Kiosk], settings: Settings, room: SimulatedRoom, fleet: Fleet, mode: Mode
) -> None:
    begin(replace(settings, capture=replace(settings.capture, mode=mode)), room)
    room.tell("now zeros")
    critical = fleet.sees("no_signal", "critical")
    assert (critical["value"], critical["threshold"]) == (-120, -110)
    room.tell("now sound")
    fleet.sees_cleared("no_signal")
    assert fleet.changes("no_signal") == ["raised", "cleared"]


def test_no_signal_is_not_said_of_a_quiet_room(
    begin: Callable[..., Kiosk], settings: Settings, soundcard: Soundcard, fleet: Fleet
) -> None:
    """A night's room by a microphone without gain: noise of -87 dBFS, some steps of 16 bits."""
    hiss = np.random.default_rng(1).normal(0, 32768 * 10 ** (-87 / 20), (60 * RATE, 1)).round().astype(np.int16)
    room = soundcard(hiss, RATE, speed=3 * FAST, patient=True)
    kiosk = begin(settings, room)
    eventually(lambda: kiosk.captured_s() > 600, "ten minutes are recorded", 60)
    status = kiosk.status()
    assert status is not None
    assert status.level_rms_dbfs is not None
    assert -90 < status.level_rms_dbfs < -84
    assert fleet.changes("no_signal") == []


def test_clipping(begin: Callable[..., Kiosk], settings: Settings, soundcard: Soundcard, fleet: Fleet) -> None:
    """Four minutes of a microphone that is overdriven, and as much of one that was turned down."""
    loud = np.clip(noise(240, rate=RATE).astype(np.int32) * 1000, -32768, 32767).astype(np.int16)
    room = soundcard(np.concatenate([loud, noise(600, rate=RATE)]), RATE, speed=FAST, patient=True)
    begin(settings, room)
    critical = fleet.sees("clipping", "critical")
    assert critical["value"] > critical["threshold"] == 1
    fleet.sees_cleared("clipping")


def test_error_rate(
    begin: Callable[..., Kiosk],
    settings: Settings,
    room: SimulatedRoom,
    fleet: Fleet,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bit of two recordings flips on the card. The courier notices, the recorder sets them aside."""
    for name, value in bucket.store.kiosk.environment.items():
        monkeypatch.setenv(name, value)
    with StoreLine(bucket.store.port) as line:
        line.mode = answers(503, "SlowDown")
        upload = Upload(
            target=f"s3://{bucket.name}/rooms", endpoint_url=f"http://127.0.0.1:{line.port}", clock_wait=Duration(0)
        )
        kiosk = begin(replace(settings, upload=upload, spool=replace(settings.spool, segment_seconds=5)), room)
        eventually(lambda: len(kiosk.segments()) >= 4, "some are recorded", 40)
        for segment in kiosk.segments()[:3]:
            path = kiosk.layout.audio(segment.name)
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        line.mode = passes
        critical = fleet.sees("error_rate", "critical")
        assert critical["value"] > critical["threshold"] == 10
        # It says what was known when it was raised: one to all three.
        assert fleet.sees("disk_error", "critical")["value"] in (1, 2, 3)
        eventually(
            lambda: fleet.listener.on("/telemetry")[-1].content["segment_errors_total"] == 3,
            "all three are counted",
            60,
        )
        fleet.sees_cleared("error_rate", seconds=110)


@pytest.mark.timeout(180)
def test_direct_path(
    begin: Callable[..., Kiosk],
    settings: Settings,
    soundcard: Soundcard,
    card: Card,
    fleet: Fleet,
) -> None:
    spool = Spool(path=card.path / "kiosk", segment_seconds=3, keep_free=Size(0), cap=Size(32 << 20))
    room = soundcard(noise(60, rate=RATE), RATE, speed=4.0, patient=True)
    begin(replace(settings, spool=spool), room)
    card.fill()
    critical = fleet.sees("direct_path", "critical")
    assert critical["threshold"] == 3
    assert "recordings don't go to the card but to memory" in critical["text"]
    assert "\n  → look at the card" in critical["text"]
    card.repair()
    fleet.sees_cleared("direct_path")
