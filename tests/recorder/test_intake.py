from __future__ import annotations

from agent.recorder.intake import Intake
from agent.recorder.ring import Break, Ring
from agent.recorder.vitals import Vitals
from agent.settings import Capture
from agent.units import NS_PER_S, Frames, Nanoseconds
from hw.alsa import Block

RATE = 8000


def blocks(seconds: float, since_s: float = 0) -> list[Block]:
    """Half-second blocks, each telling its number."""
    ends = [since_s + 0.5 * number for number in range(1, round(2 * seconds) + 1)]
    return [
        Block(bytes([round(2 * end) % 256]) * RATE, Frames(RATE // 2), Nanoseconds(round(end * NS_PER_S)))
        for end in ends
    ]


def given(ring: Ring) -> list[Block | Break]:
    intake = Intake(ring, Capture(rate=RATE), None, Vitals())
    assert intake.take()
    return list(intake)


def test_a_backlog_is_worked_off_in_batches_and_nothing_of_it_is_missing() -> None:
    """Taken whole, half a minute would leave the heap larger for ever (`bench/run soak`)."""
    ring = Ring(30 * RATE)
    for block in blocks(29.5):
        ring.put(block)
    batches = [item for item in given(ring) if isinstance(item, Block)]
    assert [batch.frames for batch in batches] == [RATE] * 29 + [RATE // 2]
    assert [batch.ended_ns for batch in batches] == [second * NS_PER_S for second in range(1, 30)] + [29_500_000_000]
    assert b"".join(batch.pcm for batch in batches) == b"".join(block.pcm for block in blocks(29.5))


def test_blocks_on_both_sides_of_a_break_stay_apart() -> None:
    ring = Ring(30 * RATE)
    for block in blocks(0.5):
        ring.put(block)
    ring.interrupt("overrun", Nanoseconds(NS_PER_S))
    for block in blocks(0.5, since_s=2):
        ring.put(block)
    assert given(ring) == [*blocks(0.5), Break("overrun", Nanoseconds(NS_PER_S)), *blocks(0.5, since_s=2)]
