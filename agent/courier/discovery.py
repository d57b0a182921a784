"""Tells Home Assistant what there is to see of this kiosk: at every connection, and whenever that comes online."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agent.contract.discovery import About, birth_topic, discovery
from agent.contract.messages import ONLINE, Heard
from agent.courier.conversation import IDLE_S, Line, Subject
from agent.units import NS_PER_S
from hw.clock import Clock

LATEST_S: Final = 10.0
"""A fleet doesn't answer all at once: each kiosk waits some time of its own, up to this."""

SETTLE_S: Final = 5.0
"""After that Home Assistant has made its entities and listens to them."""


class Discovery:
    """The subject of Home Assistant's discovery."""

    def __init__(self, about: About, prefix: str, again: Sequence[Subject], clock: Clock) -> None:
        """`again` are subjects that have something to say to whoever listens only since then, retained or not."""
        self._about = about
        self._prefix = prefix
        self._again = again
        self._clock = clock
        self._asked = False
        self._due_ns: int | None = None
        self._repeat_ns: int | None = None
        self.asked: Callable[[], None] = lambda: None
        """Called when Home Assistant wants to know."""

    @property
    def listens_to(self) -> Mapping[str, Callable[[Heard], None]]:
        return {birth_topic(self._prefix): self._heed}

    def greet(self, line: Line) -> None:  # noqa: ARG002 (a subject's)
        self._due_ns = self._clock.monotonic_ns()

    def step(self, line: Line) -> float:
        now_ns = self._clock.monotonic_ns()
        if self._asked:
            self._asked = False
            # Whoever says so again and again is answered no more often for it.
            self._due_ns = self._due_ns or now_ns + round(random.uniform(0, LATEST_S) * NS_PER_S)  # noqa: S311
        if not line.up:
            return IDLE_S
        if self._due_ns is not None and now_ns >= self._due_ns:
            line.say(discovery(self._about, self._prefix))
            self._due_ns, self._repeat_ns = None, now_ns + round(SETTLE_S * NS_PER_S)
        if self._repeat_ns is not None and now_ns >= self._repeat_ns:
            self._repeat_ns = None
            for subject in self._again:
                subject.greet(line)
        due = [at_ns for at_ns in (self._due_ns, self._repeat_ns) if at_ns is not None]
        return max(0.0, (min(due) - now_ns) / NS_PER_S) if due else IDLE_S

    def _heed(self, heard: Heard) -> None:
        # One that was retained was said before this connection, at which we told everything anyway.
        if heard.payload == ONLINE and not heard.retained:
            self._asked = True
            self.asked()
