"""Torn FLAC files, read as far as they go (`agent.mending`)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from agent.errors import KioskError
from agent.mending import Readable, readable
from agent.recorder.flac import BLOCK_FRAMES, FlacStream
from agent.units import Frames
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encoded(samples: NDArray[np.int16], planned: int) -> bytes:
    """FLAC as the recorder writes it, its header promising `planned` frames."""
    pieces: list[bytes] = []
    stream = FlacStream(lambda piece, _: pieces.append(piece), RATE, samples.shape[1], Frames(planned))
    stream.write(samples.tobytes())
    stream.finish()
    return b"".join(pieces)


def decoded(source: Readable) -> NDArray[np.int16]:
    with source.stream, soundfile.SoundFile(source.stream) as file:
        return np.asarray(file.read(dtype="int16", always_2d=True), np.int16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.flac"


def test_a_whole_file_is_read_as_it_is(path: Path) -> None:
    samples = noise(3)
    path.write_bytes(encoded(samples, len(samples)))
    source = readable(path)
    assert (source.frames, source.cut) == (len(samples), False)
    assert np.array_equal(decoded(source), samples)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_cut_anywhere_keeps_every_whole_flac_frame(path: Path, channels: int) -> None:
    samples = noise(4, channels=channels)
    whole = encoded(samples, len(samples))
    generator = np.random.default_rng(channels)
    for size in {len(whole) - 1, len(whole) - 2, *generator.integers(len(whole) // 4, len(whole), 40).tolist()}:
        path.write_bytes(whole[:size])
        source = readable(path)
        assert source.cut
        assert np.array_equal(decoded(source), samples[: source.frames])
        assert source.frames % BLOCK_FRAMES == 0
        # Nothing whole is left behind: the next frame would have ended beyond the cut.
        ends = encoded(samples[: source.frames + BLOCK_FRAMES], len(samples))
        assert len(ends) > size or source.frames + BLOCK_FRAMES > len(samples)


def test_zeros_that_a_power_cut_left_behind_are_no_sound(path: Path) -> None:
    samples = noise(4)
    path.write_bytes(encoded(samples, len(samples))[:20_000] + bytes(12_000))
    source = readable(path)
    assert source.frames > 0
    assert np.array_equal(decoded(source), samples[: source.frames])


@pytest.mark.parametrize("lead", [0x80, 0xBF, 0xFE, 0xFF])
def test_bytes_that_only_look_like_the_beginning_of_a_frame_are_passed_over(path: Path, lead: int) -> None:
    samples = noise(4)
    path.write_bytes(encoded(samples, len(samples))[:20_000] + b"\xff\xf8\xc9\x08" + bytes([lead]) * 12)
    source = readable(path)
    assert source.frames > 0
    assert np.array_equal(decoded(source), samples[: source.frames])


def test_a_file_that_ends_early_at_a_frame_is_whole_up_to_there(path: Path) -> None:
    samples = noise(3)
    path.write_bytes(encoded(samples, 10 * len(samples)))
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(path)
    source = readable(path)
    assert (source.frames, source.cut) == (len(samples), True)
    assert np.array_equal(decoded(source), samples)


def test_the_sidecar_tells_where_an_unfinished_segment_ends(tmp_path: Path) -> None:
    room = WriterRoom(settings(tmp_path, segment_seconds=60), FakeClock())
    samples = noise(20)
    room.hear(samples)
    (part,) = room.layout.open.glob("*.part")
    torn = part.read_bytes()
    source = readable(part)
    assert 16 * RATE <= source.frames < 20 * RATE
    assert np.array_equal(decoded(source), samples[: source.frames])
    assert part.read_bytes() == torn
    by_frames = tmp_path / "alone.part"
    by_frames.write_bytes(torn)
    assert readable(by_frames).frames == source.frames
    room.end()


def test_a_sidecar_of_other_bytes_does_not_stretch_the_file(tmp_path: Path) -> None:
    room = WriterRoom(settings(tmp_path), FakeClock())
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.end()
    audio = room.layout.audio(segment.name)
    audio.write_bytes(audio.read_bytes()[:-500])
    source = readable(audio)
    assert source.cut
    assert 0 < source.frames < segment.frames


@pytest.mark.parametrize("content", [b"fLaC", b"RIFF....WAVE" * 10, b"\0" * 5000])
def test_what_is_no_flac_is_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(KioskError, match="isn't a FLAC file"):
        readable(path)


def test_an_empty_file_is_told(path: Path) -> None:
    path.touch()
    with pytest.raises(KioskError, match="is empty"):
        readable(path)


def test_a_file_cut_before_its_first_sound_is_told(path: Path) -> None:
    path.write_bytes(encoded(noise(1), RATE)[:300])
    with pytest.raises(KioskError, match="ends before its first sound"):
        readable(path)


def test_the_mended_file_can_be_sought_in(path: Path) -> None:
    samples = noise(4)
    path.write_bytes(encoded(samples, 2 * len(samples)))
    source = readable(path)
    with source.stream, soundfile.SoundFile(source.stream) as file:
        file.seek(12_345)
        assert np.array_equal(file.read(100, dtype="int16", always_2d=True), samples[12_345:12_445])
        assert source.stream.seek(0, io.SEEK_END) == path.stat().st_size
