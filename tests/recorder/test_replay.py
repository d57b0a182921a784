from __future__ import annotations

from agent.recorder.replay import Replay
from agent.units import Frames, Nanoseconds
from hw.alsa import Block

RATE = 8


def block(first: int, frames: int) -> Block:
    """Frames that are their own numbers: two bytes each."""
    pcm = b"".join(number.to_bytes(2, "little") for number in range(first, first + frames))
    return Block(pcm, Frames(frames), Nanoseconds((first + frames) * 1_000_000_000 // RATE))


def numbers(blocks: list[Block]) -> list[int]:
    pcm = b"".join(each.pcm for each in blocks)
    return [int.from_bytes(pcm[at : at + 2], "little") for at in range(0, len(pcm), 2)]


def test_what_is_not_durable_comes_back_at_the_very_frame() -> None:
    replay = Replay(RATE, 1)
    for first in (0, 10, 20):
        replay.add(block(first, 10))
    replay.durable(12)
    begin, left = replay.after(13)
    assert (begin, numbers(left)) == (13, list(range(13, 30)))
    assert [each.frames for each in left] == [7, 10]
    assert left[0].ended_ns == block(10, 10).ended_ns


def test_what_became_durable_just_before_is_left_out_whole() -> None:
    replay = Replay(RATE, 1)
    for first in (0, 10, 20):
        replay.add(block(first, 10))
    begin, left = replay.after(20)
    assert (begin, numbers(left)) == (20, list(range(20, 30)))
    assert replay.after(30) == (30, [])


def test_beyond_ten_seconds_the_oldest_is_forgotten_and_said_so() -> None:
    replay = Replay(RATE, 1)
    for first in range(0, 200, 10):
        replay.add(block(first, 10))
    begin, left = replay.after(0)
    assert begin == 120
    assert numbers(left) == list(range(120, 200))


def test_a_single_block_longer_than_that_is_kept() -> None:
    replay = Replay(RATE, 1)
    long = block(0, 300)
    replay.add(long)
    assert replay.holds(long)
    assert replay.after(0) == (0, [long])
