"""The connection to the fleet, from the first attempt to the goodbye, and the threads that talk over it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from agent.contract import messages
from agent.contract.messages import Topics
from agent.courier.broker import Broker
from agent.courier.conversation import Conversation, Subject
from agent.courier.crew import Crew
from agent.courier.pulse import Pulse
from agent.errors import KioskError
from agent.settings import Settings
from hw.clock import Clock

log = logging.getLogger(__name__)

_REBUILD_S: Final = 60.0
_FAREWELL_S: Final = 0.4
_LOOK_S: Final = 5.0
"""How often to look after the connection; what happens to it wakes us, but for the death of its thread."""


class Reporter:
    """Everything here may fail without harm to the uploads."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        quick: Sequence[Subject],
        desk: Sequence[Subject],
        tell: Callable[[KioskError | None], None],
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        """The `quick` subjects never touch the card, the desk's may. `tell` hears what is wrong with the broker."""
        self._settings = settings
        self._tell = tell
        self._clock = clock
        self._stop = stop
        self._talk = Conversation(quick, clock, stop)
        self._desk = Conversation(desk, clock, stop)
        self._awake = threading.Event()
        self._topics = topics

    @property
    def pulse(self) -> Pulse:
        """Of the quick subjects. The desk's may wait for the card."""
        return self._talk.pulse

    def start(self, crew: Crew) -> None:
        """Begin to report."""
        crew.start("desk", self._desk.run)
        crew.start("talk", self._talk.run)
        crew.start("reporter", self.run)

    def wake(self) -> None:
        """Have everybody take another look now. Called from every thread, and from signal handlers."""
        self._awake.set()
        self._talk.wake()
        self._desk.wake()

    def run(self) -> None:
        """Look after the connection until the process is asked to end, then say goodbye."""
        broker = self._make_broker()
        if broker is None:
            return
        for subject in (*self._talk.subjects, *self._desk.subjects):
            for topic, heard in subject.listens_to.items():
                broker.listen(topic, heard)
        broker.start()
        for conversation in (self._talk, self._desk):
            conversation.talk_over(broker)
        while not self._stop.is_set():
            self.look_after(broker)
            self._clock.wait(self._awake, _LOOK_S)
            self._awake.clear()
        broker.stop(messages.status(self._topics, online=False), _FAREWELL_S)

    def look_after(self, broker: Broker) -> None:
        """Raises KioskError when nothing would ever connect again."""
        if not broker.alive:
            raise KioskError("report", place=self._settings.mqtt.url, cause="the thread of the connection died")
        self._tell(None if broker.session else broker.refusal)

    def _make_broker(self) -> Broker | None:
        """The broker, as soon as its certificates and password can be used; None when asked to end before."""
        will = messages.status(self._topics, online=False)
        told = ""
        while not self._stop.is_set():
            try:
                return Broker(self._settings.mqtt, self._settings.device.id, will, self.wake)
            except KioskError as error:
                self._tell(error)
                if str(error) != told:
                    log.error("no report to the fleet: %s", error)  # noqa: TRY400 (it says all a person needs)
                told = str(error)
            self._clock.wait(self._awake, _REBUILD_S)
            self._awake.clear()
        return None
