"""The numbers that alerts watch, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from agent.contract.alerts import NAMES
from agent.contract.messages import Value
from agent.courier.chain import Chain
from agent.courier.signs import Sign, Signs, left_pct
from agent.courier.stock import Stock, take_stock
from agent.ledger import Boot, Segment
from agent.recorder.root import open_root
from agent.status import RecorderStatus
from agent.units import NS_PER_S
from tests.clocks import BOOT, FakeClock
from tests.courier.kiosk import Kiosk

WELL = RecorderStatus(pid=1, boot=BOOT, state="recording", since_ns=0, updated_ns=0)


class Desk:
    """Signs of a kiosk that is what the test says."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.refusal = ""
        self._signs = Signs(1000, lambda: self.refusal, clock)

    def see(
        self, recorder: RecorderStatus | None = WELL, card: Stock | None = None, **values: Value
    ) -> Mapping[str, Sign]:
        fresh = None if recorder is None else replace(recorder, updated_ns=self.clock.monotonic_ns())
        return self._signs.read(fresh, values, card)

    def since(self, seconds: float) -> int:
        return self.clock.monotonic_ns() - round(seconds * NS_PER_S)


@pytest.fixture
def desk(clock: FakeClock) -> Desk:
    return Desk(clock)


def test_there_is_a_sign_for_each_alert_also_when_nothing_is_known(desk: Desk) -> None:
    assert tuple(desk.see()) == tuple(desk.see(None)) == NAMES


def test_a_recorder_that_is_gone_stalls_since_its_last_sign_of_life(desk: Desk, clock: FakeClock) -> None:
    assert desk.see()["capture_stalled"].value == 0
    clock.advance(12)
    assert desk.see(None)["capture_stalled"] == Sign(12, "the recorder gives no sign of life: nothing is recorded")
    clock.advance(5)
    starting = replace(WELL, state="starting", since_ns=desk.since(1))
    assert desk.see(starting)["capture_stalled"].value == 17, "one that comes up and dies again hasn't recorded"
    assert desk.see()["capture_stalled"].value == 0


@pytest.mark.parametrize("state", ["recording", "listening", "idle", "paused", "muted", "waiting_for_microphone"])
def test_a_recorder_that_does_what_it_can_is_not_stalled(desk: Desk, state: str) -> None:
    assert desk.see(replace(WELL, state=state))["capture_stalled"].value == 0  # type: ignore[arg-type]


def test_the_direct_path_counts_only_when_it_was_not_chosen(desk: Desk, clock: FakeClock) -> None:
    chosen = replace(WELL, path="direct", trouble="no microphone", state="waiting_for_microphone")
    forced = replace(chosen, detour="the card fails")
    for recorder, seconds in ((chosen, 0), (forced, 0), (forced, 5)):
        assert desk.see(recorder)["direct_path"].value == seconds
        clock.advance(5)
    assert desk.see(forced)["direct_path"] == Sign(10, "the card fails")
    assert desk.see(None)["direct_path"] == Sign(None)
    assert desk.see(chosen)["direct_path"].value == 0


def test_clipping_is_the_mean_of_a_minute(desk: Desk, clock: FakeClock) -> None:
    assert desk.see()["clipping"].value is None
    for share in (6.0, *[0.0] * 11):
        value = desk.see(replace(WELL, clipped_pct=share))["clipping"].value
        clock.advance(5)
    assert value == 0.5
    assert desk.see(replace(WELL, clipped_pct=0.0))["clipping"].value == 0
    clock.advance(61)
    assert desk.see()["clipping"].value is None


def test_what_was_given_up_counts_for_an_hour_and_not_what_was_so_before(desk: Desk, clock: FakeClock) -> None:
    assert desk.see()["evicted_unsent"].value is None
    assert desk.see(evicted_unsent_total=100)["evicted_unsent"].value == 0
    clock.advance(30)
    assert desk.see(evicted_unsent_total=102)["evicted_unsent"].value == 2
    clock.advance(30)
    assert desk.see(evicted_unsent_total=0)["evicted_unsent"].value == 2, "another ledger counts anew"
    clock.advance(30)
    assert desk.see(evicted_unsent_total=1)["evicted_unsent"].value == 3
    clock.advance(3600)
    assert desk.see(evicted_unsent_total=1)["evicted_unsent"].value == 0


