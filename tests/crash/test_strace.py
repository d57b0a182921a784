"""What a real program did, read from its system calls."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.crash.card import Card, State
from tests.crash.checker import KIOSK, live
from tests.crash.operations import Note
from tests.crash.strace import NotUnderstood, trace

pytestmark = pytest.mark.usefixtures("strace")

_EVERYTHING = """
import os, sqlite3, sys
top = sys.argv[1]
os.mkdir(f"{top}/d")
with open(f"{top}/d/a", "wb") as file:
    file.write(b"0123456789" * 1000)
    file.flush()
    os.fsync(file.fileno())
with open(f"{top}/d/a", "r+b", buffering=0) as file:
    file.read(10)
    file.write(b"after the tenth")
    file.seek(5000)
    file.write(b"in the middle")
    os.pwrite(file.fileno(), b"far away", 20000)
    file.truncate(20004)
    os.posix_fallocate(file.fileno(), 0, 30000)
with open(f"{top}/d/a", "ab", buffering=0) as file:
    file.write(b"at the end")
os.link(f"{top}/d/a", f"{top}/linked")
os.rename(f"{top}/d/a", f"{top}/moved")
open(f"{top}/there-before", "wb").close()
open(f"{top}/gone", "wb").close()
os.unlink(f"{top}/gone")
os.mkdir(f"{top}/gone")
os.rmdir(f"{top}/gone")
ledger = sqlite3.connect(f"{top}/ledger", isolation_level=None)
ledger.execute("PRAGMA journal_mode = WAL")
ledger.execute("CREATE TABLE t (x)")
ledger.execute("INSERT INTO t VALUES (1)")
print(f"a log speaks of {top}/d", file=sys.stderr)
with open(sys.argv[2], "ab", buffering=0) as notes:
    notes.write(b"one\\ntwo\\n")
"""


def run(script: str, place: Path) -> list[object]:
    top, notes = place / "top", place / "notes"
    return list(trace([sys.executable, "-c", script, str(top), str(notes)], top, notes))


def content_of(top: Path) -> dict[str, bytes | None]:
    """As a `State` has it."""
    paths = sorted(path for path in top.rglob("*") if not path.name.endswith("-shm"))
    return {str(path.relative_to(top)): None if path.is_dir() else path.read_bytes() for path in paths}


def test_replaying_it_gives_what_is_really_there(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "there-before").write_bytes(b"old")
    card = Card.holding(State({"there-before": b"old"}))
    operations = run(_EVERYTHING, tmp_path)
    for operation in operations:
        card.apply(operation)  # type: ignore[arg-type]
    assert card.after_cut(range(len(card.units()))).files == content_of(top)
    assert [operation.text for operation in operations if isinstance(operation, Note)] == ["one", "two"]


def test_a_recorders_life_replayed_ends_as_the_real_one_did(tmp_path: Path) -> None:
    card = Card()
    for operation in live("record", tmp_path).operations:
        card.apply(operation)
    found = content_of(tmp_path / "card")
    assert card.after_cut(range(len(card.units()))).files == found
    assert f"{KIOSK}/state/ledger.db" in found


@pytest.mark.parametrize(
    "script",
    [
        "os.symlink('x', f'{top}/link')",
        "os.writev(os.open(f'{top}/a', os.O_CREAT | os.O_WRONLY), [b'x', b'y'])",
        "os.pwritev(os.open(f'{top}/a', os.O_CREAT | os.O_WRONLY), [b'x'], 0)",
        "os.truncate(f'{top}/a', 3)",
        "os.sendfile(os.open(f'{top}/b', os.O_CREAT | os.O_WRONLY), os.open('/etc/passwd', os.O_RDONLY), 0, 5)",
        "f = open(f'{top}/a', 'r+b'); mmap.mmap(f.fileno(), 0)[0] = 1",
        "os.dup(os.open(f'{top}/a', os.O_WRONLY))",
        "os.open(top, os.O_TMPFILE | os.O_WRONLY)",
        "os.mkfifo(f'{top}/fifo')",
        "t = threading.Thread(target=open, args=(f'{top}/b', 'x')); open(f'{top}/c', 'x'); t.start(); t.join()",
    ],
)
def test_a_way_of_writing_that_the_model_does_not_know_stops_the_test(tmp_path: Path, script: str) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a").write_bytes(b"content")
    with pytest.raises(NotUnderstood):
        run(f"import mmap, os, sys, threading\ntop = sys.argv[1]\n{script}", tmp_path)
