"""JSON Schemas (draft 2020-12) of everything that is said over MQTT, made from the tables in the code.

`docs/schemas/` holds them as files (agent.contract.documentation); the running processes don't load this module.
What the contract closes is closed here: a name that isn't known is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

from agent.contract import messages
from agent.contract.discovery import BINARY_SENSOR, PREFIX, SENSOR
from agent.contract.events import EVENTS, Event, Fact, Kind
from agent.contract.keys import TIMESTAMP_PATTERN
from agent.contract.messages import OFFLINE, ONLINE, Severity
from agent.contract.metrics import METRICS, Metric
from agent.contract.names import NAME
from agent.contract.signed import KEY_PATTERN

Schema = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_NAME: Final[Schema] = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_TIME: Final[Schema] = {
    "type": "string",
    "pattern": TIMESTAMP_PATTERN,
    "description": "wall time of the kiosk, ISO 8601, UTC",
}
_BOOT: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "id of this boot of the machine"}
_COMMAND_ID: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{16,64}$"}
_TEXT: Final[Schema] = {"type": "string", "minLength": 1}
_EVENT_ID: Final[Schema] = {
    "type": "string",
    "pattern": "^[0-9a-f]{12,32}(-[0-9]+){0,2}$",
    "description": "the same however often it is said",
}
_KINDS: Final[Mapping[Kind, Schema]] = {
    "text": _TEXT,
    "word": {"type": "string", "pattern": "^[a-z][a-z0-9_-]*$"},
    "hex": {"type": "string", "pattern": "^[0-9a-f]{12,64}$"},
    "time": _TIME,
    "integer": {"type": "integer", "minimum": 0},
    "number": {"type": "number"},
    "value": {"type": ["number", "string", "null"]},
    "args": {"type": "object"},
    "variants": {"type": "object", "additionalProperties": {"type": "string"}},
    "metrics": {
        "type": "object",
        "propertyNames": {"enum": [metric.name for metric in METRICS if metric.kind != "text"]},
        "additionalProperties": {"type": "number"},
    },
}
_KEY: Final[Schema] = {"type": "string", "pattern": KEY_PATTERN}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"], "minLength": 1}


def status() -> Schema:
    """The only payload that isn't JSON: the schema is of its text."""
    return {"type": "string", "enum": [ONLINE.decode(), OFFLINE.decode()], "description": "the payload, as text"}


def birth() -> Schema:
    """Who the kiosk is."""
    capture = _closed(
        format={"const": "flac"},
        rate={"type": "integer", "minimum": 8000, "description": "frames per second"},
        channels={"type": "integer", "minimum": 1},
        mode={"enum": ["continuous", "scheduled", "voice"]},
        segment_seconds={"type": "integer", "minimum": 1, "description": "length of one file, s"},
    )
    programs = ("kiosk-recorder", "python", "kernel")
    return _closed(
        ts=_TIME,
        boot=_BOOT,
        session={"type": "string", "pattern": "^[0-9a-f]{12}$", "description": "id of this life of the courier"},
        groups={"type": "array", "items": _NAME, "description": "roll-out groups it belongs to"},
        model=_TEXT_OR_NULL | {"description": "which Raspberry Pi; null for another machine"},
        serial=_TEXT_OR_NULL | {"description": "burned into the Pi; null for another machine"},
        versions=_closed(**dict.fromkeys(programs, _TEXT)),
        capture=capture,
        upload_hours=_closed(
            hours={
                "type": "array",
                "items": _TEXT,
                "description": "daily, in the kiosk's zone; none of them is always",
            },
            **{"from": {"enum": ["file", "command"]}},
        ),
        signing_key={
            "type": ["string", "null"],
            "pattern": KEY_PATTERN,
            "description": "what this kiosk signs custody with; null without a key. To be believed from an enrolment "
            "file alone",
        },
        flags_by_environment={
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "flags that the kiosk's own environment chooses, and their variants",
        },
        configuration={
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
            "description": "SHA-256 over all settings: alike only where two kiosks are configured alike",
        },
    )


def telemetry() -> Schema:
    """One picture of the kiosk."""
    seq = {"type": "integer", "minimum": 0, "description": "counts messages since the courier started"}
    return _closed(ts=_TIME, seq=seq, **{metric.name: _of(metric) for metric in METRICS})


