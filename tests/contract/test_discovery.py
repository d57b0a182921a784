"""What Home Assistant is told, against the rules that it publishes.

The rules are Home Assistant's own, read off core 2025.4.4 and its documentation, and stated here as facts:

- components/mqtt/schemas.py, DEVICE_DISCOVERY_SCHEMA: `device` with at least one identifier, `origin` with a `name`,
  and `components`, each with its `platform`; of the options at the top, `state_topic` and `availability` are shared
  with all components that don't have their own.
- components/mqtt/discovery.py, TOPIC_MATCHER: letters, digits, `_` and `-` in the id of the topic.
- components/sensor/const.py, DEVICE_CLASS_UNITS, DEVICE_CLASS_STATE_CLASSES: which units and state classes fit a device
  class. components/mqtt/sensor.py: `options` are for `enum`, without unit and state class.
- components/binary_sensor/__init__.py, BinarySensorDeviceClass.
- components/mqtt/const.py, PAYLOAD_NONE: a template that makes "None" says "unknown".
- Since 2025.10 `default_entity_id` ("sensor.name") takes the place of `object_id`, which 2026.4 drops.

tests/courier/test_discovery.py asks Home Assistant itself, where there is one.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from agent.contract.alerts import NAMES
from agent.contract.discovery import UNITS, About, discovery, document, topic
from agent.contract.messages import Topics
from agent.contract.metrics import METRICS
from tests.witness import wrong_with_message

PI = About("north", "room-12", "0.1.0", "Raspberry Pi 4 Model B Rev 1.4", "10000000abcdef01")
OTHER = About("north", "room-12", "0.1.0", None, None)

_SECONDS = {"d", "h", "min", "s", "ms", "μs"}
CLASS_UNITS = {
    "duration": _SECONDS,
    "data_size": {"bit", "kbit", "Mbit", "Gbit", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"},
    "data_rate": {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B/s", "kB/s", "MB/s", "GB/s", "KiB/s", "MiB/s", "GiB/s"},
    "temperature": {"°C", "°F", "K"},
}
CLASS_STATES = {
    "duration": {"measurement", "total", "total_increasing"},
    "data_size": {"measurement", "total", "total_increasing"},
    "data_rate": {"measurement"},
    "temperature": {"measurement"},
}
BINARY_CLASSES = {"connectivity", "problem"}


def components(about: About = PI) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document(about)["components"]
    return found


def sensors() -> dict[str, dict[str, Any]]:
    return {name: each for name, each in components().items() if each["platform"] == "sensor"}


@pytest.mark.parametrize("about", [PI, OTHER])
def test_it_is_by_its_schema_and_kept_for_a_home_assistant_that_comes_later(about: About) -> None:
    message = discovery(about, "homeassistant")
    assert wrong_with_message(message) == []
    assert message.retain
    assert message.topic == topic("homeassistant", "room-12") == "homeassistant/device/room-12/config"
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", message.topic.split("/")[2])


def test_every_metric_and_every_alert_is_there_and_the_connection() -> None:
    names = {metric.name for metric in METRICS} | {f"alert_{name}" for name in NAMES} | {"connected"}
    assert components().keys() == names


def test_a_device_is_named_by_what_a_technician_knows_it_by() -> None:
    assert document(PI)["device"] == {
        "identifiers": ["kiosk_recorder_room-12"],
        "name": "north/room-12",
        "manufacturer": "Raspberry Pi",
        "model": "Raspberry Pi 4 Model B Rev 1.4",
        "serial_number": "10000000abcdef01",
        "sw_version": "0.1.0",
        "suggested_area": "north",
    }
    assert document(OTHER)["device"].keys() == {"identifiers", "name", "sw_version", "suggested_area"}


def test_names_for_programs_are_unique_and_stay_when_anything_else_changes() -> None:
    later = document(About("south", "room-12", "9.9.9", None, None))["components"]
    for key in ("unique_id", "default_entity_id"):
        told = [each[key] for each in components().values()]
        assert len(set(told)) == len(told)
        assert told == [each[key] for each in later.values()]
    assert components()["queue_length"]["unique_id"] == "kiosk_recorder_room-12_queue_length"
    assert components()["queue_length"]["default_entity_id"] == "sensor.room_12_queue_length"


def test_names_for_people_are_told_apart() -> None:
    for platform in ("sensor", "binary_sensor"):
        names = [each["name"] for each in components().values() if each["platform"] == platform]
        assert len(set(names)) == len(names)
        assert not [name for name in names if name.startswith("north")], (
            "Home Assistant puts the device's name before it"
        )


def test_every_unit_of_the_table_has_one_there() -> None:
    assert {metric.unit for metric in METRICS} <= UNITS.keys()


def test_units_and_state_classes_fit_their_device_classes() -> None:
    for name, each in sensors().items():
        device_class = each.get("device_class")
        if device_class in CLASS_UNITS:
            assert each["unit_of_measurement"] in CLASS_UNITS[device_class], name
            assert each["state_class"] in CLASS_STATES[device_class], name
        else:
            assert device_class in (None, "enum"), name
        if device_class == "enum" or "options" in each:
            assert each["options"], name
            assert device_class == "enum", name
            assert not {"unit_of_measurement", "state_class"} & each.keys(), name


def test_counters_are_what_only_increases_and_texts_have_no_statistics() -> None:
    for metric in METRICS:
        state_class = components()[metric.name].get("state_class")
        if metric.kind == "counter":
            assert state_class == "total_increasing"
        elif metric.kind == "text":
            assert state_class is None


def test_binary_sensors_are_of_classes_that_there_are() -> None:
    for name, each in components().items():
        if each["platform"] == "binary_sensor":
            assert each.get("device_class", "problem") in BINARY_CLASSES, name
            assert "state_class" not in each
            assert "unit_of_measurement" not in each


def test_a_kiosk_that_is_gone_is_unavailable_but_for_its_connection() -> None:
    topics = Topics("north", "room-12")
    told = document(PI)
    assert told["availability"] == [{"topic": topics.status}]
    assert [name for name, each in components().items() if "availability" in each] == ["connected"]
    assert components()["connected"]["availability"] == []
    assert components()["alert_direct_path"]["state_topic"] == topics.alert("direct_path")
    assert told["state_topic"] == topics.telemetry
