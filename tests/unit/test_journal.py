"""What the ledger's journal says of each thing that happens, to the byte: others follow its chain (docs/SPOOL.md)."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import Boot, Gap, Ledger, Segment
from tests.clocks import BOOT, FakeClock

SEGMENT = Segment(
    run="0123456789ab",
    seq=3,
    boot=BOOT,
    begin_ns=10,
    end_ns=20,
    frames=160,
    rate=16000,
    channels=2,
    bytes=500,
    meta_bytes=192,
    sha256="ab" * 32,
    truncated=True,
)
NAMED = {"run": "0123456789ab", "seq": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger(path, FakeClock(), create=True)


@pytest.mark.parametrize(
    ("happening", "kind", "body"),
    [
        (
            lambda ledger: ledger.begin_boot(5, "server"),
            "boot",
            {"of": BOOT, "offset_ns": 5, "clock": "server"},
        ),
        (
            lambda ledger: ledger.retime(Boot(BOOT, 7, "synchronised")),
            "retimed",
            {"of": BOOT, "offset_ns": 7, "clock": "synchronised"},
        ),
        (
            lambda ledger: ledger.seal(SEGMENT),
            "sealed",
            {
                **NAMED,
                "of": BOOT,
                "begin_ns": 10,
                "end_ns": 20,
                "frames": 160,
                "rate": 16000,
                "channels": 2,
                "bytes": 500,
                "sha256": "ab" * 32,
                "truncated": True,
                "provisional": False,
            },
        ),
        (
            lambda ledger: ledger.gap(Gap(BOOT, 1, 2, "overrun")),
            "gap",
            {"of": BOOT, "begin_ns": 1, "end_ns": 2, "reason": "overrun"},
        ),
        (
            lambda ledger: ledger.gap(Gap(BOOT, 9, 2, "power_off", "c" * 32)),
            "gap",
            {"of": BOOT, "begin_ns": 9, "end_ns": 2, "reason": "power_off", "previous": "c" * 32},
        ),
        (
            lambda ledger: (ledger.seal(SEGMENT), ledger.settle(SEGMENT.name, "evicted", "cap")),
            "evicted",
            {**NAMED, "reason": "cap"},
        ),
        (lambda ledger: ledger.empty(SEGMENT.name), "empty", NAMED),
        (
            lambda ledger: (ledger.seal(SEGMENT), ledger.fix_key(SEGMENT.name, "a/b.flac", "server")),
            "keyed",
            {**NAMED, "key": "a/b.flac", "clock": "server"},
        ),
        (
            lambda ledger: (ledger.seal(SEGMENT), ledger.acknowledge(SEGMENT.name, "stored")),
            "acknowledged",
            {**NAMED, "how": "stored"},
        ),
        (lambda ledger: ledger.went_direct("the card is gone", None), "direct", {"cause": "the card is gone"}),
        (
            lambda ledger: ledger.went_direct("the card hangs", (SEGMENT.name, 80)),
            "direct",
            {"cause": "the card hangs", **NAMED, "frames": 80},
        ),
        (
            lambda ledger: ledger.came_home("e" * 12, 7, {"segments_total": 2.0}),
            "merged",
            {"epoch": "e" * 12, "until": 7, "counters": {"segments_total": 2.0}},
        ),
        (
            lambda ledger: ledger.went_home({"segments_total": 2.0}),
            "home",
            {"counters": {"segments_total": 2.0}},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_happening_has_its_entry(
    ledger: Ledger, happening: Callable[[Ledger], Any], kind: str, body: dict[str, Any]
) -> None:
    happening(ledger)
    *_, entry = ledger.entries()
    assert (entry.kind, entry.body) == (kind, body)
    clock = FakeClock()
    assert (entry.at_ns, entry.mono_ns, entry.boot) == (clock.wall_ns(), clock.monotonic_ns(), BOOT)
    assert entry.epoch == ledger.epoch()


def test_the_first_entry_begins_an_epoch_with_a_name_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    (first,) = ledger.entries()
    assert (first.seq, first.kind, first.body) == (1, "epoch", {})
    assert re.fullmatch("[0-9a-f]{12}", first.epoch)
    with Ledger(tmp_path / "another.db", FakeClock(), create=True) as another:
        assert another.epoch() != ledger.epoch()


def test_opening_it_again_begins_nothing(ledger: Ledger, path: Path) -> None:
    before = ledger.head()
    with Ledger(path, FakeClock(), create=True) as again:
        assert again.head() == before


def test_the_chain_can_be_followed_by_anybody_who_read_the_documentation(ledger: Ledger, path: Path) -> None:
    ledger.seal(SEGMENT)
    ledger.acknowledge(SEGMENT.name, "stored in Málaga")
    previous = bytes(32)
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT seq, epoch, at_ns, boot, mono_ns, kind, body, hash FROM journal ORDER BY seq")
        for *content, body, link in rows:
            canonical = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert body == canonical
            whole = json.dumps([*content, json.loads(body)], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            previous = hashlib.sha256(previous + whole.encode()).digest()
            assert link == previous
    assert ledger.head() == (3, previous)


def test_what_a_ledger_in_memory_leaves_on_the_card_is_known_again(ledger: Ledger) -> None:
    other = Segment(**{field: getattr(SEGMENT, field) for field in Segment.__slots__} | {"seq": 4})
    assert (ledger.cuts(), ledger.home_until("e" * 12), ledger.home_base()) == ({}, (0, {}), {})
    ledger.went_direct("the card is gone", None)
    ledger.went_direct("the card hangs", (SEGMENT.name, 80))
    ledger.went_direct("the card hangs", (other.name, 90))
    assert ledger.cuts() == {SEGMENT.name: 80, other.name: 90}
    ledger.came_home("e" * 12, 7, {"segments_total": 2.0})
    ledger.came_home("e" * 12, 9, {"segments_total": 3.0})
    assert ledger.home_until("e" * 12) == (9, {"segments_total": 3.0})
    assert ledger.home_until("f" * 12) == (0, {})
    ledger.went_home({"segments_total": 2.0})
    ledger.went_home({"segments_total": 3.0})
    assert ledger.home_base() == {"segments_total": 3.0}


def test_entries_are_told_from_after_a_place(ledger: Ledger) -> None:
    for number in range(4):
        ledger.retime(Boot(BOOT, number, "server"))
    assert [entry.seq for entry in ledger.entries()] == [1, 2, 3, 4, 5]
    assert [entry.seq for entry in ledger.entries(since=3)] == [4, 5]


@pytest.mark.parametrize("garbage", ["not json", '{"half":', '["\\ud800"]', ""])
def test_an_entry_that_can_not_be_read_breaks_the_chain_there(ledger: Ledger, path: Path, garbage: str) -> None:
    for number in range(4):
        ledger.retime(Boot(BOOT, number, "server"))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE journal SET body = ? WHERE seq = 3", (garbage,))
    assert ledger.broken_link() == 3