def alert() -> Schema:
    """Something is wrong. An empty payload takes it back."""
    return _closed(
        severity={"enum": list(get_args(Severity))},
        since=_TIME,
        value={"type": ["number", "string", "null"], "description": "what it looks at, in its metric's unit"},
        threshold={"type": ["number", "null"], "description": "the limit that was passed, in the same unit"},
        text=_TEXT | {"description": "for a person: what is wrong, and the way out"},
    )


def event() -> Schema:
    """Something happened: exactly the facts of one of the events of the table."""
    name = {"enum": [row.name for row in EVENTS]}
    return _object({"event": name}) | {"allOf": [_happened(row) for row in EVENTS]}


def _happened(row: Event) -> Schema:
    named = {"const": row.name}
    facts = {fact.name: _told(fact) for fact in row.facts}
    # Not one of many: so whoever breaks it hears what is wrong with the event that it means.
    return {
        "if": {"properties": {"event": named}},
        "then": _closed(id=_EVENT_ID, ts=_TIME, event=named, **facts) | {"description": row.definition},
    }


def _told(fact: Fact) -> Schema:
    unit = f", {fact.unit}" if fact.unit not in ("", "1") else ""
    described: Schema = {"description": f"{fact.definition}{unit}"}
    if fact.choices:
        return described | {"enum": list(fact.choices) + ([None] if fact.null else [])}
    found = _KINDS[fact.kind]
    return described | (found | {"type": [found["type"], "null"]} if fact.null else found)


def result() -> Schema:
    """What became of a command."""
    told = {
        "id": _COMMAND_ID | {"description": "that of the command"},
        "ts": _TIME,
        "verb": {"type": ["string", "null"]},
        "ok": {"type": "boolean"},
        "error": {"type": ["string", "null"], "description": "one word for programs; null if ok"},
        "text": {"type": "string", "description": "for a person"},
        "output": {"type": ["object", "null"], "description": "what the command was to tell"},
    }
    return _object(told, required=("id", "ok")) | {"additionalProperties": False}


def envelope() -> Schema:
    """A document with an admin's signature: a command, flags, a roll-out."""
    return _closed(
        signed={"type": "string", "contentMediaType": "application/json", "description": "the document, byte for byte"},
        key=_KEY | {"description": "the public key that signed it"},
        signature={"type": "string", "pattern": "^[A-Za-z0-9+/]{86}==$", "description": "Ed25519, base64"},
    )


def command() -> Schema:
    """What an admin signs to have a kiosk do something."""
    return _closed(
        id=_COMMAND_ID,
        issued=_TIME,
        expires=_TIME,
        target={"type": "string", "pattern": f"^{NAME.pattern}/{NAME.pattern}$", "description": "site/device"},
        verb={"type": "string", "pattern": "^[a-z][a-z-]*$"},
        args={"type": "object"},
    )


def flags() -> Schema:
    """The fleet's flag document. What may stand in a rule is checked by code (docs/FLAGS.md), not here."""
    flag = _object(
        {
            "state": {"enum": ["ENABLED", "DISABLED"]},
            "variants": {"type": "object", "minProperties": 1},
            "defaultVariant": {"type": ["string", "null"]},
            "targeting": {"type": ["object", "null"]},
        },
        required=("state", "variants"),
    )
    version: Schema = {"type": "integer", "minimum": 1}
    change = _closed(version=version, issued=_TIME, by=_KEY, what=_TEXT)
    history = {"type": "array", "items": change, "description": "the last changes, oldest first; kiosks ignore them"}
    metadata: dict[str, Schema] = {"version": version, "issued": {"type": "string"}, "history": history}
    return _object(
        {
            "metadata": _object(metadata, required=("version",)),
            "flags": {"type": "object", "additionalProperties": flag},
        }
    )


def rollout() -> Schema:
    """Where a roll-out stands: made from the model that judges it on reading."""
    from agent.contract.rollout import Rollout

    made = Rollout.model_json_schema()
    return {key: made[key] for key in made if key != "title"}


