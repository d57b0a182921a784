"""The simulated room: it does exactly what its script says, and its journal tells the truth."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agent.errors import KioskError
from agent.units import NS_PER_S
from hw.alsa import Block, Microphone, MicrophoneGone, Overrun
from hw.clock import SystemClock
from hw.simulated import Card, Happening, RoomClock, SimulatedRoom, build_plugin
from tests.soundcard import RATE, Soundcard, eventually, frames_of, numbered


def arecord(room: SimulatedRoom, frames: int, *options: str, pcm: str = "simroom") -> np.ndarray:
    """What arecord captures, shape (frames, channels)."""
    command = ["arecord", "-q", "-D", pcm, "-t", "raw", "-f", "S16_LE", "-s", str(frames)]
    command += ["-r", str(room.rate), "-c", str(room.channels), *options]
    result = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return frames_of([result.stdout], room.channels)


def told(room: SimulatedRoom, what: str) -> list[Happening]:
    return [happening for happening in room.history() if happening.what == what]


def listen_until_it_ends(
    room: SimulatedRoom, clock: RoomClock | SystemClock | None = None, timeout_s: float = 0.6
) -> list[Block | Overrun]:
    """Reads on until nothing comes; opens again when the microphone was unplugged."""
    results: list[Block | Overrun] = []
    microphone = Microphone(room.pcm, room.rate, room.channels, clock=clock or SystemClock())
    while True:
        try:
            result = microphone.read(timeout_s)
        except MicrophoneGone:
            microphone.close()
            eventually(lambda: can_open(room), "the microphone returns")
            microphone = Microphone(room.pcm, room.rate, room.channels, clock=clock or SystemClock())
            continue
        if result is None:
            microphone.close()
            return results
        results.append(result)


def can_open(room: SimulatedRoom) -> bool:
    try:
        Microphone(room.pcm, room.rate, room.channels, clock=SystemClock()).close()
    except MicrophoneGone:
        return False
    return True


def sound(results: list[Block | Overrun], channels: int = 1) -> np.ndarray:
    return frames_of((result.pcm for result in results if isinstance(result, Block)), channels)


@pytest.mark.parametrize("access", [(), ("-M",)], ids=["read", "mmap"])
@pytest.mark.parametrize("speed", [0, 20])
def test_arecord_hears_every_frame(soundcard: Soundcard, access: tuple[str, ...], speed: int) -> None:
    played = numbered(4 * 48000, 2)
    room = soundcard(played, 48000, 2, speed=speed, patient=True)
    np.testing.assert_array_equal(arecord(room, 3 * 48000, *access), played[: 3 * 48000])


@pytest.mark.parametrize(
    "command",
    [
        "ffmpeg -v error -f alsa -sample_rate 16000 -channels 1 -i simroom -t 1 -f s16le -",
        "sox -q -t alsa simroom -t raw - trim 0 1",
    ],
    ids=["ffmpeg", "sox"],
)
def test_other_recorders_hear_it_too(soundcard: Soundcard, command: str) -> None:
    program, *arguments = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    played = numbered(3 * RATE)
    soundcard(played)
    heard = frames_of([subprocess.run([program, *arguments], capture_output=True, check=True, timeout=60).stdout])
    assert len(heard) > RATE // 2  # ffmpeg ends by the wall clock
    np.testing.assert_array_equal(heard, played[: len(heard)])


def test_arecord_survives_a_scripted_overrun_and_a_suspension(soundcard: Soundcard) -> None:
    played = numbered(4 * RATE)
    room = soundcard(played, script=["at 8000 overrun 1000", "at 16000 suspend 500"])
    expected = np.concatenate([played[:8000], played[9000:16000], played[16500 : 16500 + 5000]])
    np.testing.assert_array_equal(arecord(room, 20000), expected)


@pytest.mark.parametrize("speed", [0, 1, 10])
def test_scripted_losses_are_exact_at_any_speed(soundcard: Soundcard, speed: int) -> None:
    played = numbered(2 * RATE)
    script = ["at 3210 overrun 789", "at 9999 suspend 1", "at 15000 zeros 2500", "at 22222 overrun 3333"]
    room = soundcard(played, speed=speed, patient=True, script=script, at_end="stall")
    expected = played.copy()
    expected[15000:17500] = 0
    expected = np.concatenate([expected[:3210], expected[3999:9999], expected[10000:22222], expected[25555:]])
    np.testing.assert_array_equal(sound(listen_until_it_ends(room)), expected)
    assert [start.lost for start in told(room, "start")] == [0, 789, 1, 3333]


@pytest.mark.parametrize("speed", [0, 1, 10])
def test_what_is_heard_and_what_is_lost_make_the_whole(soundcard: Soundcard, speed: int) -> None:
    played = numbered(2 * RATE)
    script = ["at 4000 overrun 100", "at 9000 freeze 1600", "at 18000 unplug 3000"]
    room = soundcard(played, speed=speed, patient=True, script=script, at_end="stall")
    heard = sound(listen_until_it_ends(room))
    lost = sum(happening.lost for happening in room.history())
    # On a busy machine the last start can come after the end of the source; the room's clock goes on there.
    assert len(heard) + lost == max(len(played), told(room, "start")[-1].position)
    assert told(room, "thaw")[0].lost == 1600
    assert [gone.position for gone in told(room, "gone")] == [18000]
    assert [returned.position for returned in told(room, "returned")] == [21000]


def test_a_room_that_waits_loses_exactly_the_absence(soundcard: Soundcard) -> None:
    played = numbered(2 * RATE)
    room = soundcard(played, speed=0, script=["at 9000 unplug 3000"], at_end="stall")
    heard = sound(listen_until_it_ends(room))
    np.testing.assert_array_equal(heard, np.concatenate([played[:9000], played[12000:]]))


def test_the_room_goes_on_while_nobody_listens(soundcard: Soundcard) -> None:
    played = numbered(60000)
    room = soundcard(played, speed=5)
    arecord(room, 4000)
    heard = arecord(room, 4000)
    second = told(room, "start")[1]
    assert second.lost > 0
    np.testing.assert_array_equal(heard, played[second.position : second.position + 4000])


def test_a_patient_room_waits_for_a_reader_who_is_late(soundcard: Soundcard) -> None:
    played = numbered(4 * RATE)
    room = soundcard(played, speed=20, patient=True, at_end="stall")
    microphone = Microphone(room.pcm, RATE, 1, clock=SystemClock())
    results = [result for _ in range(2) if (result := microphone.read(5))]
    time.sleep(0.3)  # six seconds of the room, in a buffer for two
    while len(sound(results)) < len(played) and (result := microphone.read(5)):
        results.append(result)
    microphone.close()
    np.testing.assert_array_equal(sound(results), played)


def test_a_room_without_pace_goes_on_where_the_last_reader_stopped(soundcard: Soundcard) -> None:
    played = numbered(4 * RATE)
    room = soundcard(played, speed=0)
    results = []
    for _ in range(3):
        microphone = Microphone(room.pcm, RATE, 1, clock=SystemClock())
        results += [result for _ in range(2) if (result := microphone.read(5))]
        microphone.close()
    heard = sound(results)
    assert len(heard) == 6 * RATE // 5
    np.testing.assert_array_equal(heard, played[: len(heard)])


def test_a_reader_that_is_killed_frees_the_microphone(soundcard: Soundcard, tmp_path: Path) -> None:
    room = soundcard(numbered(60000))
    target = tmp_path / "heard"
    command = ["arecord", "-q", "-D", "simroom", "-t", "raw", "-f", "S16_LE", "-r", "16000", str(target)]
    reader = subprocess.Popen(command)
    eventually(lambda: target.exists() and target.stat().st_size > 0, "arecord hears something")
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    arecord(room, 1000)
    assert told(room, "start")[1].position > 0


@pytest.mark.parametrize(
    ("at_end", "expected"),
    [("loop", [0, 1, 2, 3, 4, 5, 6, 7]), ("silence", [0] * 8)],
)
def test_after_the_last_frame(soundcard: Soundcard, at_end: str, expected: list[int]) -> None:
    room = soundcard(numbered(1000), at_end=at_end, speed=0)
    assert arecord(room, 1008)[1000:, 0].tolist() == expected


def test_a_room_can_end_by_unplugging(soundcard: Soundcard) -> None:
    room = soundcard(numbered(1000), at_end="unplug", speed=0)
    with pytest.raises(subprocess.CalledProcessError) as ended:
        arecord(room, 2000)
    assert b"No such device" in ended.value.stderr
    assert told(room, "gone")[0].position == 1000


def test_silence_can_be_switched_on_and_off(soundcard: Soundcard) -> None:
    room = soundcard(numbered(60000), speed=0)
    microphone = Microphone(room.pcm, RATE, 1, clock=SystemClock())
    blocks = []
    for steer in (room.silence, room.sound):
        blocks += [microphone.read(5) for _ in range(4)]
        steer()
    blocks.append(microphone.read(5))
    blocks.append(microphone.read(5))
    microphone.close()
    heard = sound([block for block in blocks if block is not None])[:, 0]
    quiet = told(room, "zeros")[0].position
    loud = told(room, "sound")[0].position
    assert not heard[quiet:loud].any()
    np.testing.assert_array_equal(heard[loud:], numbered(60000)[loud : len(heard), 0])


def test_a_card_with_other_channels_and_width_plays_the_same_room(soundcard: Soundcard) -> None:
    played = numbered(2000)
    soundcard(played, speed=0, card=Card(channels=(2,), format="S32_LE"))
    command = ["arecord", "-q", "-D", "simroom", "-t", "raw", "-f", "S32_LE", "-r", "16000", "-c", "2", "-s", "1500"]
    heard = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    wide = np.frombuffer(heard, dtype="<i4").reshape(-1, 2)
    np.testing.assert_array_equal(wide, np.repeat(played.astype(np.int32) << 16, 2, axis=1)[: len(wide)])


@pytest.mark.parametrize(("speed", "tolerance_ppm"), [(0, 1), (20, 2000)])
def test_the_crystal_drifts_against_the_clock(soundcard: Soundcard, speed: int, tolerance_ppm: float) -> None:
    drift_ppm = -300 if speed == 0 else 50_000
    room = soundcard(numbered(RATE), speed=speed, patient=True, drift_ppm=drift_ppm)
    clock = room.clock()
    microphone = Microphone(room.pcm, RATE, 1, clock=clock)
    blocks = [block for _ in range(200) if isinstance(block := microphone.read(5), Block)]
    microphone.close()
    frames = sum(block.frames for block in blocks[1:])
    elapsed_ns = blocks[-1].ended_ns - blocks[0].ended_ns
    measured_ppm = (frames * NS_PER_S / RATE / elapsed_ns - 1) * 1e6
    assert measured_ppm == pytest.approx(drift_ppm, abs=tolerance_ppm)


def test_the_room_is_as_fast_as_it_was_told(soundcard: Soundcard) -> None:
    room = soundcard(numbered(RATE), speed=4)
    clock = room.clock()
    assert clock.monotonic_ns() == clock.monotonic_ns(), "it stands still until capture starts"
    microphone = Microphone(room.pcm, RATE, 1, clock=clock)
    start = 0
    frames = 0
    while frames < 6 * RATE:
        block = microphone.read(5)
        assert isinstance(block, Block)
        start = start or clock.monotonic_ns() - block.frames * NS_PER_S // RATE
        frames += block.frames
    microphone.close()
    began, now_ns = told(room, "start")[0].at_ns, SystemClock().monotonic_ns()
    assert (clock.monotonic_ns() - start) / (now_ns - began) == pytest.approx(4, rel=0.1)


def test_losses_last_as_long_on_the_rooms_clock_as_they_have_frames(soundcard: Soundcard) -> None:
    script = ["at 20000 overrun 16000", "at 100000 overrun 4000"]
    room = soundcard(numbered(60000), speed=0, script=script)
    microphone = Microphone(room.pcm, RATE, 1, clock=room.clock())
    results = [microphone.read(5) for _ in range(60)]
    microphone.close()
    blocks = [result for result in results if isinstance(result, Block)]
    gaps = [
        round((after.ended_ns - before.ended_ns) * RATE / NS_PER_S) - after.frames
        for before, after in itertools.pairwise(blocks)
    ]
    assert [gap for gap in gaps if gap] == [16000, 4000]


def test_a_wav_file_is_played_without_its_header(soundcard: Soundcard, tmp_path: Path) -> None:
    played = numbered(3000, 2)
    with wave.open(str(tmp_path / "room.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(played.tobytes())
    room = soundcard(tmp_path / "room.wav", 48000, 2, speed=0)
    assert room.frames == 3000
    np.testing.assert_array_equal(arecord(room, 3000), played)
    with pytest.raises(KioskError, match="48000 Hz"):
        soundcard(tmp_path / "room.wav", 16000, 2)


@pytest.mark.parametrize("line", ["at 100 explode", "overrun 5", "now overrun", "at x unplug", "now unplug 1 2", ""])
def test_a_script_that_makes_no_sense_is_refused(soundcard: Soundcard, line: str) -> None:
    with pytest.raises(ValueError, match="not a line"):
        soundcard(numbered(10), script=[line])
    room = soundcard(numbered(10))
    with pytest.raises(ValueError, match="not a line"):
        room.tell(line)


def test_the_plugin_is_built_once_by_many_builders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        built = set(pool.map(lambda _: build_plugin(tmp_path / "cache"), range(4)))
    assert len(built) == 1
    plugin = built.pop()
    assert list((tmp_path / "cache").iterdir()) == [plugin]
    inode = plugin.stat().st_ino
    assert build_plugin(tmp_path / "cache").stat().st_ino == inode


@pytest.mark.parametrize(
    "compiler", ["", "#!/bin/sh\necho 'fatal error: alsa/asoundlib.h: No such file' >&2; exit 1\n"]
)
def test_a_missing_compiler_or_header_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    if compiler:
        (tools / "gcc").write_text(compiler)
        (tools / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(KioskError, match="libasound2-dev") as missing:
        build_plugin(tmp_path / "cache")
    assert ("asoundlib.h" if compiler else "no C compiler") in missing.value.cause


def test_a_path_alsa_lib_cannot_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KioskError, match="blanks"):
        SimulatedRoom(tmp_path / "a room", numbered(10), RATE, 1)
