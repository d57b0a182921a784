"""What the recorder keeps in memory is its own: what somebody else put where it looks counts for nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.contract.commands import target_of
from agent.contract.signed import public_key
from agent.ledger import Ledger
from agent.recorder import rotation, standing
from agent.recorder.homecoming import cuts_for_card
from agent.recorder.keeper import Keeper
from agent.recorder.memory import make_own, memory_of
from agent.recorder.quiet import Moment, begun, in_force
from agent.recorder.standing import Standing
from agent.spool import Layout, SegmentName
from agent.units import NS_PER_S
from tests.clocks import FakeClock
from tests.recorder.test_rotation import ADMIN, ordered
from tests.soundcard import eventually

HOUR_NS = 3600 * NS_PER_S
NOW = Moment("a" * 32, 1000 * NS_PER_S, 1_800_000_000 * NS_PER_S)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def card(tmp_path: Path) -> Path:
    (tmp_path / "card").mkdir()
    return tmp_path / "card"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in memory, made by another user before the recorder came."""
    memory = memory_of(tmp_path)
    make_own(memory)
    monkeypatch.setattr(os, "geteuid", lambda: memory.stat().st_uid + 1)
    return memory


def test_nobody_else_can_lift_a_mute_or_forge_one(card: Path, planted: Path) -> None:
    muted = Standing().quieted((begun("muted", "button", HOUR_NS, NOW),), NOW)
    standing.keep(card, muted, durable=True)
    standing.keep(planted, Standing(generation=99), durable=False)
    assert in_force(standing.remembered(card, planted, NOW, HOUR_NS).quiets, NOW) == muted.quiets[0]
    standing.keep(card, Standing(), durable=True)
    standing.keep(planted, muted, durable=False)
    assert standing.remembered(card, planted, NOW, HOUR_NS).quiets == ()


def test_nobody_else_can_bring_recipients_back(card: Path, planted: Path) -> None:
    revoked = ordered("age1revoked")
    (planted / rotation.FILE).write_bytes(revoked)
    keys = {public_key(ADMIN)}
    assert rotation.remembered(card, planted, keys=keys, target=target_of("north", "room-1"), configured=()) is None


def test_recordings_that_somebody_else_put_there_do_not_come_to_the_card(planted: Path, clock: FakeClock) -> None:
    layout = Layout(planted)
    layout.create()
    with Ledger(layout.ledger, clock, create=True) as ledger:
        ledger.begin_boot(0, "synchronised")
        ledger.went_direct("planted", (SegmentName("ab" * 6, 1), 8000))
    assert cuts_for_card(layout, clock) == []


def test_the_card_keeps_what_memory_can_not(card: Path, planted: Path, clock: FakeClock) -> None:
    keeper = Keeper(card, planted, clock, lambda: None)
    ordered_now = Standing().quieted((begun("muted", "button", HOUR_NS, NOW),), NOW)
    keeper.keep(ordered_now)
    eventually(lambda: keeper.keeping == "kept", "the card has it")
    assert not list(planted.iterdir())
