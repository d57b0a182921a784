from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from agent.contract.events import CLOCKS, EVENTS, GAP_REASONS, checked
from agent.courier import history
from agent.courier.history import Cursor, read_on
from agent.courier.outbox import Happening
from agent.ledger import Boot, ClockState, Gap, GapReason, Ledger
from agent.units import NS_PER_S
from tests.clocks import FakeClock
from tests.courier.kiosk import Kiosk
from tests.courier.teller import Teller

if TYPE_CHECKING:
    import pytest


def told(kiosk: Kiosk, cursor: Cursor | None = None) -> tuple[list[Happening], Cursor]:
    """What there is to tell, from a cursor on."""
    found: list[Happening] = []
    cursor = cursor or Cursor()
    while True:
        portion = read_on(kiosk.layout.ledger, kiosk.clock, cursor)
        found, cursor = found + portion.happenings, portion.cursor
        if not portion.more:
            for each in found:
                checked(each.name, each.facts)
            return found, cursor


def names(happenings: list[Happening]) -> list[str]:
    return [each.name for each in happenings]


def gap(kiosk: Kiosk, begin_s: float, end_s: float, reason: GapReason) -> None:
    kiosk.ledger.gap(Gap(kiosk.clock.boot, round(begin_s * NS_PER_S), round(end_s * NS_PER_S), reason))


def test_the_table_knows_the_ledgers_reasons_and_clocks() -> None:
    assert set(GAP_REASONS) | {"voice"} == set(get_args(GapReason))
    assert set(CLOCKS) == set(get_args(ClockState))


def test_what_happens_to_recordings_becomes_events_with_stable_ids(kiosk: Kiosk) -> None:
    first, second, third = kiosk.record(3)
    kiosk.ledger.acknowledge(first.name, "stored")
    kiosk.ledger.settle(second.name, "evicted", "cap")
    kiosk.ledger.settle(third.name, "lost", "it is gone")
    kiosk.ledger.retime(Boot(kiosk.clock.boot, 1_800_000_000 * NS_PER_S, "server"))
    found, cursor = told(kiosk)
    assert names(found) == ["epoch_begun", "boot_begun", "run_begun", "evicted", "lost", "clock_corrected"]
    assert found[3].facts == {"run": second.run, "seq": 1, "reason": "cap"}
    again, _ = told(kiosk)
    assert [each.key for each in again] == [each.key for each in found]
    assert len({each.key for each in found}) == len(found)
    assert told(kiosk, cursor)[0] == []


def test_what_people_had_erased_is_told_without_their_words(kiosk: Kiosk) -> None:
    kiosk.ledger.erase("ab" * 16, [segment.name for segment in kiosk.record(2)], "what the patient asked for")
    found, _ = told(kiosk)
    assert (found[-1].name, found[-1].facts) == ("erasure", {"order": "ab" * 16, "segments": 2})


def test_a_gap_that_was_entered_in_pieces_is_one_gap_also_over_a_restart(kiosk: Kiosk) -> None:
    _, cursor = told(kiosk)
    gap(kiosk, 100, 700, "unplugged")
    begun, cursor = told(kiosk, cursor)
    assert [(each.name, each.facts["reason"]) for each in begun] == [("gap_begun", "unplugged")]
    gap(kiosk, 700, 1300, "unplugged")
    gap(kiosk, 1300, 1300.5, "unplugged")
    more, cursor = told(kiosk, Cursor.loaded(cursor.dumped()))
    assert more == []
    kiosk.record(1)
    ended, _ = told(kiosk, Cursor.loaded(cursor.dumped()))
    assert names(ended) == ["gap_ended", "run_begun"]
    assert ended[0].facts["seconds"] == 1200.5
    assert ended[0].key != ended[1].key


def test_another_reason_is_another_gap(kiosk: Kiosk) -> None:
    _, cursor = told(kiosk)
    gap(kiosk, 100, 100.5, "overrun")
    gap(kiosk, 100.5, 107, "unplugged")
    found, _ = told(kiosk, cursor)
    assert [(each.name, each.facts["reason"]) for each in found] == [
        ("gap_begun", "overrun"),
        ("gap_ended", "overrun"),
        ("gap_begun", "unplugged"),
    ]


def test_the_pauses_of_speakers_are_no_news(kiosk: Kiosk) -> None:
    _, cursor = told(kiosk)
    for number in range(5):
        gap(kiosk, 100 + number * 10, 105 + number * 10, "voice")
        kiosk.record(1, run=f"{number:012x}")
    assert told(kiosk, cursor)[0] == []


def test_another_ledger_is_told_from_its_beginning(kiosk: Kiosk, tmp_path: Path, clock: FakeClock) -> None:
    kiosk.record(5)
    _, cursor = told(kiosk)
    other = Kiosk(tmp_path / "other", clock)
    found, _ = told(other, cursor)
    assert names(found) == ["epoch_begun", "boot_begun"]


def test_a_journal_that_was_cut_off_before_it_was_told_says_so(kiosk: Kiosk) -> None:
    _, cursor = told(kiosk)
    kiosk.record(10)
    until = kiosk.ledger.head()[0]
    kiosk.ledger.forget_told(until - 2)
    portion = read_on(kiosk.layout.ledger, kiosk.clock, cursor)
    assert portion.gone == until - 2 - cursor.seq


def test_an_entry_that_cannot_be_read_keeps_no_other(kiosk: Kiosk) -> None:
    _, cursor = told(kiosk)
    first, second = kiosk.record(2)
    kiosk.ledger.settle(first.name, "evicted", "cap")
    kiosk.ledger.settle(second.name, "evicted", "cap")
    with Ledger(kiosk.layout.ledger, kiosk.clock) as ledger, ledger.transaction():
        ledger._db.execute(  # noqa: SLF001 (damage)
            "UPDATE journal SET body = '{' WHERE kind = 'sealed'"
        )
    found, _ = told(kiosk, cursor)
    assert names(found) == ["evicted", "evicted"]


def test_a_new_outbox_does_not_tell_the_history_of_years(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LOOK_BACK", 3)
    for segment in kiosk.record(10):
        kiosk.ledger.settle(segment.name, "evicted", "cap")
    assert names(told(kiosk)[0]) == ["evicted"] * 3


def test_events_of_the_journal_are_put_into_the_outbox_once_whenever_the_courier_dies(
    kiosk: Kiosk, clock: FakeClock
) -> None:
    found: list[Happening] = []
    for number in range(6):
        for segment in kiosk.record(2, first=2 * number):
            kiosk.ledger.settle(segment.name, "evicted", "cap")
        teller = Teller(kiosk.root, clock)
        teller.keeper.step()
        taken = list(iter(teller.tray.take, None))
        if number % 2:
            # The broker has them, and the card knows. Nothing is closed in good order.
            found += taken
            teller.tray.told = taken[-1].n
            teller.keeper.step(last=True)
    evicted = [each for each in found if each.name == "evicted"]
    assert [each.facts["seq"] for each in evicted] == list(range(12))
    assert len({each.key for each in found}) == len(found)


def test_every_event_of_the_table_is_named_by_somebody() -> None:
    sources = Path(history.__file__).parent
    code = "".join(path.read_text() for path in sources.glob("*.py"))
    assert [row.name for row in EVENTS if f'"{row.name}"' not in code] == []
