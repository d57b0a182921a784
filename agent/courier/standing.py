"""How the store treats this kiosk, told once a change instead of once a recording."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from agent.courier.targets import ClockRefused, NeedsPerson, TargetError
from agent.errors import KioskError
from agent.units import NS_PER_S, human_seconds
from hw.clock import Clock

log = logging.getLogger(__name__)

DELAYS_S = (10.0, 40.0)
"""First and longest. With an attempt's own length less than a minute: so soon after the cause is gone it goes on."""


@dataclass(frozen=True, slots=True)
class Hold:
    """All uploads stand still; at `retry_ns` on the monotonic clock a single one asks whether that is still so."""

    error: TargetError
    delay_s: float
    retry_ns: int


def holds(error: KioskError | None) -> bool:
    """Whether every other upload would be refused for the same reason."""
    return isinstance(error, NeedsPerson | ClockRefused)


def next_hold(previous: Hold | None, error: TargetError, now_ns: int) -> Hold:
    """The hold after a refusal; repeated refusals wait twice as long, up to a ceiling."""
    first_s, longest_s = DELAYS_S
    same = previous is not None and type(previous.error) is type(error)
    delay_s = min(longest_s, previous.delay_s * 2) if previous is not None and same else first_s
    return Hold(error, delay_s, now_ns + round(delay_s * NS_PER_S))


class Standing:
    """Logs the first failure of each kind and the first success after it. May be used from every thread."""

    def __init__(self, clock: Clock, *, quiet: bool = False) -> None:
        """A `quiet` one leaves the telling to whoever raises the error in the end."""
        self._clock = clock
        self._quiet = quiet
        self._lock = threading.Lock()
        self._trouble: KioskError | None = None
        self._since_ns = 0

    def failed(self, error: KioskError) -> None:
        """An attempt failed."""
        with self._lock:
            known = self._trouble
            if known is None:
                self._since_ns = self._clock.monotonic_ns()
            self._trouble = error
        news = known is None or not _same_advice(known, error)
        level = logging.WARNING if news and not self._quiet else logging.DEBUG
        log.log(level, "uploads wait, recordings are kept: %s", error)

    def succeeded(self) -> None:
        """An attempt succeeded."""
        if self._trouble is None:
            return
        with self._lock:
            known, self._trouble = self._trouble, None
            seconds = (self._clock.monotonic_ns() - self._since_ns) / NS_PER_S
        if known is not None:
            log.info("uploads go on after %s", human_seconds(seconds))


def _same_advice(one: KioskError, other: KioskError) -> bool:
    """Causes carry request ids and places carry keys: kind and way out are what a person would tell apart."""
    return (type(one), one.hint) == (type(other), other.hint)
