"""Where events wait in memory: those on their way to the card, and those that the card handed out to be told.

Between three parties: everybody notes, the keeper moves what was noted to the card and hands it out from there, the
subject `event` takes and tells. Nobody waits here for anybody.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from agent.courier.outbox import Happening, lost
from agent.units import NS_PER_S
from hw.clock import Clock

MOST_NOTED: Final = 1000
"""So many wait for a card that takes nothing; beyond that the oldest go."""
MOST_READY: Final = 100
STUCK_S: Final = 10.0
"""A card that lets its reader wait for so long is passed by: what is in memory is told without it."""


class Tray:
    """Bounded whatever happens."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: deque[Happening] = deque()
        self._ready: deque[Happening] = deque()
        self._lost = 0
        self._busy_since_ns: int | None = None
        self._past_card = False
        self.told = 0
        """The broker has everything up to this number of the outbox."""

    def note(self, happening: Happening) -> None:
        """Something happened."""
        with self._lock:
            if len(self._noted) >= MOST_NOTED:
                self._noted.popleft()
                self._lost += 1
            self._noted.append(happening)

    # For the keeper, who alone touches the card.

    def at_card(self, *, busy: bool) -> None:
        """Whether the keeper is waiting for the card from now on."""
        self._busy_since_ns = self._clock.monotonic_ns() if busy else None

    def noted(self) -> list[Happening]:
        """What should go to the card. It stays here until `kept`."""
        with self._lock:
            self._tell_loss()
            return list(self._noted)

    def kept(self, happenings: Sequence[Happening]) -> None:
        """These are on the card now."""
        keys = {each.key for each in happenings}
        with self._lock:
            while self._noted and self._noted[0].key in keys:
                self._noted.popleft()

    def room(self) -> int:
        """How many may be handed out now."""
        return MOST_READY - len(self._ready)

    def hand_out(self, happenings: Sequence[Happening], *, past_card: bool) -> None:
        """What the card holds next. `past_card`: it takes and holds nothing more, so what is noted is told as it is."""
        with self._lock:
            self._ready.extend(happenings)
            self._past_card = past_card

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ready or (self._past_card and self._noted))

    # For the subject `event`.

    def take(self) -> Happening | None:
        """The next one to be told."""
        with self._lock:
            if self._ready:
                return self._ready.popleft()
            if self._noted and (self._past_card or self.stuck()):
                self._tell_loss()
                return self._noted.popleft()
            return None

    def stuck(self, after_s: float = STUCK_S) -> bool:
        """Whether the keeper has been waiting for the card for so long."""
        since_ns = self._busy_since_ns
        return since_ns is not None and self._clock.monotonic_ns() - since_ns > after_s * NS_PER_S

    def _tell_loss(self) -> None:
        """What went for want of room stood before everything that is here."""
        if self._lost:
            self._noted.appendleft(lost("memory_full", self._lost, self._clock))
            self._lost = 0
