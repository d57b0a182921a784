"""Audio between microphone and card, in RAM.

The capture thread puts, a writer thread takes. Putting never waits: when the card has been slow for longer than
the ring holds, whole blocks are dropped, the run ends, and the loss is accounted as the gap `overflow`.

One writer at a time holds the ring. Another one can take over from a writer that is stuck in the kernel, and a writer
whose card failed gives back what isn't durable, for the next one to write again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from agent.ledger import GapReason
from agent.units import Nanoseconds
from hw.alsa import Block


@dataclass(frozen=True, slots=True)
class Break:
    """Audio ends here: the next block, if any, begins another run. From `at_ns` on, `reason` holds."""

    reason: GapReason
    at_ns: Nanoseconds


class TakenOver(Exception):
    """Another writer holds the ring now: what was taken before is to be finished, nothing more will come."""


class Ring:
    """A bounded queue of blocks and breaks, in the order in which they happened."""

    def __init__(self, capacity_frames: int) -> None:
        self._capacity = capacity_frames
        self._items: deque[Block | Break] = deque()
        self._changed = threading.Condition()
        self._frames = 0
        self._wanted = 0
        """Frames the waiting writer wants to see before it's worth waking it."""
        self._dropping = False
        self._closed = False
        self._holder: object = None
        self._nudged = False
        self.dropped_frames = 0

    @property
    def frames(self) -> int:
        """Frames waiting for the writer."""
        return self._frames

    def put(self, block: Block) -> None:
        """Append a block, or drop it when there is no room."""
        with self._changed:
            if self._frames + block.frames > self._capacity:
                if not self._dropping:
                    self._dropping = True
                    self._items.append(Break("overflow", block.ended_ns))
                self.dropped_frames += block.frames
                return
            self._dropping = False
            self._items.append(block)
            self._frames += block.frames
            if self._frames >= self._wanted:
                self._changed.notify_all()

    def interrupt(self, reason: GapReason, at_ns: Nanoseconds) -> None:
        """Say that the stream is broken from `at_ns` on. Breaks always find room: they hold no audio."""
        with self._changed:
            self._items.append(Break(reason, at_ns))
            self._changed.notify_all()

    def close(self) -> None:
        """No more will be put; `take` drains what is there and then reports the end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def hand_to(self, holder: object) -> None:
        """From now on `holder` alone may take; whoever held the ring before finds it taken over."""
        with self._changed:
            self._holder = holder
            self._changed.notify_all()

    def nudge(self) -> None:
        """Have whoever waits in `take`, now or next, come back at once: there is something else to look at."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def take(self, frames: int, timeout_s: float, holder: object = None) -> list[Block | Break] | None:
        """Everything waiting, once that is `frames` frames, a break or `timeout_s` old; None after the end.

        The list is empty when nothing came in time, or before a nudge. Raises TakenOver unless `holder` holds the ring.
        """
        with self._changed:
            self._wanted = frames
            self._changed.wait_for(
                lambda: (
                    self._holder is not holder
                    or self._closed
                    or self._nudged
                    or self._frames >= frames
                    or isinstance(self._last(), Break)
                ),
                timeout_s,
            )
            if self._holder is not holder:
                raise TakenOver
            self._nudged = False
            if not self._items:
                return None if self._closed else []
            taken = list(self._items)
            self._items.clear()
            self._frames = 0
            return taken

    def give_back(self, items: Iterable[Block | Break]) -> None:
        """Put what was taken in front again, in its order. It was in memory before, so there is room for it."""
        with self._changed:
            returned = list(items)
            self._items.extendleft(reversed(returned))
            self._frames += sum(item.frames for item in returned if isinstance(item, Block))
            self._changed.notify_all()

    def _last(self) -> Block | Break | None:
        return self._items[-1] if self._items else None
