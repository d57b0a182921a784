from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import KioskError
from agent.ledger import SCHEMA_VERSION, Boot, Gap, Ledger, LedgerDamaged, Segment
from agent.spool import SegmentName
from tests.clocks import BOOT, FakeClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, FakeClock(), create=True) as opened:
        opened.begin_boot(5, "unsynchronised")
        yield opened


def segment(seq: int, **changed: object) -> Segment:
    fields: dict[str, object] = {
        "run": "0123456789ab",
        "seq": seq,
        "boot": BOOT,
        "begin_ns": seq * 1000,
        "end_ns": (seq + 1) * 1000,
        "frames": 16000,
        "rate": 16000,
        "channels": 1,
        "bytes": 500,
        "meta_bytes": 192,
        "sha256": f"{seq:064x}",
    }
    return Segment(**(fields | changed))  # type: ignore[arg-type]


def test_what_is_sealed_comes_back_as_it_was(ledger: Ledger) -> None:
    sealed = segment(3, truncated=True)
    ledger.seal(sealed)
    assert ledger.segment(sealed.name) == sealed
    assert list(ledger.kept("pending")) == [sealed]
    assert ledger.segment(SegmentName("f" * 12, 0)) is None


def test_the_chain_holds_through_everything_both_processes_enter(ledger: Ledger, path: Path) -> None:
    with Ledger(path, FakeClock()) as courier:
        for seq in range(4):
            ledger.seal(segment(seq))
            courier.fix_key(segment(seq).name, f"key-{seq}", "synchronised")
            courier.acknowledge(segment(seq).name, "stored")
        ledger.gap(Gap(BOOT, 1, 2, "overrun"))
        courier.retime(Boot(BOOT, 7, "server"))
    assert ledger.broken_link() is None
    assert [entry.kind for entry in ledger.entries()][:2] == ["epoch", "boot"]


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE journal SET body = replace(body, '16000', '16001') WHERE seq = 4",
        "UPDATE journal SET at_ns = at_ns + 1 WHERE seq = 4",
        "UPDATE journal SET kind = 'evicted' WHERE seq = 4",
        "DELETE FROM journal WHERE seq = 4",
        "UPDATE journal SET seq = seq + 1000 WHERE seq >= 4",
    ],
)
def test_tampering_breaks_the_chain_where_it_happened(ledger: Ledger, path: Path, tampering: str) -> None:
    for seq in range(5):
        ledger.seal(segment(seq))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(tampering)
    assert ledger.broken_link() in {4, 5, 1004}


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    before = ledger.head()

    def fail_within() -> None:
        with ledger.transaction():
            ledger.seal(segment(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_within()
    assert ledger.head() == before
    assert list(ledger.segments()) == []


def test_a_key_is_fixed_once_and_for_ever(ledger: Ledger) -> None:
    ledger.seal(segment(1))
    ledger.fix_key(segment(1).name, "first", "server")
    ledger.fix_key(segment(1).name, "second", "synchronised")
    found = ledger.segment(segment(1).name)
    assert found is not None
    assert (found.key, found.key_clock) == ("first", "server")


def test_what_was_acknowledged_meanwhile_is_not_given_up(ledger: Ledger) -> None:
    ledger.seal(segment(1))
    ledger.acknowledge(segment(1).name, "stored")
    before = ledger.head()
    assert not ledger.settle(segment(1).name, "evicted", "cap")
    assert ledger.head() == before
    assert [found.state for found in ledger.segments()] == ["acknowledged"]


def test_a_locked_ledger_is_not_taken_for_a_damaged_one(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.ledger.database._BUSY_S", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        ledger.close()
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(KioskError) as refused:
            Ledger(path, FakeClock(), create=True)
    assert str(refused.value) == (
        f"open ledger {path}: database is locked\n  → check that this user may write there and that the card is sound"
    )
    assert not isinstance(refused.value, LedgerDamaged)
    assert refused.value.retryable


def test_oldest_and_newest_first(ledger: Ledger) -> None:
    for seq in range(4):
        ledger.seal(segment(seq))
    assert [found.seq for found in ledger.kept("pending", limit=2)] == [0, 1]
    assert [found.seq for found in ledger.kept("pending", limit=2, newest=True)] == [3, 2]


def test_what_is_here_is_listed_in_one_state_or_in_any(ledger: Ledger) -> None:
    for seq in range(3):
        ledger.seal(segment(seq))
    ledger.acknowledge(segment(0).name, "stored")
    ledger.forget_files([segment(2).name])
    assert [found.seq for found in ledger.kept()] == [0, 1]
    assert [found.seq for found in ledger.kept("pending")] == [1]
    ledger.recall_files(segment(2).name)
    assert [found.seq for found in ledger.kept("pending")] == [1, 2]


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        ("UPDATE segments SET state = 'pendinc'", "a segment is 'pendinc'"),
        ("UPDATE segments SET run = 'x'", "not the name of a segment"),
        ("UPDATE segments SET boot = 'x'", "a segment is of boot 'x'"),
        ("UPDATE segments SET bytes = -1", "a size is negative"),
        ("UPDATE segments SET meta_bytes = -1", "a size is negative"),
        ("UPDATE segments SET frames = -1", "a size is negative"),
        ("UPDATE segments SET rate = 0", "a size is negative"),
        ("UPDATE segments SET rate = 'x'", "unsupported operand"),
        ("UPDATE boots SET clock = 'x'", "a clock is 'x'"),
        ("UPDATE boots SET offset_ns = 'x'", "an offset is no number"),
        ("UPDATE counters SET value = -1", "a counter is negative"),
        ("UPDATE journal SET hash = 'x'", "string argument without an encoding"),
        ("ALTER TABLE gaps RENAME COLUMN reason TO seasons", "its tables aren't those of a ledger"),
    ],
)
def test_what_was_never_written_here_is_taken_for_damage(ledger: Ledger, path: Path, lie: str, told: str) -> None:
    ledger.seal(segment(0))
    ledger.count(segments_total=1)
    ledger.check()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(lie)
    with pytest.raises(LedgerDamaged) as refused:
        ledger.check()
    assert (refused.value.operation, refused.value.place) == ("check ledger", str(path))
    assert refused.value.cause.startswith(told)


@pytest.mark.parametrize("writable", [True, False])
def test_a_ledger_that_only_its_own_header_makes_read_only_is_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, writable: bool
) -> None:
    Ledger(path, FakeClock(), create=True).close()
    content = path.read_bytes()
    path.write_bytes(content[:18] + b"\x03" + content[19:])
    monkeypatch.setattr("os.access", lambda *_: writable)
    with Ledger(path, FakeClock()) as ledger:
        with pytest.raises(KioskError) as refused:
            ledger.check()
        assert isinstance(refused.value, LedgerDamaged) is writable
        assert (refused.value.operation, refused.value.place) == ("check ledger", str(path))
        assert refused.value.cause == "attempt to write a readonly database"
        assert refused.value.retryable is not writable


