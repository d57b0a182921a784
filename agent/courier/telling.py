"""Tells the fleet what the monitor sees: telemetry, and alerts as long as they are raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from agent.contract import messages
from agent.contract.alerts import NAMES, Raised
from agent.contract.messages import Heard, Topics
from agent.courier.conversation import IDLE_S, Line
from agent.courier.monitor import Monitor

_HEARD: Final[Mapping[str, Callable[[Heard], None]]] = {}


class Telemetry:
    """Each picture once, and the newest at each new connection."""

    listens_to = _HEARD

    def __init__(self, topics: Topics, monitor: Monitor) -> None:
        self._topics = topics
        self._monitor = monitor
        self.told = -1
        """The picture that was said last on this connection."""

    def greet(self, line: Line) -> None:  # noqa: ARG002 (a subject's)
        self.told = -1

    def step(self, line: Line) -> float:
        picture = self._monitor.picture
        if picture is not None and line.up and picture.seq != self.told:
            line.say(messages.telemetry(self._topics, picture.values, wall_ns=picture.wall_ns, seq=picture.seq))
            self.told = picture.seq
        return IDLE_S


class Alerts:
    """Each as it changes; at a new connection also that one is not raised: an earlier one may have left it retained."""

    listens_to = _HEARD

    def __init__(self, topics: Topics, monitor: Monitor) -> None:
        self._topics = topics
        self._monitor = monitor
        self._told: dict[str, Raised | None] = {}

    def greet(self, line: Line) -> None:  # noqa: ARG002 (a subject's)
        self._told.clear()

    def step(self, line: Line) -> float:
        # Before the first picture nobody knows what is wrong, and so nothing is taken back.
        if line.up and self._monitor.picture is not None:
            raised = self._monitor.raised
            for name in NAMES:
                self._tell(line, name, raised.get(name))
        return IDLE_S

    def _tell(self, line: Line, name: str, alert: Raised | None) -> None:
        if name in self._told and self._told[name] == alert:
            return
        if alert is None:
            line.say(messages.cleared(self._topics, name))
        else:
            line.say(
                messages.alert(
                    self._topics,
                    name,
                    severity=alert.severity,
                    since_ns=alert.since_ns,
                    text=alert.text,
                    value=alert.value,
                    threshold=alert.threshold,
                )
            )
        self._told[name] = alert
