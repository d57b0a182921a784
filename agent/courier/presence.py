"""Tells the fleet that this kiosk is there and who it is, at every connection."""

from __future__ import annotations

import hashlib
import json
import platform
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict

import agent
from agent.contract import messages
from agent.contract.keys import timestamp
from agent.courier.broker import Heard
from agent.courier.conversation import IDLE_S, Line
from agent.settings import Settings
from hw.clock import Clock


class Presence:
    """The subjects `status` and `birth`."""

    listens_to: Mapping[str, Callable[[Heard], None]] = {}

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._topics = messages.Topics(settings.device.site, settings.device.id)
        self._session = secrets.token_hex(6)

    def greet(self, line: Line) -> None:
        line.say(messages.status(self._topics, online=True))
        line.say(messages.birth(self._topics, self._facts()))

    def step(self, line: Line) -> float:  # noqa: ARG002 (a subject's)
        return IDLE_S

    def _facts(self) -> dict[str, object]:
        capture = self._settings.capture
        return {
            "ts": timestamp(self._clock.wall_ns()),
            "boot": self._clock.boot,
            "session": self._session,
            "groups": list(self._settings.device.groups),
            "versions": {
                "kiosk-recorder": agent.__version__,
                "python": platform.python_version(),
                "kernel": platform.release(),
            },
            "capture": {
                "format": "flac",
                "rate": capture.rate,
                "channels": capture.channels,
                "mode": capture.mode,
                "segment_seconds": self._settings.spool.segment_seconds,
            },
            "configuration": configuration_digest(self._settings),
        }


def configuration_digest(settings: Settings) -> str:
    """SHA-256 over all settings: two kiosks show the same one only if they are configured alike, names included."""
    plain = json.dumps(asdict(settings), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()