def test_a_check_changes_nothing(ledger: Ledger, path: Path) -> None:
    with Ledger(path, FakeClock()) as other:
        before = other.change_mark()
        ledger.check()
        assert other.change_mark() == before
    with Ledger(path, FakeClock(), read_only=True) as reader:
        reader.check()


def test_now_is_what_is_known_of_this_boot_or_what_the_machine_says(ledger: Ledger, tmp_path: Path) -> None:
    clock = FakeClock()
    assert ledger.now_ns() == 5 + clock.monotonic_ns()
    with Ledger(tmp_path / "new.db", clock, create=True) as new:
        assert new.now_ns() == clock.wall_ns()


def test_tally_counts_what_is_here_by_state(ledger: Ledger) -> None:
    for seq in range(3):
        ledger.seal(segment(seq))
    ledger.acknowledge(segment(0).name, "stored")
    ledger.settle(segment(1).name, "evicted", "cap")
    ledger.forget_files([segment(1).name])
    tally = ledger.tally()
    assert {state: (t.count, t.bytes, t.seconds) for state, t in tally.items()} == {
        "acknowledged": (1, 692, 1.0),
        "pending": (1, 692, 1.0),
    }


def test_counters_only_grow_and_survive(ledger: Ledger, path: Path) -> None:
    ledger.count(segments_total=1, captured_seconds_total=2.5)
    ledger.count(segments_total=2)
    with Ledger(path, FakeClock()) as again:
        assert again.counters() == {"segments_total": 3, "captured_seconds_total": 2.5}


def test_a_boot_is_begun_once_however_often_the_process_starts(ledger: Ledger) -> None:
    ledger.begin_boot(99, "synchronised")
    assert ledger.boots() == [Boot(BOOT, 5, "unsynchronised")]


def test_the_account_ends_at_the_newest_interval(ledger: Ledger) -> None:
    assert ledger.last_end() is None
    ledger.seal(segment(0))
    assert ledger.last_end() == (BOOT, 1000)
    ledger.gap(Gap(BOOT, 1000, 4000, "unplugged"))
    assert ledger.last_end() == (BOOT, 4000)
    ledger.add_boot(Boot("c" * 32, 0, "unsynchronised"))
    ledger.gap(Gap("c" * 32, 4000, 30, "power_off", BOOT))
    assert ledger.last_end() == ("c" * 32, 30)


def test_another_connection_notices_news(ledger: Ledger, path: Path) -> None:
    with Ledger(path, FakeClock()) as other:
        before = other.change_mark()
        assert other.change_mark() == before
        ledger.seal(segment(0))
        assert other.change_mark() != before


def test_a_ledger_that_is_not_there_is_told_with_the_way_out(path: Path) -> None:
    with pytest.raises(KioskError) as refused:
        Ledger(path, FakeClock())
    assert str(refused.value) == (
        f"open ledger {path}: it does not exist\n  → the recorder makes it: is it running, and is `spool.path` right?"
    )
    assert refused.value.retryable


