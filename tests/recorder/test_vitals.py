"""What the recorder's threads tell each other."""

from __future__ import annotations

from agent.ledger import Boot
from agent.recorder.vitals import Vitals


def test_time_is_told_by_the_ledgers_offset_once_somebody_vouches_for_it() -> None:
    assert Vitals(boot=Boot("b", 1000, "unsynchronised")).wall_ns(5) is None
    assert Vitals(boot=Boot("b", 1000, "server")).wall_ns(5) == 1005
    assert Vitals(boot=Boot("b", 1000, "synchronised")).wall_ns(5) == 1005
