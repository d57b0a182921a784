"""What the wall clock of one boot shows, and when it jumps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from agent.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class Turn:
    """From a moment of the boot's monotonic time on: what the wall clock shows then, and whether it's synchronised."""

    at_s: float
    wall_s: float
    synchronised: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One boot, and the turns that its wall clock takes."""

    boot: str
    began_s: float
    """When its monotonic time was zero, in the time that passes underneath: the room's or the machine's."""
    turns: tuple[Turn, ...]

    def written(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        found = json.loads(text)
        return cls(found["boot"], found["began_s"], tuple(Turn(**turn) for turn in found["turns"]))

    def offset_ns(self, at_s: float) -> int:
        """Wall time less monotonic time."""
        turn = [turn for turn in self.turns if turn.at_s <= at_s][-1]
        return round((turn.wall_s - turn.at_s) * NS_PER_S)
