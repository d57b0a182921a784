"""The audio of the current run that isn't durable yet, so that another writer can write it again.

After a failed fsync nobody knows what is on the card, and asking again on the same descriptor would be answered with a
lie: the only way is to write the data anew, elsewhere. So what was written stays in memory until it's durable: two or
three seconds as a rule, `_LONGEST_S` at the most (in a silent room it takes minutes to fill a page of FLAC).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from agent.units import Frames
from hw.alsa import Block

_LONGEST_S: Final = 10


class Replay:
    """Counts frames from the beginning of the run."""

    def __init__(self, rate: int, channels: int) -> None:
        self._frame_bytes = 2 * channels
        self._most_frames = _LONGEST_S * rate
        self._blocks: deque[Block] = deque()
        self._begin = 0
        """Of the oldest block held."""
        self._end = 0

    def add(self, block: Block) -> None:
        """The next block of the run."""
        self._blocks.append(block)
        self._end += block.frames
        while self._end - self._begin - self._blocks[0].frames >= self._most_frames:
            self._forget_oldest()

    def holds(self, block: Block) -> bool:
        """Whether this very block was added and not forgotten."""
        return any(each is block for each in self._blocks)

    def durable(self, frames: int) -> None:
        """The first `frames` frames of the run are on the card for good."""
        while self._blocks and self._begin + self._blocks[0].frames <= frames:
            self._forget_oldest()

    def after(self, frames: int) -> tuple[int, list[Block]]:
        """What follows the first `frames` frames of the run: where it begins (later, if it was forgotten), and it."""
        self.durable(frames)
        left = list(self._blocks)
        skip = frames - self._begin
        if left and skip > 0:
            first = left[0]
            left[0] = Block(first.pcm[skip * self._frame_bytes :], Frames(first.frames - skip), first.ended_ns)
        return max(frames, self._begin), left

    def _forget_oldest(self) -> None:
        self._begin += self._blocks.popleft().frames
