from __future__ import annotations

import json

import pytest

from agent.contract import messages
from agent.contract.messages import Topics, Value
from agent.contract.metrics import LEDGER_COUNTERS, METRICS, NAMES

TOPICS = Topics("north", "room-12")


def test_a_kiosk_speaks_below_its_own_topic() -> None:
    assert TOPICS.status == "kiosk/v1/north/room-12/status"
    assert TOPICS.telemetry == "kiosk/v1/north/room-12/telemetry"
    assert TOPICS.birth == "kiosk/v1/north/room-12/birth"


def test_telemetry_has_exactly_the_names_of_the_table() -> None:
    message = messages.telemetry(TOPICS, dict.fromkeys(NAMES, 1), wall_ns=0, seq=4)
    content = json.loads(message.payload)
    assert list(content) == ["ts", "seq", *NAMES]
    assert content["ts"] == "1970-01-01T00:00:00.000Z"
    assert (message.qos, message.retain) == (0, True)
    assert message.expires_s is not None
    assert message.expires_s > messages.TELEMETRY_EVERY_S


@pytest.mark.parametrize("change", [{"cpu_temp_f": 122.0}, {"uptime_s": ...}])
def test_telemetry_with_a_name_too_many_or_too_few_is_refused(change: dict[str, object]) -> None:
    values: dict[str, Value] = dict.fromkeys(NAMES, 1)
    for name, value in change.items():
        if value is ...:
            del values[name]
        else:
            values[name] = 1
    with pytest.raises(ValueError, match=next(iter(change))):
        messages.telemetry(TOPICS, values, wall_ns=0, seq=0)


def test_a_number_that_json_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        messages.telemetry(TOPICS, dict.fromkeys(NAMES, float("nan")), wall_ns=0, seq=0)


def test_metric_names_are_unique_and_counters_say_that_they_are() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert {metric.name for metric in METRICS if metric.name.endswith("_total")} <= {
        metric.name for metric in METRICS if metric.kind == "counter"
    }
    assert "gap_count" in LEDGER_COUNTERS
