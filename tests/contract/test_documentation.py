from __future__ import annotations

import re
from pathlib import Path

from agent.contract.messages import TELEMETRY_EXPIRES_S, Topics
from agent.contract.metrics import METRICS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "MQTT.md").read_text()


def test_the_metrics_are_documented_as_the_table_has_them() -> None:
    documented = re.findall(r"^\| `(\w+)` \| (\S*) \| (counter|gauge|text) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert documented == [(metric.name, metric.unit, metric.kind, metric.description) for metric in METRICS]


def test_the_topics_are_documented() -> None:
    topics = Topics("north", "room-1")
    assert topics.base == "kiosk/v1/north/room-1"
    for topic in (topics.status, topics.birth, topics.telemetry):
        assert f"| `{topic.removeprefix(topics.base + '/')}` |" in DOCUMENT
    assert f"expires after {TELEMETRY_EXPIRES_S} s" in DOCUMENT
