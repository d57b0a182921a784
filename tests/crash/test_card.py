"""The fault model: what it may lose, and what it may not."""

from __future__ import annotations

import random

from tests.crash.card import SECTOR, Card
from tests.crash.operations import TOP, Change, Enter, Make, Operation, Resize, SyncDirectory, SyncFile, Write

OPEN, SEALED, FILE, OTHER = 1, 2, 3, 4


def card_after(*operations: Operation) -> Card:
    """Two directories that are durable, and what else was done."""
    card = Card()
    for inode, name in ((OPEN, "open"), (SEALED, "sealed")):
        card.apply(Make(inode, directory=True))
        card.apply(Enter((Change(TOP, name, inode),)))
    card.apply(SyncDirectory(TOP))
    for operation in operations:
        card.apply(operation)
    return card


def created(file: int = FILE, name: str = "a") -> tuple[Operation, ...]:
    return Make(file, directory=False), Enter((Change(OPEN, name, file),))


MOVED = Enter((Change(OPEN, "a", None), Change(SEALED, "b", FILE)))


def nothing(card: Card) -> dict[str, bytes | None]:
    return after(card, [])


def everything(card: Card) -> dict[str, bytes | None]:
    return after(card, range(len(card.units())))


def after(card: Card, kept: object) -> dict[str, bytes | None]:
    files = card.after_cut(set(kept)).files  # type: ignore[call-overload]
    return {path: content for path, content in files.items() if path not in ("open", "sealed")}


def test_what_was_synced_with_its_directory_is_there() -> None:
    card = card_after(*created(), Write(FILE, 0, b"data"), SyncFile(FILE), SyncDirectory(OPEN))
    assert nothing(card) == {"open/a": b"data"}


def test_a_synced_file_whose_directory_was_not_synced_may_have_no_name() -> None:
    card = card_after(*created(), Write(FILE, 0, b"data"), SyncFile(FILE))
    assert nothing(card) == {}
    assert everything(card) == {"open/a": b"data"}


def test_a_name_may_be_there_before_its_data() -> None:
    card = card_after(*created(), Write(FILE, 0, b"data"), SyncDirectory(OPEN))
    assert nothing(card) == {"open/a": b""}


def test_pages_arrive_in_any_order() -> None:
    card = card_after(*created(), Write(FILE, 0, b"x" * 8192), SyncDirectory(OPEN))
    assert after(card, [1]) == {"open/a": bytes(4096) + b"x" * 4096}


def test_a_torn_page_is_torn_at_sectors_and_only_where_it_was_not_synced() -> None:
    card = card_after(*created(), Write(FILE, 0, b"o" * 4096), SyncFile(FILE), SyncDirectory(OPEN))
    card.apply(Write(FILE, 700, b"n" * 3000))
    seen = set()
    for seed in range(200):
        content = card.after_cut({0}, "short", random.Random(seed)).files["open/a"]
        assert content is not None
        assert content[:700] == b"o" * 700
        assert content[3700:] == b"o" * 396
        seen.add(content)
        for begin in range(1024, 3584, SECTOR):
            assert len(set(content[begin : begin + SECTOR])) == 1
    assert len(seen) > 10


def test_a_file_that_grew_may_hold_zeros_or_something_old_where_its_data_did_not_arrive() -> None:
    card = card_after(*created(), SyncDirectory(OPEN), Write(FILE, 0, b"x" * 100))
    assert card.after_cut(set(), "zeros").files["open/a"] == bytes(100)
    junk = card.after_cut(set(), "junk").files["open/a"]
    assert junk is not None
    assert len(junk) == 100
    assert junk not in (bytes(100), b"x" * 100)


def test_a_cut_off_end_comes_back_until_it_is_synced() -> None:
    card = card_after(*created(), Write(FILE, 0, b"data"), SyncFile(FILE), SyncDirectory(OPEN), Resize(FILE, 1))
    assert nothing(card) == {"open/a": b"data"}
    card.apply(SyncFile(FILE))
    assert nothing(card) == {"open/a": b"d"}


def test_a_rename_happens_as_a_whole_or_not_at_all() -> None:
    card = card_after(*created(), SyncDirectory(OPEN), MOVED)
    assert nothing(card) == {"open/a": b""}
    assert everything(card) == {"sealed/b": b""}


def test_a_rename_is_durable_once_either_directory_is_synced() -> None:
    for directory in (OPEN, SEALED):
        assert nothing(card_after(*created(), SyncDirectory(OPEN), MOVED, SyncDirectory(directory))) == {
            "sealed/b": b""
        }


def test_what_a_durable_change_replaced_never_comes_back() -> None:
    card = card_after(*created(), MOVED, SyncDirectory(SEALED))
    assert nothing(card) == everything(card) == {"sealed/b": b""}


def test_a_change_that_came_after_a_durable_one_may_still_be_lost() -> None:
    card = card_after(*created(), MOVED, *created(OTHER), SyncDirectory(SEALED), Write(OTHER, 0, b"new"))
    assert nothing(card) == {"sealed/b": b""}
    assert everything(card) == {"open/a": b"new", "sealed/b": b""}


def test_a_removed_file_comes_back_until_its_directory_is_synced() -> None:
    card = card_after(*created(), SyncDirectory(OPEN), Enter((Change(OPEN, "a", None),)))
    assert nothing(card) == {"open/a": b""}
    card.apply(SyncDirectory(OPEN))
    assert nothing(card) == {}


def test_names_arrive_in_any_order() -> None:
    card = card_after(*created(FILE, "a"), *created(OTHER, "b"))
    assert after(card, [0]) == {"open/a": b""}
    assert after(card, [1]) == {"open/b": b""}
