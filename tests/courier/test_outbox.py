from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from agent.courier import outbox
from agent.courier.outbox import Happening
from agent.courier.tray import MOST_NOTED, MOST_READY
from tests.card import Card, card  # noqa: F401
from tests.clocks import FakeClock
from tests.courier.listener import listening
from tests.courier.teller import TOPICS, Teller
from tests.servers import Broker
from tests.soundcard import eventually

KILLS = 60


def waiting(teller: Teller) -> list[Happening]:
    """Everything that is waiting to be told, in order."""
    found: list[Happening] = []
    idle = 0
    while idle < 3:
        teller.keeper.step()
        taken = list(iter(teller.tray.take, None))
        found += taken
        idle = 0 if taken else idle + 1
    return found


def numbers(happenings: list[Happening]) -> list[int]:
    return [each.facts["version"] for each in happenings if each.name == "flags"]


def losses(happenings: list[Happening]) -> list[tuple[str, int | None]]:
    return [(each.facts["reason"], each.facts["count"]) for each in happenings if each.name == "events_lost"]


def test_a_storm_of_kills_loses_nothing_that_the_card_had_and_no_order(
    tmp_path: Path, broker: Broker, tell: Callable[[str], None]
) -> None:
    with listening(broker, TOPICS.event) as listener:
        command = [sys.executable, "-m", "tests.courier.mortal_teller", str(tmp_path / "kiosk"), str(broker.port)]
        done = subprocess.run([*command, str(KILLS), "7"], stdout=subprocess.PIPE, text=True, timeout=300, check=True)
        lines = [line.split() for line in done.stdout.splitlines()]
        kept = {int(number) for word, number in lines if word == "kept"}
        noted = {int(number) for word, number in lines if word == "noting"}
        eventually(lambda: max(kept) in {each.content["version"] for each in listener.heard}, "all is heard", 60)
    ids: dict[str, int] = {}
    repeats = 0
    for message in listener.heard:
        number = message.content["version"]
        repeats += message.content["id"] in ids
        assert ids.setdefault(message.content["id"], number) == number
    arrived = list(ids.values())
    assert arrived == sorted(arrived)
    assert len(set(arrived)) == len(arrived)
    assert kept <= set(arrived) <= noted
    tell(
        f"outbox: {KILLS} kills, {len(noted)} events noted, {len(noted - set(arrived))} of them not yet on the card "
        f"when the kill came, {repeats} repeats, each with its id"
    )


