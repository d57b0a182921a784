"""What telemetry would have told while nobody listened, as an event.

The subject keeps the extremes of the gauges and the growth of the counters, so its memory doesn't grow with the
absence. A long one is told in pieces, which wait in the outbox: a restart costs the piece that isn't full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.contract.keys import timestamp
from agent.contract.messages import Heard, Value
from agent.contract.metrics import METRICS
from agent.courier.conversation import IDLE_S, Line
from agent.courier.monitor import Monitor
from agent.units import NS_PER_S, plain_number
from hw.clock import Clock

LONG_S: Final = 300.0
"""A shorter absence is no news: telemetry has the picture of now."""
PIECE_S: Final = 6 * 3600.0
_COUNTERS: Final = tuple(metric.name for metric in METRICS if metric.kind == "counter")
_GAUGES: Final = tuple(metric.name for metric in METRICS if metric.kind == "gauge")

Numbers = dict[str, float]
"""By the names of metrics. What nothing could tell is left out."""


@dataclass(slots=True)
class Account:
    """One absence, or a piece of one, so far."""

    since_ns: int
    """Wall time."""
    began_ns: int
    """Monotonic time."""
    counted: Numbers
    """The last value of each counter."""
    looks: int = 0
    lowest: Numbers = field(default_factory=dict)
    highest: Numbers = field(default_factory=dict)
    last: Numbers = field(default_factory=dict)
    grown: Numbers = field(default_factory=dict)

    def add(self, values: Mapping[str, Value]) -> None:
        """One more picture."""
        self.looks += 1
        for name, value in _numbers(values, _GAUGES).items():
            self.lowest[name] = min(value, self.lowest.get(name, value))
            self.highest[name] = max(value, self.highest.get(name, value))
            self.last[name] = value
        for name, value in _numbers(values, _COUNTERS).items():
            before = self.counted.get(name, value)
            # One that was set back began anew.
            self.grown[name] = self.grown.get(name, 0) + (value - before if value >= before else value)
            self.counted[name] = value

    def facts(self, now_ns: int) -> dict[str, Any]:
        """For the event."""
        return {
            "since": timestamp(self.since_ns),
            "seconds": round((now_ns - self.began_ns) / NS_PER_S, 1),
            "looks": self.looks,
            "lowest": self.lowest,
            "highest": self.highest,
            "last": self.last,
            "grown": {name: plain_number(round(value, 3)) for name, value in self.grown.items()},
        }


class Absence:
    """Belongs to the thread of its conversation."""

    listens_to: Mapping[str, Callable[[Heard], None]] = {}

    def __init__(self, monitor: Monitor, note: Callable[[str, Mapping[str, Any]], None], clock: Clock) -> None:
        self._monitor = monitor
        self._note = note
        self._clock = clock
        self._account: Account | None = None
        self._looked = -1
        """At which picture."""
        self._counted: Numbers = {}

    def greet(self, line: Line) -> None:  # noqa: ARG002 (a subject's)
        """Somebody listens again."""
        now_ns, account = self._clock.monotonic_ns(), self._account
        if account is not None and account.looks and now_ns - account.began_ns >= LONG_S * NS_PER_S:
            self._note("absence", account.facts(now_ns))
        self._account = None

    def step(self, line: Line) -> float:
        picture = self._monitor.picture
        news = picture is not None and picture.seq != self._looked
        if not line.up:
            account = self._account = self._account or self._begun()
            if picture is not None and news:
                account.add(picture.values)
        if picture is not None and news:
            self._looked, self._counted = picture.seq, self._counted | _numbers(picture.values, _COUNTERS)
        now_ns = self._clock.monotonic_ns()
        if self._account is not None and now_ns - self._account.began_ns >= PIECE_S * NS_PER_S:
            self._note("absence", self._account.facts(now_ns))
            self._account = self._begun()
        return IDLE_S

    def _begun(self) -> Account:
        return Account(self._clock.wall_ns(), self._clock.monotonic_ns(), dict(self._counted))


def _numbers(values: Mapping[str, Value], names: tuple[str, ...]) -> Numbers:
    return {name: value for name in names if isinstance(value := values.get(name), int | float)}