@pytest.mark.parametrize(
    ("number", "cause", "passing"),
    [(errno.EACCES, "Permission denied", False), (errno.EIO, "Input/output error", True), (None, "strange", True)],
)
def test_a_ledger_that_can_not_even_be_looked_for_is_told_with_the_way_out(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None, cause: str, *, passing: bool
) -> None:
    def refuse(_: Path) -> None:
        raise OSError(cause) if number is None else OSError(number, cause)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(KioskError) as refused:
        Ledger(path, FakeClock())
    assert str(refused.value) == f"open ledger {path}: {cause}\n  → run this as root or as the kiosk's own user"
    assert refused.value.retryable is passing


def test_a_ledger_that_is_only_just_being_made_is_left_alone(path: Path) -> None:
    """The courier may look between the file's first byte and its first entry."""
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(KioskError) as refused:
        Ledger(path, FakeClock())
    assert str(refused.value) == f"open ledger {path}: the recorder is only just making it\n  → try again in a moment"
    assert refused.value.retryable


def test_a_ledger_from_after_the_next_release_is_left_alone(ledger: Ledger, path: Path) -> None:
    ledger.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 2}")
    with pytest.raises(KioskError) as refused:
        Ledger(path, FakeClock(), create=True)
    assert str(refused.value) == (
        f"open ledger {path}: it was written by a newer release "
        f"(schema {SCHEMA_VERSION + 2}, this one knows {SCHEMA_VERSION})\n"
        "  → install the newer release again"
    )
    assert not refused.value.retryable


def test_garbage_is_told_from_a_ledger(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(LedgerDamaged) as refused:
        Ledger(path, FakeClock(), create=True)
    assert str(refused.value) == f"open ledger {path}: file is not a database"


def test_pages_overwritten_in_the_middle_are_found_by_a_check(ledger: Ledger, path: Path) -> None:
    for seq in range(200):
        ledger.seal(segment(seq))
    ledger.check()
    ledger.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * 4096)
    with pytest.raises(LedgerDamaged) as refused:
        Ledger(path, FakeClock()).check()
    assert (refused.value.operation, refused.value.place) == ("check ledger", str(path))
    assert refused.value.cause


def test_gaps_come_back_as_they_were(ledger: Ledger) -> None:
    gaps = [Gap(BOOT, 1, 2, "overrun"), Gap("c" * 32, 9, 3, "power_off", BOOT)]
    for gap in gaps:
        ledger.gap(gap)
    assert ledger.gaps() == gaps


def test_the_newest_acknowledgement_is_known_by_its_time(path: Path) -> None:
    clock = FakeClock()
    ledger = Ledger(path, clock, create=True)
    assert ledger.last_acknowledged_ns() is None
    for seq in range(3):
        ledger.seal(segment(seq))
    assert ledger.last_acknowledged_ns() is None
    ledger.acknowledge(segment(1).name, "stored")
    uploaded_ns = clock.wall_ns()
    clock.advance(5)
    ledger.settle(segment(2).name, "evicted", "cap")
    assert ledger.last_acknowledged_ns() == uploaded_ns


def test_what_lies_in_a_directory_is_held_against_what_should_be_there(ledger: Ledger) -> None:
    for seq in range(7):
        ledger.seal(segment(seq))
    ledger.acknowledge(segment(2).name, "stored")
    ledger.acknowledge(segment(3).name, "stored")
    ledger.settle(segment(4).name, "evicted", "cap")
    ledger.settle(segment(5).name, "evicted", "cap")
    ledger.forget_files([segment(5).name])
    run = segment(0).run
    # 0 has both files, 1 its sidecar only, 2 both, 3 none, 4 and 5 came back, 6 is whole; 7 nobody knows.
    found = [(run, 0, False), (run, 0, True), (run, 1, False), (run, 2, True), (run, 4, True), (run, 5, True)]
    found += [(run, 2, False), (run, 6, True), (run, 6, False), (run, 7, True)]
    with ledger.census(found) as census:
        assert [lost.seq for lost in census.lost()] == [1]
        assert [settled.seq for settled in census.settled()] == [3, 4]
        assert [name.seq for name in census.unlisted()] == [5, 7]
    with ledger.census([]) as census:
        assert [lost.seq for lost in census.lost()] == [0, 1, 6]
        assert census.unlisted() == []


def test_a_listing_that_fails_leaves_no_transaction_open(ledger: Ledger, path: Path) -> None:
    def listing() -> Iterator[tuple[str, int, bool]]:
        yield ("0123456789ab", 0, True)
        raise OSError("the card is gone")

    def count() -> None:
        with ledger.census(listing()):
            pytest.fail("there is nothing to look at")

    with pytest.raises(OSError, match="the card is gone"):
        count()
    ledger.seal(segment(0))
    with Ledger(path, FakeClock()) as other:
        assert other.segment(segment(0).name) is not None


def test_a_ledger_that_is_refused_is_not_held_open(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(LedgerDamaged) as refused:
        Ledger(path, FakeClock(), create=True)
    held = [os.path.realpath(descriptor) for descriptor in Path("/proc/self/fd").iterdir()]
    assert str(path) not in held, refused


def test_a_reader_can_not_write(ledger: Ledger, path: Path) -> None:
    ledger.seal(segment(0))
    with Ledger(path, FakeClock(), read_only=True) as reader:
        assert reader.segment(segment(0).name) is not None
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.count(segments_total=1)
