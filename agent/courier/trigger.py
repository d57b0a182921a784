"""When a number is beyond a limit for good: hysteresis and minimum durations, so that what flaps isn't news.

Pure: a trigger is a value, and so is what becomes of it at each look. Between going on and going off again at least
`raise_after_s` + `clear_after_s` pass, and the number crosses the whole width of `hysteresis`.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.contract.alerts import Direction
from agent.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class Limit:
    """What makes a number bad, and good again."""

    direction: Direction
    threshold: float
    hysteresis: float = 0.0
    """It is good again when it is so far on the good side of the threshold."""
    raise_after_s: float = 0.0
    clear_after_s: float = 0.0

    def passed_by(self, value: float, *, before: bool) -> bool:
        """Whether `value` is bad, if it was bad or good `before`."""
        sign = 1 if self.direction == "above" else -1
        return sign * value > sign * self.threshold - (self.hysteresis if before else 0)


@dataclass(frozen=True, slots=True)
class Trigger:
    """Whether a limit is passed for good."""

    on: bool = False
    turning_ns: int | None = None
    """Monotonic time since when every number told the opposite; None while none does."""


def next_trigger(limit: Limit, trigger: Trigger, value: float | None, now_ns: int) -> Trigger:
    """The trigger after a look at `now_ns`, never earlier than the last one.

    None, when nobody can tell the number, leaves it as it is, and whoever was about to turn begins anew: what isn't
    known for a minute wasn't so for a minute.
    """
    if value is None:
        return Trigger(trigger.on)
    if limit.passed_by(value, before=trigger.on) == trigger.on:
        return Trigger(trigger.on)
    turning_ns = now_ns if trigger.turning_ns is None else trigger.turning_ns
    needed_s = limit.clear_after_s if trigger.on else limit.raise_after_s
    if now_ns - turning_ns < round(needed_s * NS_PER_S):
        return Trigger(trigger.on, turning_ns)
    return Trigger(not trigger.on)
