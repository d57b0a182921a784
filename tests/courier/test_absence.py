from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from agent.contract.metrics import NAMES
from agent.courier.absence import PIECE_S, Absence
from agent.courier.conversation import Line
from agent.courier.monitor import Monitor, Picture
from tests.clocks import FakeClock

UP = cast("Line", SimpleNamespace(up=True))
DOWN = cast("Line", SimpleNamespace(up=False))
MINUTE = 60


class Room:
    """A subject before a monitor that shows what the test wishes."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.told: list[dict[str, Any]] = []
        self.monitor = SimpleNamespace(picture=None)
        self.absence = Absence(cast("Monitor", self.monitor), self._note, clock)

    def _note(self, name: str, facts: Any) -> None:  # noqa: ANN401 (whatever it notes)
        assert name == "absence"
        self.told.append(dict(facts))

    def look(self, line: Line, seconds: float = 30, **values: float | None) -> None:
        """Time passes, and there is another picture."""
        self.clock.advance(seconds)
        seq = self.monitor.picture.seq + 1 if self.monitor.picture else 0
        self.monitor.picture = Picture({**dict.fromkeys(NAMES), **values}, self.clock.wall_ns(), seq)
        self.absence.step(line)


def test_on_return_one_event_tells_the_extremes_and_what_was_counted_meanwhile(clock: FakeClock) -> None:
    room = Room(clock)
    room.look(UP, segments_total=100, cpu_temp_c=50)
    for minute in range(1, 8):
        room.look(DOWN, MINUTE, segments_total=100 + minute, cpu_temp_c=50 + minute % 3, queue_length=None)
    room.absence.greet(UP)
    (facts,) = room.told
    assert facts["grown"] == {"segments_total": 7}
    assert facts["looks"] == 7
    assert (facts["lowest"], facts["highest"], facts["last"]) == (
        {"cpu_temp_c": 50},
        {"cpu_temp_c": 52},
        {"cpu_temp_c": 51},
    )


def test_a_short_absence_is_no_news(clock: FakeClock) -> None:
    room = Room(clock)
    room.look(UP, segments_total=1)
    room.look(DOWN, MINUTE, segments_total=2)
    room.absence.greet(UP)
    room.look(UP, segments_total=3)
    assert room.told == []


def test_a_week_is_told_in_pieces_that_add_up(clock: FakeClock) -> None:
    room = Room(clock)
    room.look(UP, segments_total=0)
    minutes = 7 * 24 * 60
    for minute in range(1, minutes + 1):
        room.look(DOWN, MINUTE, segments_total=minute)
    clock.advance(400)
    room.absence.greet(UP)
    assert sum(facts["grown"].get("segments_total", 0) for facts in room.told) == minutes
    assert minutes * 60 / PIECE_S <= len(room.told) <= minutes * 60 / PIECE_S + 1
    assert all(facts["seconds"] <= PIECE_S + 10 * MINUTE for facts in room.told)


def test_a_counter_that_was_set_back_counts_from_nothing(clock: FakeClock) -> None:
    room = Room(clock)
    room.look(UP, segments_total=1000)
    for value in (1010, 3, 5):
        room.look(DOWN, 200, segments_total=value)
    room.absence.greet(UP)
    assert room.told[0]["grown"] == {"segments_total": 15}