def discovery() -> Schema:
    """What Home Assistant is told of one kiosk; `components` are the sensors."""
    topic = {"type": "string", "pattern": f"^{messages.ROOT}/.+/(status|telemetry|alert/[a-z_]+)$"}
    shared: dict[str, Schema] = {
        "unique_id": _TEXT,
        "default_entity_id": {"type": "string", "pattern": "^(binary_)?sensor\\.[a-z0-9_]+$"},
        "name": _TEXT,
        "state_topic": topic,
        "entity_category": {"const": "diagnostic"},
        "enabled_by_default": {"type": "boolean"},
        "value_template": _TEXT,
        "expire_after": {"type": "integer", "minimum": 1, "description": "s"},
    }
    sensor = {
        "device_class": {"type": "string"},
        "unit_of_measurement": _TEXT,
        "state_class": {"enum": ["measurement", "total_increasing"]},
        "options": {"type": "array", "items": _TEXT, "minItems": 1},
    }
    binary = {"device_class": {"type": "string"}, "payload_on": _TEXT, "payload_off": _TEXT}
    named = ("platform", "unique_id", "default_entity_id", "name")
    availability = _closed(topic=topic)
    return _closed(
        device=_object(
            {
                "identifiers": {"type": "array", "items": _TEXT, "minItems": 1},
                "name": _TEXT,
                "manufacturer": _TEXT,
                "model": _TEXT,
                "serial_number": _TEXT,
                "sw_version": _TEXT,
                "suggested_area": _NAME,
            },
            required=("identifiers", "name", "sw_version", "suggested_area"),
        )
        | {"additionalProperties": False},
        origin=_closed(name=_TEXT, sw_version=_TEXT),
        state_topic=topic,
        availability={"type": "array", "items": availability, "minItems": 1},
        qos={"enum": [0, 1]},
        components={
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9_]+$"},
            "additionalProperties": {
                "oneOf": [
                    _object({"platform": {"const": SENSOR}, **shared, **sensor}, required=named)
                    | {"additionalProperties": False},
                    _object(
                        {
                            "platform": {"const": BINARY_SENSOR},
                            **shared,
                            **binary,
                            "availability": {"type": "array", "items": availability, "maxItems": 0},
                        },
                        required=named,
                    )
                    | {"additionalProperties": False},
                ]
            },
        },
    )


_BELOW: Final = f"{messages.ROOT}/{{site}}/{{device}}"

SCHEMAS: Final[Mapping[str, tuple[str, Callable[[], Schema]]]] = {
    "status": (f"{_BELOW}/status", status),
    "birth": (f"{_BELOW}/birth", birth),
    "telemetry": (f"{_BELOW}/telemetry", telemetry),
    "alert": (f"{_BELOW}/alert/{{name}}, while it is raised", alert),
    "event": (f"{_BELOW}/event", event),
    "result": (f"{_BELOW}/cmd/result", result),
    "envelope": (f"{_BELOW}/cmd, {messages.FLAGS}, {messages.ROLLOUT}", envelope),
    "command": ("the document in the envelope of a command", command),
    "flags": (f"the document in the envelope on {messages.FLAGS}", flags),
    "rollout": (f"the document in the envelope on {messages.ROLLOUT}", rollout),
    "discovery": (f"{PREFIX}/device/{{device}}/config", discovery),
}
"""By name: what it is of, and what makes it."""


def schema(name: str) -> Schema:
    """One of `SCHEMAS`, complete."""
    place, make = SCHEMAS[name]
    return {"$schema": _DIALECT, "title": f"kiosk-recorder: {place}", "$comment": "made from the code", **make()}


def _of(metric: Metric) -> Schema:
    unit = f", {metric.unit}" if metric.unit not in ("", "1") else ""
    described: Schema = {"description": f"{metric.description}{unit}"}
    kind = "string" if metric.kind == "text" else "integer" if metric.whole else "number"
    if metric.choices:
        return described | {"enum": list(metric.choices) + ([None] if metric.null else [])}
    described["type"] = [kind, "null"] if metric.null else kind
    if kind == "string":
        return described | {"minLength": 1}
    if metric.unit not in ("dBFS", "ppm", "Cel"):
        described["minimum"] = 0
    if metric.most is not None:
        described["maximum"] = metric.most
    return described


def _closed(**properties: Schema) -> Schema:
    """Exactly these."""
    return _object(properties) | {"additionalProperties": False}


def _object(properties: Mapping[str, Schema], required: tuple[str, ...] | None = None) -> Schema:
    names = properties if required is None else required
    return {"type": "object", "properties": dict(properties), "required": list(names)}
