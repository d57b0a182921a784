"""One ledger, several releases: code is upgraded and taken back while recordings wait (SCHEMA_VERSION)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from agent.errors import KioskError
from agent.ledger import SCHEMA_VERSION, Ledger, LedgerDamaged, database
from tests.clocks import BOOT, FakeClock
from tests.unit.test_ledger import segment

OLDEST = Path(__file__).with_name("ledger-schema-1.sql")
"""A ledger of the first release, as SQL: a boot, a segment that was acknowledged, one that is pending, a gap."""

ADDED = """
CREATE TABLE IF NOT EXISTS weather (boot TEXT PRIMARY KEY, rain INTEGER NOT NULL);
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@contextmanager
def next_release() -> Iterator[None]:
    """Here the code is that of the release after this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        patch.setattr(database, "_SCHEMA", database._SCHEMA + ADDED)  # noqa: SLF001 (what a release changes)
        yield


def made_by_next_release(path: Path) -> None:
    """A ledger of this release to which the next one added what it may."""
    with Ledger(path, FakeClock(), create=True) as ledger:
        ledger.begin_boot(5, "unsynchronised")
        ledger.seal(segment(0))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript(f"{ADDED} ALTER TABLE segments ADD COLUMN loudness REAL DEFAULT 0.5;")
        other.execute("INSERT INTO weather VALUES (?, 1)", (BOOT,))
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def test_the_first_releases_ledger_is_opened_and_gone_on_with(path: Path) -> None:
    with closing(sqlite3.connect(path)) as earlier:
        earlier.executescript(OLDEST.read_text())
    with Ledger(path, FakeClock(), create=True) as ledger:
        ledger.check()
        assert ledger.broken_link() is None
        assert [(each.seq, each.state) for each in ledger.kept()] == [(0, "acknowledged"), (1, "pending")]
        ledger.seal(segment(2))
        ledger.check()
        assert ledger.broken_link() is None


def test_the_next_releases_ledger_is_used_as_it_is_and_given_back_whole(path: Path) -> None:
    made_by_next_release(path)
    with Ledger(path, FakeClock(), create=True) as ledger:
        ledger.check()
        ledger.seal(segment(1))
        with Ledger(path, FakeClock()) as courier:
            courier.fix_key(segment(0).name, "key", "synchronised")
            courier.acknowledge(segment(0).name, "stored")
        assert [each.seq for each in ledger.kept()] == [0, 1]
        assert ledger.broken_link() is None
    with closing(sqlite3.connect(path)) as later:
        assert later.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
        assert later.execute("SELECT rain FROM weather").fetchall() == [(1,)]
        assert later.execute("SELECT seq, loudness FROM segments ORDER BY seq").fetchall() == [(0, 0.5), (1, 0.5)]


def test_damage_is_noticed_in_the_next_releases_ledger_too(path: Path) -> None:
    made_by_next_release(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("ALTER TABLE gaps DROP COLUMN previous_boot")
    with Ledger(path, FakeClock(), create=True) as ledger, pytest.raises(LedgerDamaged):
        ledger.check()


def test_an_upgrade_a_step_back_and_another_upgrade_lose_nothing(path: Path) -> None:
    with Ledger(path, FakeClock(), create=True) as ledger:
        ledger.begin_boot(5, "unsynchronised")
    for upgraded, seq in ((False, 0), (True, 1), (False, 2), (True, 3), (False, 4)):
        with next_release() if upgraded else nullcontext(), Ledger(path, FakeClock(), create=True) as ledger:
            ledger.check()
            ledger.seal(segment(seq))
            assert ledger.broken_link() is None
    with Ledger(path, FakeClock()) as ledger:
        assert [each.seq for each in ledger.kept()] == [0, 1, 2, 3, 4]


def test_the_next_releases_courier_waits_for_its_recorder(path: Path) -> None:
    with Ledger(path, FakeClock(), create=True) as ledger:
        ledger.begin_boot(5, "unsynchronised")
    with next_release():
        with pytest.raises(KioskError, match="has yet to update it") as refused:
            Ledger(path, FakeClock())
        assert refused.value.retryable
        Ledger(path, FakeClock(), create=True).close()
        Ledger(path, FakeClock()).close()
