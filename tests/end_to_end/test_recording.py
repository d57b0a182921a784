"""From the microphone to sealed files: real alsa-lib, real processes, a room whose every frame is known."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from agent.hours import Hours
from agent.ledger import Gap, Segment
from agent.settings import Capture, Device, Schedule, Settings, Spool
from agent.sidecar import SidecarDamaged, read_sidecar
from agent.spool import files_below
from agent.units import Frames, Size
from hw.simulated import SimulatedRoom
from hw.speech import speech_like
from tests.end_to_end.kiosk import Kiosk, decoded, heard, runs, stop
from tests.soundcard import Soundcard, eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16000
PERIOD_S = 0.2
SPEED = 20.0

Start = Callable[..., Kiosk]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Makes kiosks that record 16 kHz mono from the microphone called "simroom"."""
    kiosks: list[Kiosk] = []

    def make(*, rate: int = RATE, channels: int = 1, **spool: object) -> Kiosk:
        limits: dict[str, object] = {"path": tmp_path / "kiosk", "segment_seconds": 5, "keep_free": Size(0)} | spool
        settings = Settings(
            device=Device(site="north", id="room-1"),
            capture=Capture(pcm="simroom", rate=rate, channels=channels),
            spool=Spool(**limits),  # type: ignore[arg-type]
        )
        kiosks.append(Kiosk(settings).__enter__())
        return kiosks[-1]

    yield make
    for kiosk in kiosks:
        kiosk.__exit__()


@pytest.fixture(scope="module")
def speech() -> NDArray[np.int16]:
    return speech_like(60, RATE, 1)


def audio(kiosk: Kiosk, segments: list[Segment]) -> NDArray[np.int16]:
    return np.concatenate([decoded(kiosk.layout.audio(segment.name).read_bytes()) for segment in segments])


def lost_frames(room: SimulatedRoom) -> list[Frames]:
    """How much the room played unheard before each (re)start of its stream, the first aside."""
    return [happening.lost for happening in room.history() if happening.what in ("start", "resume")][1:]


def assert_tiles(segments: list[Segment], gaps: list[Gap]) -> None:
    intervals = sorted([(s.begin_ns, s.end_ns) for s in segments] + [(g.begin_ns, g.end_ns) for g in gaps])
    for before, after in itertools.pairwise(intervals):
        assert before[1] == after[0]


def test_sigterm_seals_the_open_segment_and_nothing_is_missing(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech, speed=SPEED, patient=True)
    kiosk = start()
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: kiosk.captured_s() >= 20, "20 s are sealed")
    assert stop(recorder) == 0
    segments = kiosk.segments()
    recorded = audio(kiosk, segments)
    np.testing.assert_array_equal(recorded, heard(room, speech, 0, len(recorded)))
    assert not list(files_below(kiosk.layout.open))
    assert_tiles(segments, kiosk.gaps())


def test_a_scripted_overrun_leaves_a_gap_of_the_right_length(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech, speed=SPEED, patient=True, script=[f"at {12 * RATE} overrun {RATE}"])
    kiosk = start()
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: kiosk.captured_s() >= 25, "25 s are sealed")
    assert stop(recorder) == 0
    before, after = runs(kiosk.segments())
    (gap, *_) = kiosk.gaps()
    (lost,) = lost_frames(room)
    assert lost >= RATE
    assert gap.reason == "overrun"
    assert (gap.end_ns - gap.begin_ns) / 1e9 == pytest.approx(lost / RATE, abs=PERIOD_S)
    first = audio(kiosk, before)
    np.testing.assert_array_equal(first, heard(room, speech, 0, len(first)))
    second = audio(kiosk, after)
    np.testing.assert_array_equal(second, heard(room, speech, len(first) + lost, len(second)))
    assert_tiles(kiosk.segments(), kiosk.gaps())


def test_a_microphone_that_vanishes_and_returns_leaves_a_gap_of_the_right_length(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech)
    kiosk = start(segment_seconds=2)
    recorder = kiosk.record(room)
    eventually(lambda: kiosk.captured_s() >= 2, "2 s are sealed")
    room.unplug()
    eventually(
        lambda: (status := kiosk.status()) is not None and status.state == "waiting_for_microphone",
        "the recorder notices that the microphone is gone",
    )
    room.replug()
    kiosk.wait_for_recording()
    sealed = kiosk.captured_s()
    eventually(lambda: kiosk.captured_s() >= sealed + 2, "recording goes on")
    assert stop(recorder) == 0
    before, after = runs(kiosk.segments())
    (gap, *_) = kiosk.gaps()
    lost = sum(lost_frames(room))
    assert gap.reason == "unplugged"
    assert (gap.end_ns - gap.begin_ns) / 1e9 == pytest.approx(lost / RATE, abs=PERIOD_S)
    first = audio(kiosk, before)
    np.testing.assert_array_equal(first, heard(room, speech, 0, len(first)))
    second = audio(kiosk, after)
    np.testing.assert_array_equal(second, heard(room, speech, len(first) + lost, len(second)))
    assert_tiles(kiosk.segments(), kiosk.gaps())