def test_a_full_outbox_gives_the_oldest_up_and_tells_how_many_in_their_place(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST", 2000)
    teller = Teller(tmp_path / "kiosk", clock)
    for first in range(0, 5000, 100):
        teller.note(*range(first, first + 100))
        teller.keeper.step()
    found = waiting(teller)
    arrived, lost = numbers(found), losses(found)
    assert arrived[:MOST_READY] == list(range(MOST_READY))
    assert arrived == sorted(arrived)
    assert arrived[-1] == 4999
    assert lost == [("outbox_full", 5000 - len(arrived))]
    assert found[MOST_READY].name == "events_lost"
    assert len(found) <= 2000 + MOST_READY


def test_the_file_of_a_full_outbox_stays_within_its_bytes(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST_BYTES", 1 << 20)
    teller = Teller(tmp_path / "kiosk", clock)
    for number in range(300):
        facts = {"reason": "malformed", "text": "x" * 10_000, "version": None}
        for _ in range(10):
            teller.events.note("flags_refused", facts)
        teller.note(number)
        teller.keeper.step()
        files = list(teller.path.parent.glob("outbox.db*"))
        assert sum(file.stat().st_size for file in files) < 3 << 20
    found = waiting(teller)
    assert numbers(found)[-1] == 299
    assert sum(count or 0 for _, count in losses(found)) == 300 * 11 - len(found) + 1


def damage_header(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)


def damage_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1024:] = b"\xa5" * (len(content) - 1024)
    path.write_bytes(content)


def of_a_newer_release(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE events (what TEXT)")


@pytest.mark.parametrize(
    "damage",
    [damage_header, damage_page, of_a_newer_release, of_another_program],
    ids=lambda d: d.__name__,
)
def test_an_outbox_that_cannot_be_used_is_kept_beside_and_begun_anew_and_told(
    tmp_path: Path, clock: FakeClock, damage: Callable[[Path], None]
) -> None:
    first = Teller(tmp_path / "kiosk", clock)
    first.note(1, 2, 3)
    first.keeper.step()
    first.keeper.close()
    damage(first.path)
    second = Teller(tmp_path / "kiosk", clock)
    second.note(4)
    found = waiting(second)
    assert losses(found) == [("outbox_damaged", None)]
    assert numbers(found)[-1] == 4
    assert second.path.with_suffix(".damaged").exists()
    second.note(5)
    second.keeper.step()
    second.keeper.close()
    third = Teller(tmp_path / "kiosk", clock)
    assert numbers(waiting(third))[-2:] == [4, 5]


def test_an_event_that_cannot_be_read_any_more_is_told_to_be_lost_and_keeps_no_other(
    tmp_path: Path, clock: FakeClock
) -> None:
    teller = Teller(tmp_path / "kiosk", clock)
    teller.note(1, 2, 3)
    teller.keeper.step()
    teller.keeper.close()
    with closing(sqlite3.connect(teller.path)) as database, database:
        database.execute("UPDATE events SET facts = '{' WHERE n = 2")
    found = waiting(Teller(tmp_path / "kiosk", clock))
    assert numbers(found) == [1, 3]
    assert losses(found) == [("outbox_damaged", 1)]


def test_a_full_card_keeps_events_in_memory_tells_them_from_there_and_takes_them_when_there_is_room(
    card: Card,  # noqa: F811
    clock: FakeClock,
) -> None:
    teller = Teller(card.path / "kiosk", clock)
    teller.note(1, 2)
    teller.keeper.step()
    card.fill()
    teller.note(*range(3, MOST_NOTED + 503))
    found = waiting(teller)
    assert numbers(found)[:2] == [1, 2]
    assert numbers(found)[2:] == list(range(503, MOST_NOTED + 503))
    assert losses(found) == [("memory_full", 500)]
    teller.note(9001)
    teller.keeper.step()
    card.repair()
    clock.advance(11)
    teller.keeper.step()
    teller.keeper.close()
    assert numbers(waiting(Teller(card.path / "kiosk", clock))) == [1, 2, 9001]


@pytest.mark.parametrize("failure", [Card.become_read_only, Card.die], ids=lambda f: f.__name__)
def test_a_card_that_fails_keeps_nobody_from_telling_and_is_used_again_when_it_is_back(
    card: Card,  # noqa: F811
    clock: FakeClock,
    failure: Callable[[Card], None],
) -> None:
    teller = Teller(card.path / "kiosk", clock)
    teller.note(1, 2)
    teller.keeper.step()
    failure(card)
    teller.note(3)
    assert numbers(waiting(teller)) == [1, 2, 3]
    teller.note(4)
    teller.keeper.step()
    card.repair()
    clock.advance(11)
    teller.keeper.step()
    teller.keeper.close()
    assert numbers(waiting(Teller(card.path / "kiosk", clock)))[-1] == 4


def test_a_stuck_card_is_passed_by_and_has_what_was_not_told_when_it_answers(
    card: Card,  # noqa: F811
    clock: FakeClock,
) -> None:
    teller = Teller(card.path / "kiosk", clock)
    with ThreadPoolExecutor(1) as keeper:
        teller.note(1)
        keeper.submit(teller.keeper.step).result()
        card.stall()
        try:
            teller.note(2, 3)
            stuck = keeper.submit(teller.keeper.step)
            eventually(lambda: teller.tray.stuck(after_s=-1), "the keeper is at the card")
            assert numbers([each for each in (teller.tray.take(), teller.tray.take()) if each]) == [1]
            clock.advance(11)
            assert numbers([each for each in (teller.tray.take(),) if each]) == [2]
            assert not stuck.done()
        finally:
            card.repair()
        stuck.result(20)
        assert numbers(keeper.submit(waiting, teller).result())[-1] == 3
        keeper.submit(teller.keeper.close).result()
