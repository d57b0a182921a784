from __future__ import annotations

import threading

import pytest

from agent.recorder.ring import Break, Ring, TakenOver
from agent.units import Frames, Nanoseconds
from hw.alsa import Block


def block(number: int, frames: int = 100) -> Block:
    return Block(bytes([number]) * (2 * frames), Frames(frames), Nanoseconds(number * 1000))


def test_blocks_come_out_in_order_and_the_ring_is_empty_after() -> None:
    ring = Ring(1000)
    blocks = [block(number) for number in range(3)]
    for each in blocks:
        ring.put(each)
    assert ring.frames == 300
    assert ring.take(300, 0) == blocks
    assert ring.take(1, 0) == []
    assert ring.frames == 0


def test_what_does_not_fit_is_dropped_whole_and_the_stream_is_broken_once() -> None:
    ring = Ring(250)
    for number in range(5):
        ring.put(block(number))
    assert ring.dropped_frames == 300
    assert ring.take(1, 0) == [block(0), block(1), Break("overflow", Nanoseconds(2000))]
    ring.put(block(9))
    assert ring.take(1, 0) == [block(9)]


def test_a_break_is_taken_at_once_though_the_batch_is_short() -> None:
    ring = Ring(1000)
    ring.put(block(1))
    ring.interrupt("unplugged", Nanoseconds(5))
    assert ring.take(1000, 3600) == [block(1), Break("unplugged", Nanoseconds(5))]


def test_a_closed_ring_is_drained_and_then_ends() -> None:
    ring = Ring(1000)
    ring.put(block(1))
    ring.close()
    assert ring.take(1000, 3600) == [block(1)]
    assert ring.take(1000, 3600) is None


def test_a_waiting_writer_is_woken_by_the_block_that_completes_its_batch() -> None:
    ring = Ring(1000)
    taken: list[object] = []
    writer = threading.Thread(target=lambda: taken.append(ring.take(200, 60)))
    writer.start()
    ring.put(block(1))
    ring.put(block(2))
    writer.join(30)
    assert taken == [[block(1), block(2)]]


def test_a_break_counts_even_when_no_audio_came_with_it() -> None:
    ring = Ring(1000)
    ring.interrupt("unplugged", Nanoseconds(5))
    assert ring.take(1, 0) == [Break("unplugged", Nanoseconds(5))]


def test_only_the_holder_takes_and_a_waiting_one_notices_at_once_that_it_was_taken_over() -> None:
    ring = Ring(1000)
    ring.hand_to("one")
    noticed = threading.Event()

    def wait() -> None:
        with pytest.raises(TakenOver):
            ring.take(200, 3600, "one")
        noticed.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    ring.hand_to("other")
    assert noticed.wait(30)
    waiting.join()
    ring.put(block(1))
    assert ring.take(100, 0, "other") == [block(1)]


def test_what_is_given_back_comes_first_in_its_order_and_counts_against_the_room() -> None:
    ring = Ring(300)
    for number in (1, 2):
        ring.put(block(number))
    taken = ring.take(1, 0)
    assert taken is not None
    ring.put(block(3))
    ring.give_back([*taken, Break("overrun", Nanoseconds(9))])
    assert ring.frames == 300
    ring.put(block(4))
    assert ring.take(1, 0) == [
        block(1),
        block(2),
        Break("overrun", Nanoseconds(9)),
        block(3),
        Break("overflow", Nanoseconds(4000)),
    ]


def test_a_nudge_ends_the_wait_that_is_or_the_next_one_and_no_other() -> None:
    ring = Ring(1000)
    taken: list[object] = []
    waiting = threading.Thread(target=lambda: taken.append(ring.take(200, 3600)))
    waiting.start()
    ring.nudge()
    waiting.join(30)
    assert taken == [[]]
    ring.put(block(1))
    ring.nudge()
    assert ring.take(200, 3600) == [block(1)]
    assert ring.take(200, 0.01) == []
    ring.put(block(2))
    ring.put(block(3))
    assert ring.take(200, 3600) == [block(2), block(3)]
