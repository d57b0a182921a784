from __future__ import annotations

from agent.courier.pulse import Pulse
from tests.clocks import FakeClock


def test_a_loop_that_turns_is_felt_and_one_that_hangs_is_named() -> None:
    clock = FakeClock()
    pulse = Pulse("monitor", 5, clock)
    for _ in range(3):
        clock.advance(35)
        assert pulse.missed == ""
        pulse.beat()
    clock.advance(36)
    assert pulse.missed == "monitor hangs since 36 s"
    pulse.beat()
    assert pulse.missed == ""
