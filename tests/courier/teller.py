"""Events on their way from a note to a broker, without the rest of a courier."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.contract.messages import Topics
from agent.courier.broker import Broker
from agent.courier.conversation import Line
from agent.courier.events import Events
from agent.courier.keeper import Keeper
from agent.courier.tray import Tray
from agent.settings import Mqtt
from agent.spool import Layout
from hw.clock import Clock
from tests.servers import Broker as Server
from tests.soundcard import eventually

TOPICS = Topics("north", "room-12")


@dataclass
class Teller:
    """Keeper and subject, stepped by the test."""

    root: Path
    clock: Clock
    tray: Tray = field(init=False)
    keeper: Keeper = field(init=False)
    events: Events = field(init=False)

    def __post_init__(self) -> None:
        layout = Layout(self.root)
        layout.create()
        self.tray = Tray(self.clock)
        self.keeper = Keeper(layout, self.tray, self.clock, threading.Event())
        self.events = Events(TOPICS, self.tray, self.clock)

    @property
    def path(self) -> Path:
        return self.root / "state" / "outbox.db"

    def note(self, *numbers: int) -> None:
        """Something happened, told apart by its number."""
        for number in numbers:
            self.events.note("flags", {"version": number, "variants": {}})


@contextmanager
def connected(server: Server) -> Iterator[Broker]:
    """A kiosk's own line to a broker."""
    broker = Broker(Mqtt(url=server.url), "room-12", None, lambda: None)
    broker.start()
    try:
        eventually(lambda: broker.session > 0, "the line is up")
        yield broker
    finally:
        broker.stop(None, 1)


def line(broker: Broker) -> Line:
    """The line as it is now."""
    return Line(broker, broker.session)
