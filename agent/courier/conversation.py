"""What the courier talks about with the fleet: subjects, and threads that go through them.

A subject says what it has to say in `step`; at a new connection it is told so by `greet` before, for nobody knows what
an earlier one left. Two threads talk over one connection: the reporter's subjects never touch the card, so that a card
that is stuck in the kernel doesn't silence the kiosk; the desk's may.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from agent.contract.messages import Heard, Message
from agent.courier.broker import Broker, Sent
from agent.courier.pulse import Pulse
from hw.clock import Clock

IDLE_S: Final = 60.0
"""How long a subject may rest that is woken by what happens."""


@dataclass(frozen=True, slots=True)
class Line:
    """One connection, as a subject sees it: what is said on it is never said on a later one by mistake."""

    broker: Broker
    session: int
    """0: there is no connection."""

    @property
    def up(self) -> bool:
        """Whether somebody listens."""
        return self.session != 0 and self.broker.session == self.session

    def say(self, message: Message) -> Sent | None:
        """Hand a message over to the connection; None, and nothing is kept, when it is gone."""
        return self.broker.publish(message) if self.up else None


class Subject(Protocol):
    """One thing that is talked about. Belongs to the thread of its conversation."""

    @property
    def listens_to(self) -> Mapping[str, Callable[[Heard], None]]:
        """Topics to subscribe to. Whoever hears is called on the connection's own thread: note it, wake, return."""
        ...

    def greet(self, line: Line) -> None:
        """A new connection: nothing that an earlier one was told is known to be known."""

    def step(self, line: Line) -> float:
        """Do and say what is due, also while the line is down; seconds until something will be again."""
        ...


@dataclass
class Conversation:
    """Goes through its subjects in order, in one thread."""

    subjects: Sequence[Subject]
    clock: Clock
    stop: threading.Event
    _awake: threading.Event = field(default_factory=threading.Event)
    _broker: Broker | None = None
    _greeted: int = 0
    pulse: Pulse = field(init=False)

    def __post_init__(self) -> None:
        self.pulse = Pulse("talk", IDLE_S, self.clock)

    def wake(self) -> None:
        """Have another look now. Called from every thread, and from signal handlers."""
        self._awake.set()

    def talk_over(self, broker: Broker) -> None:
        """From now on there is somebody to talk to, whenever it is connected."""
        self._broker = broker
        self.wake()

    def run(self) -> None:
        """Until the process is asked to end."""
        while not self.stop.is_set():
            self.pulse.beat()
            broker = self._broker
            self.clock.wait(self._awake, IDLE_S if broker is None else self.step(broker))
            self._awake.clear()

    def step(self, broker: Broker) -> float:
        """One round; seconds until something will be due."""
        line = Line(broker, broker.session)
        if line.up and line.session != self._greeted:
            for subject in self.subjects:
                subject.greet(line)
            self._greeted = line.session
        return min((subject.step(line) for subject in self.subjects), default=IDLE_S)