def test_a_frozen_microphone_is_noticed_and_heard_again(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech)
    kiosk = start(segment_seconds=1)
    recorder = kiosk.record(room)
    kiosk.wait_for_recording()
    room.freeze()
    eventually(
        lambda: (status := kiosk.status()) is not None and "gave no sound" in status.trouble, "the freeze is noticed"
    )
    room.thaw()
    kiosk.wait_for_recording()
    assert stop(recorder) == 0
    assert "unplugged" in {gap.reason for gap in kiosk.gaps()}
    assert_tiles(kiosk.segments(), kiosk.gaps())


def test_a_microphone_absent_at_the_start_is_waited_for(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech, script=["at 0 unplug"])
    kiosk = start(segment_seconds=1)
    recorder = kiosk.record(room)
    eventually(lambda: (status := kiosk.status()) is not None and status.state == "waiting_for_microphone", "it waits")
    room.replug()
    kiosk.wait_for_recording()
    assert stop(recorder) == 0
    assert kiosk.captured_s() > 0


def test_kill_9_in_mid_segment_costs_what_was_not_synced_and_nothing_else(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech)
    kiosk = start(segment_seconds=60, sync_seconds=0.5)
    recorder = kiosk.record(room)

    def synced() -> int:
        metas = [Path(entry.path) for entry in files_below(kiosk.layout.open) if entry.name.endswith(".meta")]
        try:
            records = read_sidecar(metas[0]).records if metas else ()
        except SidecarDamaged:
            return 0  # it has only just been made
        return records[-1].frames if len(records) >= 3 else 0

    eventually(lambda: synced() > 0, "three syncs are done")
    os.kill(recorder.pid, signal.SIGKILL)
    recorder.wait()
    durable = synced()
    again = kiosk.record(room)
    eventually(lambda: len(kiosk.segments()) >= 1, "the torn segment is recovered")
    kiosk.wait_for_recording()
    assert stop(again) == 0
    recovered = kiosk.segments()[0]
    assert (recovered.truncated, recovered.frames) == (True, durable)
    kept = decoded(kiosk.layout.audio(recovered.name).read_bytes())
    np.testing.assert_array_equal(kept, heard(room, speech, 0, durable))
    assert kiosk.gaps()[0].reason == "restart"
    assert_tiles(kiosk.segments(), kiosk.gaps())


def test_the_spool_never_exceeds_20_mb_under_100_mb_of_audio(
    soundcard: Soundcard, start: Start, tmp_path: Path
) -> None:
    """Stereo noise at 48 kHz, as fast as it is written; watched all the while."""
    noise = np.random.default_rng(1).normal(0, 8000, (48000 * 20, 2)).astype(np.int16)
    room = soundcard(noise, 48000, 2, speed=0, patient=True)
    cap = Size(20_000_000)
    kiosk = start(rate=48000, channels=2, segment_seconds=20, cap=cap, quarantine_cap=Size(1_000_000))
    recorder = kiosk.record(room)
    spool = tmp_path / "kiosk" / "spool"
    peak = 0

    def enough() -> bool:
        nonlocal peak
        peak = max(peak, _bytes_under(spool))
        return kiosk.captured_s() * 48000 * 4 >= 100_000_000

    eventually(enough, "100 MB of audio went through", 100)
    assert stop(recorder) == 0
    assert cap / 2 < peak <= cap
    states = [segment.state for segment in kiosk.segments()]
    assert states == sorted(states), "the oldest went first"
    assert states[0] == "evicted"


def test_outside_the_schedule_the_microphone_is_closed_and_the_gap_says_so(
    soundcard: Soundcard, start: Start, speech: NDArray[np.int16]
) -> None:
    room = soundcard(speech, speed=SPEED, patient=True)
    kiosk = start(segment_seconds=10)
    now = datetime.fromtimestamp(room.clock().wall_ns() / 1e9, UTC)
    closes = now.hour * 60 + now.minute + 1
    hours = (Hours(now.hour * 60, closes),)
    kiosk.settings = replace(
        kiosk.settings,
        capture=replace(kiosk.settings.capture, mode="scheduled"),
        schedule=Schedule(mon=hours, tue=hours, wed=hours, thu=hours, fri=hours, sat=hours, sun=hours),
    )
    recorder = kiosk.record(room, room_time=True)
    eventually(lambda: (status := kiosk.status()) is not None and status.state == "idle", "clinic hours end", 30)
    assert room.history()[-1].what == "close"
    assert stop(recorder) == 0
    assert kiosk.captured_s() == pytest.approx(60 - now.second, abs=2)
    assert kiosk.gaps()[0].reason == "schedule"
    assert_tiles(kiosk.segments(), kiosk.gaps())


def _bytes_under(directory: Path) -> int:
    """Sizes of everything below, tolerant of files that move while it looks (then it looks again)."""
    while True:
        try:
            return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        except FileNotFoundError:
            continue
