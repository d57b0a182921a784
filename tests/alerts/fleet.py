"""What the fleet hears of alerts, read off a real mosquitto."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.courier.listener import Listener
from tests.soundcard import eventually

PATIENCE_S = 90.0
"""Real seconds for anything at all, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """One kiosk's alerts and events."""

    listener: Listener

    def alert(self, name: str) -> dict[str, Any] | None:
        """What is said of an alert now; None when it isn't raised."""
        said = self.listener.said(f"/alert/{name}")
        return json.loads(said[-1]) if said and said[-1] else None

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was told of an alert as it changed, in order, without repeats."""
        events = {message.content["id"]: message.content for message in self.listener.on("/event")}.values()
        return [event for event in events if event["event"] == "alert" and event["alert"] == name]

    def changes(self, name: str) -> list[str]:
        return [str(event["change"]) for event in self.events(name)]

    def sees(self, name: str, severity: str, *, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until an alert is raised with a severity; what it says."""
        found: list[dict[str, Any]] = []

        def raised() -> bool:
            alert = self.alert(name)
            if alert is None or alert["severity"] != severity:
                return False
            found.append(alert)
            return True

        eventually(raised, f"{name} is {severity}: {self.listener.said(f'/alert/{name}')}", seconds)
        return found[-1]

    def sees_cleared(self, name: str, *, seconds: float = PATIENCE_S) -> None:
        """Wait until an alert that was raised is over, and told to be."""
        eventually(
            lambda: self.listener.said(f"/alert/{name}")[-1:] == [""] and self.changes(name)[-1:] == ["cleared"],
            f"{name} is cleared: {self.listener.said(f'/alert/{name}')}, {self.changes(name)}",
            seconds,
        )
        changes = " ".join(self.changes(name))
        assert re.fullmatch(r"(raised( escalated| eased)* cleared ?)+", changes), changes
