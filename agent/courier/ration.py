"""How often something may be said because a stranger wishes it: some at once, then a few a minute."""

from __future__ import annotations

from agent.units import NS_PER_S


class Ration:
    """Pure: it's told the time."""

    def __init__(self, most: int, per_minute: float) -> None:
        self._most = most
        self._per_ns = per_minute / (60 * NS_PER_S)
        self._left = float(most)
        self._asked_ns: int | None = None
        self.withheld = 0
        """How often the answer was no since it was last yes."""

    def grants(self, now_ns: int) -> int | None:
        """None: not now. Else how often that was the answer since the last time it wasn't."""
        if self._asked_ns is not None:
            self._left = min(self._most, self._left + (now_ns - self._asked_ns) * self._per_ns)
        self._asked_ns = now_ns
        if self._left < 1:
            self.withheld += 1
            return None
        self._left -= 1
        withheld, self.withheld = self.withheld, 0
        return withheld
