"""The subject `event`: what happened, in order, each until the broker has it.

What waits, waits on the card (agent.courier.keeper); this thread never touches it. At most `_BURST` events are said in
`_EVERY_S`, so that a fleet that comes back together doesn't flood its broker.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent.contract import messages
from agent.contract.events import checked
from agent.contract.messages import Heard, Message, Topics
from agent.courier.broker import Sent, on_its_way
from agent.courier.conversation import IDLE_S, Line
from agent.courier.outbox import Happening, happened
from agent.courier.tray import MOST_READY, Tray
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

_BURST: Final = 10
_EVERY_S: Final = 0.5
"""20 a second: what five hundred kiosks say at once, when they come back, any broker takes."""
_WINDOW: Final = 20
"""So many are under way at most: paho sends no more before the first is acknowledged."""
_REFUSED_S: Final = 60.0


class Events:
    """Belongs to the thread of its conversation, but for `note`: that is everybody's."""

    listens_to: Mapping[str, Callable[[Heard], None]] = {}

    def __init__(self, topics: Topics, tray: Tray, clock: Clock) -> None:
        self._topics = topics
        self._tray = tray
        self._clock = clock
        self._under_way: deque[tuple[Happening, Sent]] = deque()
        self._again: deque[Happening] = deque()
        self._session = 0
        self._due_ns = 0
        self._refused = False
        self._highest = 0
        self.noted: Callable[[], None] = lambda: None
        """Called when something is to go to the card, or to be had from there."""

    def note(self, name: str, facts: Mapping[str, Any]) -> None:
        """Something happened just now. Never waits. Raises ValueError for what isn't in the table of events."""
        self._tray.note(happened(name, checked(name, facts), self._clock))
        self.noted()

    def greet(self, line: Line) -> None:
        """Nothing: what was under way paho says again by itself."""

    def step(self, line: Line) -> float:
        self._see_what_arrived(line)
        now_ns = self._clock.monotonic_ns()
        if not line.up:
            return IDLE_S
        if self._under_way and self._session != line.session:
            # paho says these again on the new connection; a later one must not overtake them.
            return _EVERY_S
        if now_ns < self._due_ns:
            return (self._due_ns - now_ns) / NS_PER_S
        self._session = line.session
        said = self._say(line)
        if said:
            self._due_ns = now_ns + round(_EVERY_S * NS_PER_S)
            if self._tray.room() > MOST_READY // 2:
                self.noted()
        return _EVERY_S if self._under_way else IDLE_S

    def _say(self, line: Line) -> int:
        said = 0
        while said < _BURST and len(self._under_way) < _WINDOW:
            happening = self._again.popleft() if self._again else self._tray.take()
            if happening is None:
                break
            sent = line.say(self._message(happening))
            if not on_its_way(sent):
                # The connection is just going. If paho keeps it all the same, it is a repeat.
                self._again.appendleft(happening)
                break
            self._under_way.append((happening, sent))
            said += 1
        return said

    def _message(self, happening: Happening) -> Message:
        name, key, wall_ns = happening.name, happening.key, happening.wall_ns
        try:
            return messages.event(self._topics, name, key=key, wall_ns=wall_ns, facts=happening.facts)
        except (ValueError, TypeError, OverflowError):
            # A flipped bit, or half a character in what a stranger sent: it would come again after each restart.
            lost = {"reason": "malformed", "count": 1}
            return messages.event(self._topics, "events_lost", key=key, wall_ns=self._clock.wall_ns(), facts=lost)

    def _see_what_arrived(self, line: Line) -> None:
        while self._under_way and self._under_way[0][1].is_published():
            happening, sent = self._under_way.popleft()
            if line.broker.refused(sent):
                self._put_back(happening)
            else:
                self._refused = False
                self._highest = max(self._highest, happening.n)
        left = [happening.n for happening, _ in self._under_way] + [happening.n for happening in self._again]
        self._tray.told = min([self._highest, *(n - 1 for n in left if n)])

    def _put_back(self, happening: Happening) -> None:
        """The broker doesn't take it: a person has to let this device write there. It is said again."""
        self._again.append(happening)
        self._due_ns = self._clock.monotonic_ns() + round(_REFUSED_S * NS_PER_S)
        if not self._refused:
            log.warning("the broker refuses events, they wait: what may this device write? (docs/MQTT.md)")
        self._refused = True
