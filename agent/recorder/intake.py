"""What a writer takes from the ring: measured, in batches, and of it what is to be recorded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from agent.recorder.levels import measure
from agent.recorder.ring import Break, Ring
from agent.recorder.vitals import Vitals
from agent.recorder.voice import VoiceGate
from agent.settings import Capture
from agent.units import NS_PER_S, Frames
from hw.alsa import Block

_BATCH_S: Final = 1.0
"""Audio is worked on in batches: few wake-ups and vectorised levels (docs/adr/0005)."""


_LATE_NS: Final = 3 * NS_PER_S
"""What was heard is in the ring by then, if a microphone is heard at all."""


class Intake:
    """One writer's end of the ring."""

    def __init__(self, ring: Ring, capture: Capture, gate: VoiceGate | None, vitals: Vitals) -> None:
        """`gate` is for voice mode. The ring is held from now on."""
        self._ring = ring
        self._batch_frames = round(capture.rate * _BATCH_S)
        self._channels = capture.channels
        self.gate = gate
        self.vitals = vitals
        self._taken: deque[Block | Break] = deque()
        """Not looked at yet."""
        self._passing: deque[Block | Break] = deque()
        """To be recorded."""
        self.newest: Block | Break | None = None
        """The last thing that was taken."""
        ring.hand_to(self)

    def take(self) -> bool:
        """Wait for a batch, for a break, or 2 s. False after the end. Raises TakenOver."""
        taken = self._ring.take(self._batch_frames, 2 * _BATCH_S, self)
        if taken is None:
            return False
        if taken:
            self.newest = taken[-1]
            self._taken.extend(_joined(taken, self._batch_frames))
        return True

    def nudge(self) -> None:
        """From another thread: end a wait."""
        self._ring.nudge()

    def __iter__(self) -> Iterator[Block | Break]:
        """What is to be recorded of what was taken; each item is gone once it has been given."""
        while self._passing or self._taken:
            if not self._passing:
                self._listen(self._taken.popleft())
            while self._passing:
                yield self._passing.popleft()

    @property
    def quiet_ns(self) -> int | None:
        """In voice mode while nobody speaks: until when that is known."""
        newest = self.newest
        if self.gate is None or self.gate.open or not isinstance(newest, Block):
            return None
        return newest.ended_ns

    def has_come_to(self, at_ns: int, now_ns: int) -> bool:
        """Whether everything heard before then has been given, or never will be: what voice mode holds back is dropped.

        Between two batches.
        """
        newest = self.newest
        known_ns = 0 if newest is None else newest.ended_ns if isinstance(newest, Block) else newest.at_ns
        silent = self._ring.frames == 0 and now_ns > at_ns + _LATE_NS
        if known_ns < at_ns and not silent:
            return False
        if self.gate is not None:
            self.gate.drop_preroll()
        return True

    def put_back(self, item: Block | Break) -> None:
        """Undo giving `item`, the last one given."""
        self._passing.appendleft(item)

    def give_back(self, items: Iterable[Block | Break]) -> None:
        """Leave `items`, and everything that was taken and not given, to whoever holds the ring next."""
        self._ring.give_back([*items, *self._passing, *self._taken])
        self._passing.clear()
        self._taken.clear()

    def _listen(self, item: Block | Break) -> None:
        if isinstance(item, Break):
            if self.gate is not None:
                self.gate.interrupted()
            self._passing.append(item)
            return
        samples = np.frombuffer(item.pcm, np.int16).reshape(-1, self._channels)
        self.vitals.levels = measure(samples)
        if self.gate is None:
            self._passing.append(item)
        else:
            self._passing.extend(self.gate.feed(item, samples))


def _joined(items: Iterable[Block | Break], enough: int) -> Iterator[Block | Break]:
    """The same in fewer, larger blocks: neighbours without a break between them become one of `enough` frames.

    No larger: half a minute that a slow card made wait, copied and converted whole, leaves the heap larger for ever.
    """
    waiting: list[Block] = []
    for item in items:
        whole = sum(block.frames for block in waiting) >= enough
        if waiting and (whole or isinstance(item, Break)):
            yield _join(waiting)
            waiting = []
        if isinstance(item, Block):
            waiting.append(item)
        else:
            yield item
    if waiting:
        yield _join(waiting)


def _join(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    frames = Frames(sum(block.frames for block in blocks))
    return Block(b"".join(block.pcm for block in blocks), frames, blocks[-1].ended_ns)
