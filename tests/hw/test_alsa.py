"""The microphone, read through the real alsa-lib from a simulated room."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.units import NS_PER_S
from hw.alsa import (
    Block,
    Capturing,
    FormatNotGranted,
    Microphone,
    MicrophoneBusy,
    MicrophoneGone,
    NoSuchPcm,
    Overrun,
    card_is_absent,
    microphones,
)
from hw.clock import SystemClock
from hw.simulated import Card, SimulatedRoom
from tests.soundcard import RATE, Soundcard, eventually, frames_of, numbered

PATIENCE_S = 20.0


@pytest.fixture
def listen() -> Iterator[Callable[..., Microphone]]:
    """Opens microphones and closes them after the test."""
    opened: list[Microphone] = []

    def open_microphone(room: SimulatedRoom, **options: float) -> Microphone:
        microphone = Microphone(room.pcm, room.rate, room.channels, clock=SystemClock(), **options)
        opened.append(microphone)
        return microphone

    yield open_microphone
    for microphone in opened:
        microphone.close()


def heard(microphone: Microphone, frames: int) -> list[Block | Overrun]:
    """Reads until at least `frames` frames came."""
    results: list[Block | Overrun] = []
    while frames > 0:
        result = microphone.read(PATIENCE_S)
        assert result is not None, f"still {frames} frames to come"
        results.append(result)
        if isinstance(result, Block):
            frames -= result.frames
    return results


def pcm(results: list[Block | Overrun], channels: int = 1) -> np.ndarray:
    return frames_of((result.pcm for result in results if isinstance(result, Block)), channels)


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 2)])
@pytest.mark.parametrize("speed", [0, 20])
def test_every_sample_comes_once_and_in_order(
    soundcard: Soundcard, listen: Callable[..., Microphone], rate: int, channels: int, speed: int
) -> None:
    played = numbered(10 * rate, channels)
    room = soundcard(played, rate, channels, speed=speed, patient=True, at_end="stall")
    results = heard(listen(room), 10 * rate)
    assert not any(isinstance(result, Overrun) for result in results)
    np.testing.assert_array_equal(pcm(results, channels), played)


def test_a_block_is_about_a_period_long_so_that_the_reader_wakes_five_times_a_second(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    microphone = listen(soundcard(numbered(RATE), speed=5))
    assert microphone.period_frames == RATE // 5
    assert microphone.buffer_frames == 2 * RATE
    assert [block.frames for block in heard(microphone, RATE) if isinstance(block, Block)] == [RATE // 5] * 5


def test_a_card_with_a_small_buffer_is_read_more_often(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    played = numbered(2 * RATE)
    microphone = listen(soundcard(played, card=Card(buffer_most_bytes=8192), patient=True, speed=5, at_end="stall"))
    assert microphone.buffer_frames == 4096
    assert microphone.period_frames == 1024
    np.testing.assert_array_equal(pcm(heard(microphone, 2 * RATE)), played)


def test_the_end_of_a_block_is_when_its_last_frame_was_played(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    room = soundcard(numbered(3 * RATE))
    microphone = listen(room)
    blocks = [block for block in heard(microphone, RATE // 2) if isinstance(block, Block)]
    time.sleep(0.5)  # the reader is busy: what it reads next was heard a while ago
    blocks += [block for block in heard(microphone, RATE // 2) if isinstance(block, Block)]
    start = next(event for event in room.history() if event.what == "start")
    frames = 0
    errors_ns = []
    for block in blocks:
        frames += block.frames
        errors_ns.append(abs(block.ended_ns - start.at_ns - frames * NS_PER_S // RATE))
    assert statistics.median(errors_ns) < 5_000_000, "most reads aren't interrupted between looking and taking the time"


def test_an_overrun_is_told_between_the_blocks_it_separates(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    played = numbered(3 * RATE)
    room = soundcard(played, script=["at 20000 overrun 4321"])
    results = heard(listen(room), 30000)
    breaks = [index for index, result in enumerate(results) if isinstance(result, Overrun)]
    assert len(breaks) == 1
    before, after = results[: breaks[0]], results[breaks[0] + 1 :]
    np.testing.assert_array_equal(pcm(before), played[:20000])
    sound = pcm(after)
    np.testing.assert_array_equal(sound, played[24321 : 24321 + len(sound)])

    last, first = before[-1], after[0]
    assert isinstance(last, Block)
    assert isinstance(first, Block)
    gap_ns = first.ended_ns - first.frames * NS_PER_S // RATE - last.ended_ns
    assert abs(gap_ns - 4321 * NS_PER_S // RATE) < NS_PER_S // 5, "right to a period"


def test_a_reader_that_comes_too_late_is_told_of_an_overrun_and_goes_on(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    played = numbered(60000)
    room = soundcard(played, speed=10, at_end="stall")
    microphone = listen(room, buffer_s=1.0)
    before = heard(microphone, RATE // 5)
    eventually_ns = time.monotonic_ns() + 200_000_000  # two seconds of the room, twice the buffer
    eventually(lambda: time.monotonic_ns() > eventually_ns, "time passes")
    results = [*before, *heard(microphone, RATE // 5)]
    assert [type(result) for result in results].count(Overrun) == 1
    overrun = next(event for event in room.history() if event.what == "overrun")
    assert int(overrun.details["unread"]) == microphone.buffer_frames
    again = [event for event in room.history() if event.what == "start"][1]
    assert again.lost > 2 * RATE - len(pcm(before)) - RATE // 5
    sound = pcm(results)
    cut = len(pcm(before))
    np.testing.assert_array_equal(sound[:cut], played[:cut])
    np.testing.assert_array_equal(sound[cut:], played[again.position : again.position + len(sound) - cut])


def test_a_suspended_stream_starts_again(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    played = numbered(2 * RATE)
    results = heard(listen(soundcard(played, script=["at 8000 suspend 2000"])), 16000)
    assert [result.cause for result in results if isinstance(result, Overrun)] == ["suspended"]
    sound = pcm(results)
    np.testing.assert_array_equal(sound[:8000], played[:8000])
    np.testing.assert_array_equal(sound[8000:], played[10000 : 10000 + len(sound) - 8000])


def test_short_reads_lose_nothing(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    played = numbered(RATE)
    results = heard(listen(soundcard(played, script=["at 5000 short 37 9"], at_end="stall")), RATE)
    assert [result.frames for result in results if isinstance(result, Block) and result.frames == 37] == [37] * 9
    np.testing.assert_array_equal(pcm(results), played)


def test_a_microphone_that_is_pulled_out_is_gone_until_it_is_back(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    played = numbered(60000)
    room = soundcard(played, at_end="stall")
    microphone = listen(room)
    before = heard(microphone, 8000)
    room.unplug()
    with pytest.raises(MicrophoneGone) as gone:
        before += heard(microphone, 60000)
    assert gone.value.retryable
    microphone.close()
    with pytest.raises(MicrophoneGone):
        listen(room)
    room.replug()
    after = pcm(heard(listen(room), 8000))
    pulled = next(event.position for event in room.history() if event.what == "gone")
    back = [event.position for event in room.history() if event.what == "start"][-1]
    assert back > pulled
    np.testing.assert_array_equal(after, played[back : back + len(after)])


def test_a_microphone_that_is_pulled_out_wakes_a_waiting_reader(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    room = soundcard(numbered(RATE), script=["at 4000 freeze"])
    microphone = listen(room)
    heard(microphone, 4000)
    threading.Timer(0.1, room.unplug).start()
    with pytest.raises(MicrophoneGone):
        microphone.read(PATIENCE_S)


def test_a_failing_card_is_gone_until_opened_again(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    room = soundcard(numbered(RATE), script=["at 4000 broken"])
    microphone = listen(room)
    with pytest.raises(MicrophoneGone, match="Input/output error"):
        heard(microphone, RATE)
    microphone.close()
    assert heard(listen(room), 1000)


def test_an_absent_microphone_is_gone_and_found_when_plugged_in(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    room = soundcard(numbered(RATE), script=["at 0 unplug"])
    with pytest.raises(MicrophoneGone) as absent:
        listen(room)
    assert absent.value.retryable
    room.replug()
    assert heard(listen(room), 1000)


def test_a_frozen_microphone_is_noticed_by_the_timeout(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    played = numbered(2 * RATE)
    room = soundcard(played, script=["at 4000 freeze"])
    microphone = listen(room)
    before = pcm(heard(microphone, 4000))
    np.testing.assert_array_equal(before, played[:4000])
    began = time.monotonic()
    assert microphone.read(0.3) is None
    assert time.monotonic() - began >= 0.3
    room.thaw()
    after = pcm(heard(microphone, 1000))
    thaw = next(event for event in room.history() if event.what == "thaw")
    assert thaw.lost == thaw.position - 4000
    np.testing.assert_array_equal(after, played[thaw.position : thaw.position + len(after)])


def test_a_microphone_that_stalls_for_a_moment_is_told_between_the_blocks_it_separates(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    """No driver counts these frames: the stream just goes on later."""
    played = numbered(5 * RATE)
    room = soundcard(played, script=[f"at 20000 freeze {2 * RATE}"])
    results = heard(listen(room), 40000)
    (place,) = [index for index, result in enumerate(results) if isinstance(result, Overrun)]
    told = results[place]
    assert isinstance(told, Overrun)
    assert told.cause == "stalled"
    before, after = pcm(results[:place]), pcm(results[place + 1 :])
    np.testing.assert_array_equal(before, played[:20000])
    (thaw,) = [event for event in room.history() if event.what == "thaw"]
    np.testing.assert_array_equal(after, played[thaw.position : thaw.position + len(after)])
    last, first = results[place - 1], results[place + 1]
    assert isinstance(last, Block)
    assert isinstance(first, Block)
    gap_ns = first.ended_ns - first.frames * NS_PER_S // RATE - last.ended_ns
    assert abs(gap_ns - thaw.lost * NS_PER_S // RATE) < NS_PER_S // 5, "right to a period"


def test_what_was_read_before_the_card_failed_is_given_before_the_news(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    """A card with short periods is read several times for one block."""
    played = numbered(RATE)
    room = soundcard(played, script=["at 3072 broken"], card=Card(buffer_most_bytes=8192))
    microphone = listen(room)
    time.sleep(0.3)  # the reader is late: three periods wait, less than a block
    results: list[Block | Overrun] = []
    with pytest.raises(MicrophoneGone):
        results.extend(iter(lambda: microphone.read(PATIENCE_S), None))
    np.testing.assert_array_equal(pcm(results), played[:3072])


def test_a_frozen_microphone_that_claims_to_be_ready_is_noticed_as_well_and_costs_little(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    room = soundcard(numbered(2 * RATE), script=["at 4000 restless"])
    microphone = listen(room)
    heard(microphone, 4000)
    spent = time.process_time()
    assert microphone.read(1.0) is None
    assert time.process_time() - spent < 0.3, "a busy loop takes a whole second"
    room.thaw()
    assert microphone.read(PATIENCE_S) is not None


def test_waking_ends_a_wait_at_once(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    room = soundcard(numbered(RATE), script=["at 100 freeze"])
    microphone = listen(room)
    heard(microphone, 100)
    threading.Timer(0.1, microphone.wake).start()
    began = time.monotonic()
    assert microphone.read(PATIENCE_S) is None
    assert time.monotonic() - began < PATIENCE_S / 2
    room.thaw()
    assert heard(microphone, 1000), "one wake ends one wait"


def test_waking_before_the_wait_ends_the_next_one(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    room = soundcard(numbered(RATE), script=["at 100 freeze"])
    microphone = listen(room)
    heard(microphone, 100)
    microphone.wake()
    assert microphone.read(PATIENCE_S) is None
    assert microphone.read(0.01) is None


def test_closing_twice_and_waking_after_closing_harm_nobody(
    soundcard: Soundcard, listen: Callable[..., Microphone]
) -> None:
    microphone = listen(soundcard(numbered(RATE)))
    microphone.close()
    microphone.close()
    microphone.wake()


def test_a_microphone_in_use_is_busy(soundcard: Soundcard, listen: Callable[..., Microphone]) -> None:
    room = soundcard(numbered(RATE))
    first = listen(room)
    with pytest.raises(MicrophoneBusy) as busy:
        listen(room)
    assert busy.value.retryable
    first.close()
    listen(room)


@pytest.mark.parametrize(
    ("card", "granted", "hint"),
    [
        (Card(rates=(44100, 48000)), "44100 Hz", "capture.rate = 44100"),
        (Card(channels=(2,)), "× 2, S16_LE", "capture.channels = 2"),
        (Card(format="S32_LE"), "S32_LE", ""),
    ],
)
def test_a_card_that_grants_something_else_is_refused(
    soundcard: Soundcard, listen: Callable[..., Microphone], card: Card, granted: str, hint: str
) -> None:
    room = soundcard(numbered(RATE), card=card)
    with pytest.raises(FormatNotGranted, match=granted) as refused:
        listen(room)
    assert hint in refused.value.hint
    assert not refused.value.retryable
    with pytest.raises(FormatNotGranted):  # not busy: the refusal gave the card back
        listen(room)


def test_an_unknown_pcm_is_refused_for_good_without_noise_from_alsa_lib(
    soundcard: Soundcard, capfd: pytest.CaptureFixture[str]
) -> None:
    soundcard(numbered(RATE))
    for name in ("nosuch", "nosuch:CARD=KioskMic", "hw:NOSUCH=1"):
        with pytest.raises(NoSuchPcm, match=name) as unknown:
            Microphone(name, RATE, 1, clock=SystemClock())
        assert not unknown.value.retryable
        assert "kiosk-recorder mics" in unknown.value.hint
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "pcm_name", ["hw:CARD=KioskMic", "plughw:CARD=KioskMic,DEV=0", "hw:7", "sysdefault:CARD=KioskMic"]
)
def test_a_card_that_is_not_there_is_worth_waiting_for(pcm_name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MicrophoneGone) as absent:
        Microphone(pcm_name, RATE, 1, clock=SystemClock())
    assert absent.value.retryable
    assert capfd.readouterr().err == ""


def test_cards_are_listed_by_their_stable_names(tmp_path: Path) -> None:
    (tmp_path / "cards").write_text(
        " 0 [Headphones     ]: bcm2835_headpho - bcm2835 Headphones\n"
        "                      bcm2835 Headphones\n"
        " 1 [KioskMic       ]: USB-Audio - USB PnP Audio Device\n"
        "                      C-Media USB PnP Audio Device at usb-0000:01:00.0-1.2, full speed\n"
    )
    (tmp_path / "pcm").write_text(
        "00-00: bcm2835 Headphones : bcm2835 Headphones : playback 8\n"
        "01-00: USB Audio : USB Audio : playback 1 : capture 1\n"
        "01-02: USB Audio #2 : USB Audio #2 : capture 1\n"
    )
    for number, name in enumerate(("Headphones", "KioskMic")):
        (tmp_path / f"card{number}").mkdir()
        (tmp_path / f"card{number}" / "id").write_text(f"{name}\n")
    card = "USB-Audio - USB PnP Audio Device"
    assert microphones(tmp_path) == [
        Capturing("hw:CARD=KioskMic", card, "USB Audio"),
        Capturing("hw:CARD=KioskMic,DEV=2", card, "USB Audio #2"),
    ]


def test_a_machine_without_a_sound_card_has_no_microphones(tmp_path: Path) -> None:
    assert microphones(tmp_path) == []


@pytest.mark.parametrize(
    ("pcm_name", "absent"),
    [
        ("hw:CARD=KioskMic", False),
        ("plughw:KioskMic,0", False),
        ("hw:1", False),
        ("hw:CARD=Other,DEV=0", True),
        ("hw:2", True),
        ("default", False),
    ],
)
def test_an_absent_card_is_known_without_opening_it(tmp_path: Path, pcm_name: str, absent: bool) -> None:  # noqa: FBT001
    for name in ("version", "card1", "KioskMic"):
        (tmp_path / name).touch()
    assert card_is_absent(pcm_name, tmp_path) == absent


def test_a_microphone_that_comes_back_under_another_number_keeps_its_name(tmp_path: Path) -> None:
    """As the kernel shows it: the stable name is a link to whichever card bears it now."""
    (tmp_path / "version").touch()
    for number in (1, 3):
        (tmp_path / f"card{number}").mkdir()
        (tmp_path / f"card{number}" / "id").write_text("KioskMic\n")
        (tmp_path / "cards").write_text(f" {number} [KioskMic       ]: USB-Audio - USB PnP Audio Device\n")
        (tmp_path / "pcm").write_text(f"{number:02}-00: USB Audio : USB Audio : capture 1\n")
        (tmp_path / "KioskMic").symlink_to(f"card{number}")
        assert not card_is_absent("hw:CARD=KioskMic", tmp_path)
        assert [microphone.pcm for microphone in microphones(tmp_path)] == ["hw:CARD=KioskMic"]
        (tmp_path / "KioskMic").unlink()
        assert card_is_absent("hw:CARD=KioskMic", tmp_path)


def test_a_hidden_list_of_cards_proves_nothing(tmp_path: Path) -> None:
    assert not card_is_absent("hw:CARD=KioskMic", tmp_path)


_AFTER_AN_ATTEMPT = """
import ctypes, gc
from agent.errors import KioskError
from hw.alsa import Microphone
from hw.clock import SystemClock

try:
    Microphone("hw:CARD=Nowhere", 16000, 1, clock=SystemClock())
except KioskError:
    pass
gc.collect()
library = ctypes.CDLL("libasound.so.2")
kind = ctypes.CFUNCTYPE(None, *[ctypes.c_char_p, ctypes.c_int] * 2, ctypes.c_char_p, ctypes.c_void_p)
kind.in_dll(library, "snd_err_msg")(b"pcm_hw.c", 1, b"snd_pcm_hw_close", 19, b"unplugged", None)
"""


def test_what_alsa_lib_says_after_an_attempt_to_open_ends_nothing() -> None:
    """It says so, by a pointer that it keeps, when a card that was pulled out is closed."""
    done = subprocess.run([sys.executable, "-c", _AFTER_AN_ATTEMPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