def test_how_long_the_clock_and_the_store_have_been_wrong(desk: Desk, clock: FakeClock) -> None:
    desk.refusal = "403\n  → ask for new ones"
    desk.see(clock_synchronised=0)
    clock.advance(30)
    seen = desk.see(clock_synchronised=0)
    assert seen["clock_unsynchronised"].value == 30
    assert seen["credentials"] == Sign(30, desk.refusal)
    assert desk.see()["clock_unsynchronised"].value is None
    desk.refusal = ""
    seen = desk.see(clock_synchronised=1)
    assert (seen["clock_unsynchronised"].value, seen["credentials"].value) == (0, 0)


def test_what_is_left_is_told_of_the_scarcer(kiosk: Kiosk, clock: FakeClock) -> None:
    stock = take_stock(kiosk.layout, clock)

    def left(free_bytes: int | None, free_inodes: int | None, keep: int = 1000) -> float | None:
        storage = replace(stock.storage, free_bytes=free_bytes, free_inodes=free_inodes)
        return left_pct(replace(stock, storage=storage), keep)

    assert (left(900, 10_000), left(900, 100), left(900, None), left(None, 100)) == (90, 10, 90, 10)
    assert (left(900, 500, keep=0), left(900, None, keep=0), left_pct(None, 1000)) == (50, None, None)


def test_errors_of_the_card_add_up(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    stock = take_stock(kiosk.layout, clock)

    def errors(count: int | None, *, read_only: bool | None, damaged: int) -> float | None:
        card = replace(stock, storage=replace(stock.storage, errors=count, read_only=read_only))
        return desk.see(card=card, segment_errors_total=damaged)["disk_error"].value

    assert errors(None, read_only=None, damaged=5) == 0
    assert errors(3, read_only=False, damaged=5) == 3
    assert errors(3, read_only=True, damaged=7) == 6


def test_a_ledger_that_was_lost_is_told_for_a_day(desk: Desk, kiosk: Kiosk, clock: FakeClock) -> None:
    chain = Chain()
    kiosk.record(2)

    def custody() -> float | None:
        return desk.see(card=take_stock(kiosk.layout, clock, chain))["custody"].value

    assert custody() == 0
    kiosk.ledger.close()
    for path in kiosk.layout.state.glob("ledger.db*"):
        path.unlink()
    with open_root(kiosk.settings(), clock, Boot(BOOT, clock.wall_ns() - clock.monotonic_ns(), "synchronised")):
        assert custody() == 1
        clock.advance(86399)
        assert custody() == 1
        clock.advance(1)
        assert custody() == 0


def forge(kiosk: Kiosk, segment: Segment) -> None:
    kiosk.ledger._db.execute(  # noqa: SLF001 (what nobody may do)
        "UPDATE journal SET body = replace(body, '\"channels\":1', '\"channels\":2') WHERE body LIKE ?",
        (f"%{segment.sha256}%",),
    )


def test_a_chain_is_followed_in_portions_to_its_first_broken_link(
    kiosk: Kiosk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.courier.chain._PORTION", 3)
    segments, chain = kiosk.record(10), Chain()
    forge(kiosk, segments[7])
    found = []
    for _ in range(5):
        custody = take_stock(kiosk.layout, clock, chain).custody
        assert custody is not None
        found.append(custody.broken_link)
    broken = kiosk.ledger.broken_link()
    assert broken is not None
    assert found == [None, None, None, broken, broken]


def test_each_new_link_is_followed(kiosk: Kiosk, clock: FakeClock) -> None:
    chain = Chain()
    kiosk.record(3)
    for number in range(3, 6):
        custody = take_stock(kiosk.layout, clock, chain).custody
        assert custody is not None
        assert custody.broken_link is None
        (segment,) = kiosk.record(1, first=number)
    forge(kiosk, segment)
    custody = take_stock(kiosk.layout, clock, chain).custody
    assert custody is not None
    assert custody.broken_link == kiosk.ledger.head()[0]
