"""What is wrong with this kiosk, judged by the alert table and its limits.

`next_course` is pure: how an alert stands is a value, and so is how it stands after the next look. `Alarms` keeps these
values and tells what changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.contract.alerts import ALERTS, Alert, Raised, amount
from agent.contract.keys import timestamp
from agent.contract.messages import Severity
from agent.courier.signs import Sign
from agent.courier.trigger import Limit, Trigger, next_trigger
from agent.errors import with_hint, without_hint
from agent.limits import Alerts, Limits
from agent.units import NS_PER_S, plain_number
from hw.clock import Clock

Rule = Mapping[Severity, Limit]
"""Without a severity that is off. The worst comes first."""


@dataclass(frozen=True, slots=True)
class Course:
    """How one alert stands."""

    triggers: Mapping[Severity, Trigger]
    raised: Raised | None = None


def rule_of(row: Alert, limits: Limits) -> Rule:
    """The limits of one alert, as they are configured."""
    thresholds: tuple[tuple[Severity, float | None], ...] = (("critical", limits.critical), ("warning", limits.warning))
    return {
        severity: Limit(
            row.direction, threshold, float(limits.hysteresis), float(limits.raise_after), float(limits.clear_after)
        )
        for severity, threshold in thresholds
        if threshold is not None
    }


def resumed_course(rule: Rule, raised: Raised | None) -> Course:
    """The course of an alert that an earlier courier raised. What has been turned off since then isn't resumed."""
    worst = next((severity for severity in rule if raised and severity == raised.severity), None)
    on = set(rule) if worst == "critical" else {"warning"} if worst else set()
    return Course({severity: Trigger(on=severity in on) for severity in rule}, raised if worst else None)


def next_course(row: Alert, rule: Rule, course: Course, sign: Sign, *, now_ns: int, wall_ns: int) -> Course:
    """The course after a look at both clocks' times."""
    triggers = {
        severity: next_trigger(limit, course.triggers[severity], sign.value, now_ns) for severity, limit in rule.items()
    }
    severity = next((each for each in rule if triggers[each].on), None)
    raised = course.raised
    if severity is None or sign.value is None:
        return Course(triggers, None if severity is None else raised)
    if raised is not None and raised.severity == severity:
        return Course(triggers, raised)
    threshold = rule[severity].threshold
    if raised is None:
        began_ns = course.triggers[severity].turning_ns
        turned_ns = now_ns if began_ns is None else began_ns
        age_ns = round(sign.value * NS_PER_S) if row.unit == "s" else now_ns - turned_ns
        raised = Raised(severity, wall_ns - age_ns, "")
    text = _text(row, sign, sign.value, threshold)
    return Course(
        triggers,
        replace(
            raised, severity=severity, text=text, value=plain_number(sign.value), threshold=plain_number(threshold)
        ),
    )


class Alarms:
    """Belongs to one thread."""

    def __init__(self, limits: Alerts, clock: Clock, earlier: Mapping[str, Raised]) -> None:
        """`earlier` is what an earlier courier had raised when it ended: if it still is so, that is no news."""
        self._clock = clock
        self._rules = {row.name: rule_of(row, limits.limits(row.name)) for row in ALERTS}
        self._courses = {name: resumed_course(rule, earlier.get(name)) for name, rule in self._rules.items()}
        self.note: Callable[[str, Mapping[str, Any]], None] = lambda _name, _facts: None
        """Called with each change, as an event."""

    @property
    def raised(self) -> Mapping[str, Raised]:
        """What is wrong now."""
        return {name: course.raised for name, course in self._courses.items() if course.raised is not None}

    def look(self, signs: Mapping[str, Sign]) -> Mapping[str, Raised]:
        """What is wrong now."""
        now_ns, wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        for row in ALERTS:
            before, sign = self._courses[row.name], signs[row.name]
            after = next_course(row, self._rules[row.name], before, sign, now_ns=now_ns, wall_ns=wall_ns)
            self._courses[row.name] = after
            if after.raised != before.raised:
                self._tell(row.name, before.raised, after.raised, sign)
        return self.raised

    def _tell(self, name: str, before: Raised | None, after: Raised | None, sign: Sign) -> None:
        told = after or before
        if told is None:
            return
        self.note(
            "alert",
            {
                "alert": name,
                "change": _change(before, after),
                "severity": told.severity,
                "since": timestamp(told.since_ns),
                "value": after.value if after else sign.value,
                "threshold": told.threshold,
            },
        )


def _change(before: Raised | None, after: Raised | None) -> str:
    if after is None:
        return "cleared"
    if before is None:
        return "raised"
    return "escalated" if after.severity == "critical" else "eased"


def _text(row: Alert, sign: Sign, value: float, threshold: float) -> str:
    """What is wrong and what to do."""
    if sign.detail:
        what, hint = without_hint(sign.detail)
        return with_hint(what, hint or row.advice)
    side = "more" if row.direction == "above" else "less"
    return with_hint(f"{row.description}: {amount(row, value)}, {side} than {amount(row, threshold)}", row.advice)
