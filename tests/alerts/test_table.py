from __future__ import annotations

import re
from pathlib import Path

from agent.contract.alerts import ALERTS, NAMES
from agent.contract.metrics import METRICS
from agent.limits import Alerts


def test_every_alert_is_provoked_by_its_cause_in_a_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    provoked = [name for name in NAMES if re.search(rf"def test_{name}(_\w+)?\(", tests)]
    assert provoked == list(NAMES)


def test_every_alert_can_be_configured_and_no_other() -> None:
    assert tuple(Alerts.__slots__) == NAMES


def test_an_alert_that_watches_a_metric_has_its_unit() -> None:
    units = {metric.name: metric.unit for metric in METRICS}
    assert {row.metric: row.unit for row in ALERTS if row.metric} == {
        row.metric: units[row.metric] for row in ALERTS if row.metric
    }
