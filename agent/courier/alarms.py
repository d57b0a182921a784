"""What is wrong with this kiosk, judged by what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.contract.messages import Severity, Value
from agent.status import RecorderStatus
from hw.clock import Clock


@dataclass(frozen=True, slots=True)
class Raised:
    """One alert that is raised."""

    severity: Severity
    since_ns: int
    """Wall time."""
    text: str
    """For a person: what is wrong, and the way out."""
    value: Value = None
    threshold: float | None = None
    """The limit that `value` passed, where there is one."""


class Alarms:
    """Belongs to one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._raised: dict[str, Raised] = {}

    def look(self, recorder: RecorderStatus | None, values: Mapping[str, Value]) -> Mapping[str, Raised]:  # noqa: ARG002
        """What is raised now. Without a sign of life of the recorder, what was known of it stays."""
        if recorder is not None:
            self._heed("direct_path", recorder.detour if recorder.path == "direct" else "")
        return dict(self._raised)

    def _heed(self, name: str, text: str) -> None:
        known = self._raised.pop(name, None)
        if text:
            since_ns = known.since_ns if known else self._clock.wall_ns()
            self._raised[name] = Raised("critical", since_ns, text)
