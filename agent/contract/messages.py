"""What kiosks and fleet say over MQTT, and where (DESIGN §7).

All topics of one kiosk lie below `kiosk/v1/{site}/{device}/`; all payloads but `status` are JSON objects. What is said
to all kiosks lies below `kiosk/v1/_fleet/`, which no site can be called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from agent.contract.keys import timestamp
from agent.contract.metrics import NAMES

ROOT: Final = "kiosk/v1"

FLAGS: Final = f"{ROOT}/_fleet/flags"
"""The flag document, signed and retained."""
ROLLOUT: Final = f"{ROOT}/_fleet/rollout"
"""Where a roll-out stands, signed and retained."""

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"

TELEMETRY_EVERY_S: Final = 30.0
TELEMETRY_EXPIRES_S: Final = 150
"""A retained picture of a kiosk that is gone must not pass for the present one."""

Value = float | int | str | None

Severity = Literal["warning", "critical"]


@dataclass(frozen=True, slots=True)
class Message:
    """One publication."""

    topic: str
    payload: bytes
    qos: Literal[0, 1]
    retain: bool
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """One message, as it came."""

    topic: str
    payload: bytes
    retained: bool
    """The broker had it before we subscribed."""


class Topics:
    """The topics of one kiosk."""

    def __init__(self, site: str, device: str) -> None:
        self.base = f"{ROOT}/{site}/{device}"
        self.status = f"{self.base}/status"
        self.birth = f"{self.base}/birth"
        self.telemetry = f"{self.base}/telemetry"
        self.event = f"{self.base}/event"
        self.command = f"{self.base}/cmd"
        self.result = f"{self.base}/cmd/result"

    def alert(self, name: str) -> str:
        """Where one alert is said while it is raised."""
        return f"{self.base}/alert/{name}"


def status(topics: Topics, *, online: bool) -> Message:
    """Whether the kiosk is there; `offline` is also its last will."""
    return Message(topics.status, ONLINE if online else OFFLINE, qos=1, retain=True)


def birth(topics: Topics, facts: Mapping[str, Any]) -> Message:
    """Who the kiosk is, said at every connection."""
    return Message(topics.birth, _encoded(facts), qos=1, retain=True)


def telemetry(topics: Topics, values: Mapping[str, Value], *, wall_ns: int, seq: int) -> Message:
    """One flat picture of the kiosk, with exactly the names of the metrics table.

    `seq` counts from 0 since the courier started. Raises ValueError when a name is missing or unknown.
    """
    if values.keys() != set(NAMES):
        raise ValueError(f"not the metrics of the table: {sorted(values.keys() ^ set(NAMES))}")
    picture = {"ts": timestamp(wall_ns), "seq": seq, **{name: values[name] for name in NAMES}}
    return Message(topics.telemetry, _encoded(picture), qos=0, retain=True, expires_s=TELEMETRY_EXPIRES_S)


def alert(
    topics: Topics,
    name: str,
    *,
    severity: Severity,
    since_ns: int,
    text: str,
    value: Value = None,
    threshold: float | None = None,
) -> Message:
    """Something is wrong, since a wall time; retained until it's `cleared`.

    `value` is what the alert looks at and `threshold` the limit it passed, where there is one.
    """
    content = {
        "severity": severity,
        "since": timestamp(since_ns),
        "value": value,
        "threshold": threshold,
        "text": text,
    }
    return Message(topics.alert(name), _encoded(content), qos=1, retain=True)


def cleared(topics: Topics, name: str) -> Message:
    """The alert is over: nothing is retained any more."""
    return Message(topics.alert(name), b"", qos=1, retain=True)


def event(topics: Topics, name: str, *, key: str, wall_ns: int, facts: Mapping[str, Any]) -> Message:
    """Something happened at a wall time. `key` (in the message: `id`) is the same however often it is said."""
    content = {"id": key, "ts": timestamp(wall_ns), "event": name, **facts}
    return Message(topics.event, _encoded(content), qos=1, retain=False)


def command(topics: Topics, payload: bytes, *, expires_s: int) -> Message:
    """A signed command on its way to one kiosk: never retained, and dropped by the broker when its time is over."""
    return Message(topics.command, payload, qos=1, retain=False, expires_s=expires_s)


def result(topics: Topics, content: Mapping[str, Any]) -> Message:
    """What became of a command."""
    return Message(topics.result, _encoded(content), qos=1, retain=False)


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
