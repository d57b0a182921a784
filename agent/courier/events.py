"""What happened, said once each, in order."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.contract import messages
from agent.contract.messages import Heard, Topics
from agent.courier.conversation import IDLE_S, Line
from hw.clock import Clock

_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Happening:
    """One event."""

    key: str
    wall_ns: int
    name: str
    facts: Mapping[str, Any]


class Events:
    """The subject `event`. Everybody may `note`."""

    listens_to: Mapping[str, Callable[[Heard], None]] = {}

    def __init__(self, topics: Topics, clock: Clock) -> None:
        self._topics = topics
        self._clock = clock
        self._waiting: deque[Happening] = deque(maxlen=_MOST)
        self.noted: Callable[[], None] = lambda: None
        """Called when there is something to say."""

    def note(self, name: str, facts: Mapping[str, Any]) -> None:
        """Something happened just now. Never waits."""
        self._waiting.append(Happening(secrets.token_hex(8), self._clock.wall_ns(), name, facts))
        self.noted()

    def greet(self, line: Line) -> None:
        """Nothing: what waits is said anyway."""

    def step(self, line: Line) -> float:
        while line.up and self._waiting:
            happening = self._waiting.popleft()
            line.say(
                messages.event(
                    self._topics,
                    happening.name,
                    key=happening.key,
                    wall_ns=happening.wall_ns,
                    facts=happening.facts,
                )
            )
        return IDLE_S
