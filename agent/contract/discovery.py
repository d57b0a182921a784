"""What Home Assistant is told, so that it shows a kiosk with no configuration: sensors only (DESIGN §7).

Device-based MQTT discovery, as Home Assistant knows it since 2024.11: one message names the device and everything that
can be seen of it. Made from the tables of metrics and alerts.
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.contract.alerts import NAMES
from agent.contract.messages import OFFLINE, ONLINE, TELEMETRY_EXPIRES_S, Message, Topics
from agent.contract.metrics import METRICS, Metric

PREFIX: Final = "homeassistant"
"""Home Assistant's own default."""

SENSOR: Final = "sensor"
BINARY_SENSOR: Final = "binary_sensor"

UNITS: Final[Mapping[str, tuple[str | None, str | None]]] = {
    "": (None, None),
    "1": (None, None),
    "s": ("s", "duration"),
    "ms": ("ms", "duration"),
    "By": ("B", "data_size"),
    "By/s": ("B/s", "data_rate"),
    "Cel": ("°C", "temperature"),
    "%": ("%", None),
    # Of Home Assistant's classes only sound pressure is in dB, and full scale is no pressure.
    "dBFS": ("dBFS", None),
    "ppm": ("ppm", None),
}
"""By the table's unit: Home Assistant's, and the device class that it fits."""

_FIRST: Final = frozenset(
    {
        "captured_seconds_total",
        "error_rate_pct",
        "level_rms_dbfs",
        "queue_length",
        "recorder_state",
        "upload_success_rate_pct",
    }
)
"""What a person wants to see first; everything else is for diagnosis."""

_BITS: Final = frozenset({"throttled"})
"""Numbers of which no mean could be taken."""

_PROBLEMS: Final = frozenset({"undervoltage"})
"""Of what is 0 or 1: where 1 is bad."""

_QUIET: Final = frozenset({"custody_head", "throttled"})
"""There, but off until somebody wants them."""


@dataclass(frozen=True, slots=True)
class About:
    """Which device it is."""

    site: str
    device: str
    version: str
    model: str | None
    serial: str | None
    """Both None for what isn't a Raspberry Pi."""


def topic(prefix: str, device: str) -> str:
    """Where Home Assistant looks for it. The device id is unique in the fleet."""
    return f"{prefix}/device/{device}/config"


def birth_topic(prefix: str) -> str:
    """Where Home Assistant says `online` when it starts."""
    return f"{prefix}/status"


def discovery(about: About, prefix: str) -> Message:
    """One kiosk. Retained, so that Home Assistant knows also the kiosks that are off when it starts."""
    payload = json.dumps(document(about), separators=(",", ":"), ensure_ascii=False)
    return Message(topic(prefix, about.device), payload.encode(), qos=1, retain=True)


def document(about: About) -> dict[str, Any]:
    """The same before it becomes text."""
    topics = Topics(about.site, about.device)
    components = {metric.name: _of_metric(metric) for metric in METRICS}
    components |= {f"alert_{name}": _of_alert(topics, name) for name in NAMES}
    components["connected"] = _connection(topics)
    return {
        "device": _device(about),
        "origin": {"name": "kiosk-recorder", "sw_version": about.version},
        "state_topic": topics.telemetry,
        "availability": [{"topic": topics.status}],
        "qos": 1,
        "components": {
            name: {
                **component,
                "unique_id": f"kiosk_recorder_{about.device}_{name}",
                "default_entity_id": f"{component['platform']}.{about.device.replace('-', '_')}_{name}",
            }
            for name, component in components.items()
        },
    }


def _device(about: About) -> dict[str, Any]:
    told = {
        "identifiers": [f"kiosk_recorder_{about.device}"],
        "name": f"{about.site}/{about.device}",
        "manufacturer": "Raspberry Pi" if about.model else None,
        "model": about.model,
        "serial_number": about.serial,
        "sw_version": about.version,
        "suggested_area": about.site,
    }
    return {name: value for name, value in told.items() if value is not None}


def _of_metric(metric: Metric) -> dict[str, Any]:
    component: dict[str, Any] = {"platform": SENSOR, "name": metric.label, **_judged(metric)}
    # What is null becomes the text "None", which Home Assistant takes for "unknown".
    component["value_template"] = f"{{{{ value_json.{metric.name} }}}}"
    if metric.name not in _FIRST:
        component["entity_category"] = "diagnostic"
    if metric.name in _QUIET:
        component["enabled_by_default"] = False
    # A picture that isn't renewed doesn't pass for the present one, whatever `status` says.
    component["expire_after"] = TELEMETRY_EXPIRES_S
    if metric.whole and metric.most == 1:
        component |= {"platform": BINARY_SENSOR, "payload_on": "1", "payload_off": "0"}
        component.pop("state_class")
        if metric.name in _PROBLEMS:
            component["device_class"] = "problem"
    return component


def _judged(metric: Metric) -> dict[str, Any]:
    """What kind of value it is, in Home Assistant's words."""
    if metric.kind == "text":
        return {"device_class": "enum", "options": list(metric.choices)} if metric.choices else {}
    unit, device_class = UNITS[metric.unit]
    told = {"unit_of_measurement": unit, "device_class": device_class}
    if metric.name not in _BITS:
        told["state_class"] = "total_increasing" if metric.kind == "counter" else "measurement"
    return {name: value for name, value in told.items() if value is not None}


def _of_alert(topics: Topics, name: str) -> dict[str, Any]:
    """On while something is said there. Home Assistant drops what a template makes nothing of, not an empty payload."""
    return {
        "platform": BINARY_SENSOR,
        "name": f"{name.replace('_', ' ').capitalize()} alert",
        "device_class": "problem",
        "state_topic": topics.alert(name),
        "value_template": "{{ 'ON' if value else 'OFF' }}",
    }


def _connection(topics: Topics) -> dict[str, Any]:
    return {
        "platform": BINARY_SENSOR,
        "name": "Connected",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": topics.status,
        "payload_on": ONLINE.decode(),
        "payload_off": OFFLINE.decode(),
        # It is there to be seen while the kiosk isn't.
        "availability": [],
    }
