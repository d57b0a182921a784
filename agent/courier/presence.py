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
from agent.contract.messages import Heard, Topics
from agent.courier.conversation import IDLE_S, Line
from agent.courier.openings import Openings
from agent.settings import Settings
from hw.board import Identity
from hw.clock import Clock


class Presence:
    """The subjects `status` and `birth`."""

    listens_to: Mapping[str, Callable[[Heard], None]] = {}

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        board: Identity,
        openings: Openings,
        clock: Clock,
        overridden: Mapping[str, str],
        signing_key: str | None = None,
    ) -> None:
        """`overridden` are the feature flags that the environment chooses, `signing_key` is the device's public one."""
        self._signing_key = signing_key
        self._settings = settings
        self._clock = clock
        self._overridden = overridden
        self._topics = topics
        self._board = board
        self._session = secrets.token_hex(6)
        self._openings = openings
        self._due = False

    def introduce(self) -> None:
        """Say `birth` anew: something in it has changed. Called from every thread."""
        self._due = True

    def greet(self, line: Line) -> None:
        self._due = False
        line.say(messages.status(self._topics, online=True))
        line.say(messages.birth(self._topics, self._facts()))

    def step(self, line: Line) -> float:
        if self._due and line.up:
            self._due = False
            line.say(messages.birth(self._topics, self._facts()))
        return IDLE_S

    def _facts(self) -> dict[str, object]:
        capture = self._settings.capture
        return {
            "ts": timestamp(self._clock.wall_ns()),
            "boot": self._clock.boot,
            "session": self._session,
            "groups": list(self._settings.device.groups),
            **asdict(self._board),
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
            "signing_key": self._signing_key,
            "flags_by_environment": dict(self._overridden),
            "upload_hours": {
                "hours": [str(hours) for hours in self._openings.hours],
                "from": "file" if self._openings.ordered is None else "command",
            },
            "configuration": configuration_digest(self._settings),
        }


def configuration_digest(settings: Settings) -> str:
    """SHA-256 over all settings: two kiosks show the same one only if they are configured alike, names included."""
    plain = json.dumps(asdict(settings), sort_keys=True, default=str)
    return hashlib.sha256(plain.encode()).hexdigest()
