from __future__ import annotations

from pathlib import Path

import pytest

from agent.ledger import Boot, Ledger
from agent.recorder.timekeeper import Timekeeper, better_offset
from agent.units import NS_PER_S
from tests.clocks import BOOT, FakeClock


def offered(known: Boot, *, wall_s: float, synchronised: bool) -> Boot | None:
    return better_offset(known, wall_ns=round(wall_s * NS_PER_S), monotonic_ns=0, synchronised=synchronised)


def test_an_untrusted_clock_offers_nothing() -> None:
    assert offered(Boot(BOOT, 0, "unsynchronised"), wall_s=1e9, synchronised=False) is None


@pytest.mark.parametrize("clock", ["unsynchronised", "server"])
def test_a_synchronised_clock_replaces_whatever_was_believed(clock: str) -> None:
    known = Boot(BOOT, 0, clock)  # type: ignore[arg-type]
    assert offered(known, wall_s=1e9, synchronised=True) == Boot(BOOT, 10**18, "synchronised")


def test_jitter_is_not_a_step() -> None:
    known = Boot(BOOT, 10**18, "synchronised")
    assert offered(known, wall_s=1e9 + 0.9, synchronised=True) is None
    assert offered(known, wall_s=1e9 + 1.1, synchronised=True) == Boot(BOOT, 10**18 + 1_100_000_000, "synchronised")


def test_a_boot_that_began_in_1970_is_put_right_once(tmp_path: Path) -> None:
    clock = FakeClock(wall_s=100.0)
    clock.is_synchronised = False
    with Ledger(tmp_path / "ledger.db", clock, create=True) as ledger:
        ledger.begin_boot(0, "unsynchronised")
        keeper = Timekeeper(ledger, clock)
        assert keeper.check().clock == "unsynchronised"
        clock.step(1_800_000_000)
        clock.is_synchronised = True
        assert keeper.check().clock == "synchronised"
        assert keeper.check().clock == "synchronised"
        assert ledger.boots() == [Boot(BOOT, 1_800_000_000 * NS_PER_S, "synchronised")]
        assert [entry.kind for entry in ledger.entries()].count("retimed") == 1
