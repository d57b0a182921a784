"""A target that answers what the test tells it, where no real one can be made to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from agent.courier.pace import Pace
from agent.courier.targets import Deed, Outgoing, Receipt


class ScriptedTarget:
    """Takes everything, once its script has ended."""

    prefix = "rooms"

    def __init__(self) -> None:
        self.script: deque[Exception | Callable[[], None] | Receipt] = deque()
        self.took: list[str] = []
        self.time: int | Exception | None = None
        self.asked = 0
        self._lock = threading.Lock()

    def put(self, outgoing: Outgoing, pace: Pace) -> Receipt:
        with self._lock:
            answer = self.script.popleft() if self.script else Receipt("stored")
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer()
            answer = Receipt("stored")
        with pace.open(outgoing.path) as file:
            file.readall()
        self.took.append(outgoing.key)
        return answer

    def server_time(self) -> int | None:
        self.asked += 1
        if isinstance(self.time, Exception):
            raise self.time
        return self.time

    def allows(self, deed: Deed, key: str) -> bool:
        raise AssertionError(f"nobody should {deed} {key}")

    def describe(self) -> str:
        return "a scripted target"

    def close(self) -> None:
        """Nothing is held."""
