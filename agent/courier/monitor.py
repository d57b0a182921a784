"""Looks at the kiosk: all its measures every 30 s, and every few seconds whether something is wrong.

It works with or without a broker: what it finds is also for the people at the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.contract.alerts import Raised
from agent.contract.messages import TELEMETRY_EVERY_S, Value
from agent.courier.alarms import Alarms
from agent.courier.measures import Measures
from agent.courier.pulse import Pulse
from agent.courier.signs import Signs
from agent.courier.stock import Stock
from agent.units import NS_PER_S
from hw.clock import Clock

_LOOK_S: Final = 5.0
"""How often to look whether there is something to raise an alarm about."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The kiosk at one moment: a value, or None where nothing can tell, for every metric."""

    values: Mapping[str, Value]
    wall_ns: int
    seq: int
    """Counts pictures since the courier started."""


class Monitor:
    """One thread steps it; everybody reads `picture` and `raised`, which are replaced as a whole."""

    def __init__(
        self,
        card: Callable[[], Stock | None],
        direct: Callable[[], Stock | None],
        measures: Measures,
        signs: Signs,
        alarms: Alarms,
        clock: Clock,
        stop: threading.Event,
    ) -> None:
        """`card` and `direct` take stock of the two paths; `card` may not let a stuck card keep this thread waiting."""
        self._card = card
        self._direct = direct
        self._measures = measures
        self._signs = signs
        self._alarms = alarms
        self._clock = clock
        self._stop = stop
        self._awake = threading.Event()
        self._due_ns = 0
        self._seq = 0
        self._on_card: Stock | None = None
        self.pulse = Pulse("monitor", _LOOK_S, clock)
        self.picture: Picture | None = None
        """The newest; None before the first."""
        self.raised: Mapping[str, Raised] = alarms.raised
        """What is wrong now, by the names of the alert table."""
        self.changed: Callable[[], None] = lambda: None
        """Called when one of the two is new."""
        self.keepers: Sequence[Callable[[Picture, Mapping[str, Raised]], None]] = ()
        """Called before that, with both."""

    def look_now(self) -> None:
        """Take a new picture at once. Called from every thread."""
        self._due_ns = 0
        self._awake.set()

    def wake(self) -> None:
        """Have `run` notice that the process ends."""
        self._awake.set()

    def run(self) -> None:
        """Until the process is asked to end."""
        while not self._stop.is_set():
            self.pulse.beat()
            self._clock.wait(self._awake, self.step())
            self._awake.clear()

    def step(self) -> float:
        """One look; seconds until the next."""
        now_ns = self._clock.monotonic_ns()
        news = now_ns >= self._due_ns
        if news:
            self._due_ns = now_ns + round(TELEMETRY_EVERY_S * NS_PER_S)
            self._on_card = self._card()
            read = self._measures.read(self._on_card, self._direct())
            self.picture = Picture(read, self._clock.wall_ns(), self._seq)
            self._seq += 1
        values = self.picture.values if self.picture else {}
        raised = self._alarms.look(self._signs.read(self._measures.recorder(), values, self._on_card))
        if raised != self.raised:
            self.raised, news = raised, True
        if news and self.picture is not None:
            for keep in self.keepers:
                keep(self.picture, raised)
            self.changed()
        return min(_LOOK_S, max(0.0, (self._due_ns - now_ns) / NS_PER_S))
