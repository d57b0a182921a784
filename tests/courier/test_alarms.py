"""What is raised, and what is told of it, as the numbers change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from agent.contract.alerts import ALERTS, BY_NAME, NAMES, Raised
from agent.contract.keys import timestamp
from agent.courier.alarms import Alarms
from agent.courier.signs import Sign
from agent.limits import Alerts
from agent.units import NS_PER_S, Duration
from tests.clocks import FakeClock


class Panel:
    """Alarms whose numbers the test sets."""

    def __init__(self, clock: FakeClock, limits: Alerts | None = None, earlier: Mapping[str, Raised] = {}) -> None:
        self.clock = clock
        self.told: list[Mapping[str, Any]] = []
        self._alarms = Alarms(limits or Alerts(), clock, earlier)
        self._alarms.note = lambda name, facts: self.told.append({"event": name, **facts})

    def see(self, seconds: float = 0, **numbers: float | Sign | None) -> Mapping[str, Raised]:
        """Look every 5 s for so long at numbers that stay as they are; those not named are unknown."""
        signs = {name: value if isinstance(value, Sign) else Sign(value) for name, value in numbers.items()}
        signs = {name: signs.get(name, Sign(None)) for name in NAMES}
        for _ in range(round(seconds / 5)):
            self._alarms.look(signs)
            self.clock.advance(5)
        return self._alarms.look(signs)

    @property
    def changes(self) -> list[str]:
        return [told["change"] for told in self.told]


@pytest.fixture
def panel(clock: FakeClock) -> Panel:
    return Panel(clock)


def test_a_warning_becomes_critical_eases_and_is_over_and_each_is_told_once(panel: Panel, clock: FakeClock) -> None:
    began_ns = clock.wall_ns()
    assert panel.see(295, queue_length=11) == {}
    warning = panel.see(5, queue_length=12)["queue_length"]
    assert (warning.severity, warning.value, warning.threshold, warning.since_ns) == ("warning", 12, 10, began_ns)
    assert panel.see(100, queue_length=15)["queue_length"] is warning, "not each value is news"
    critical = panel.see(300, queue_length=21)["queue_length"]
    assert (critical.severity, critical.value, critical.threshold, critical.since_ns) == ("critical", 21, 20, began_ns)
    assert panel.see(60, queue_length=15)["queue_length"].severity == "warning"
    assert panel.see(60, queue_length=8) == {}
    assert panel.changes == ["raised", "escalated", "eased", "cleared"]
    assert panel.told[1] == {
        "event": "alert",
        "alert": "queue_length",
        "change": "escalated",
        "severity": "critical",
        "since": timestamp(began_ns),
        "value": 21,
        "threshold": 20,
    }
    assert (panel.told[-1]["severity"], panel.told[-1]["value"]) == ("warning", 8)


def test_what_is_critical_at_once_is_told_as_critical(panel: Panel) -> None:
    assert panel.see(300, queue_length=50)["queue_length"].severity == "critical"
    assert panel.changes == ["raised"]


def test_seconds_count_since_it_began_not_since_it_was_noticed(panel: Panel, clock: FakeClock) -> None:
    raised = panel.see(microphone_missing=Sign(12.5, "it is gone\n  → plug it in"))["microphone_missing"]
    assert raised.since_ns == clock.wall_ns() - round(12.5 * NS_PER_S)
    assert raised.text == "it is gone\n  → plug it in"


def test_unknown_numbers_leave_everything_as_it_is(panel: Panel) -> None:
    panel.see(300, temperature=90)
    assert panel.see(100000)["temperature"].severity == "critical"
    assert panel.see(60, temperature=60) == {}


@pytest.mark.parametrize("row", ALERTS, ids=NAMES)
def test_every_alert_is_raised_beyond_its_default_and_says_what_to_do(panel: Panel, row: Any) -> None:  # noqa: ANN401
    for severity, threshold in (("warning", row.warning), ("critical", row.critical)):
        if threshold is not None:
            sign = 1 if row.direction == "above" else -1
            bad = threshold + sign * max(0.01, abs(threshold) / 1000)
            raised = panel.see(row.raise_after_s, **{row.name: bad})[row.name]
            assert raised.severity == severity
            what, _, hint = raised.text.partition("\n  → ")
            assert what.startswith(row.description)
            assert hint == row.advice
    good = row.warning if row.critical is None else row.critical
    good = (row.warning if row.warning is not None else good) - sign * row.hysteresis
    assert panel.see(row.clear_after_s, **{row.name: good}) == {}


def limits(**changed: object) -> Alerts:
    found = Alerts()
    return replace(found, queue_length=replace(found.queue_length, **changed))  # type: ignore[arg-type]


def test_limits_are_those_of_the_configuration(clock: FakeClock) -> None:
    panel = Panel(clock, limits(warning=2.0, critical=None, raise_after=Duration(10)))
    assert panel.see(5, queue_length=3) == {}
    assert panel.see(5, queue_length=1000)["queue_length"].severity == "warning"


def test_an_alert_that_is_off_is_never_raised(clock: FakeClock) -> None:
    panel = Panel(clock, limits(warning=None, critical=None))
    assert panel.see(100000, queue_length=1000) == {}


class TestAfterARestart:
    earlier = Raised("critical", 17 * NS_PER_S, "many wait\n  → look", 25, 20)

    def test_what_is_still_so_is_raised_since_then_and_no_news(self, clock: FakeClock) -> None:
        panel = Panel(clock, earlier={"queue_length": self.earlier})
        for numbers in ({}, {"queue_length": 25}, {"queue_length": 19}):
            assert panel.see(600, **numbers) == {"queue_length": self.earlier}
        assert panel.told == []

    def test_what_is_over_is_told(self, clock: FakeClock) -> None:
        panel = Panel(clock, earlier={"queue_length": self.earlier})
        assert panel.see(60, queue_length=0) == {}
        assert panel.changes == ["cleared"]

    def test_a_warning_that_has_become_worse_is_told(self, clock: FakeClock) -> None:
        panel = Panel(clock, earlier={"queue_length": replace(self.earlier, severity="warning")})
        assert panel.see(300, queue_length=25)["queue_length"].severity == "critical"
        assert panel.changes == ["escalated"]

    def test_what_was_turned_off_meanwhile_is_not_raised(self, clock: FakeClock) -> None:
        panel = Panel(clock, limits(warning=None, critical=None), {"queue_length": self.earlier})
        assert panel.see(0, queue_length=25) == {}
        panel = Panel(clock, limits(critical=None), {"queue_length": self.earlier})
        assert panel.see(300, queue_length=25)["queue_length"].severity == "warning"

    def test_what_the_table_does_not_know_is_forgotten(self, clock: FakeClock) -> None:
        assert Panel(clock, earlier={"of_a_newer_release": self.earlier}).see() == {}


def test_the_table_is_in_order() -> None:
    for row in BY_NAME.values():
        if row.warning is not None and row.critical is not None:
            assert (row.critical > row.warning) == (row.direction == "above")
        assert (row.warning, row.critical) != (None, None)
