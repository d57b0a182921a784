"""Names and places on the card (docs/SPOOL.md), and the lock that keeps a second process out."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import KioskError
from agent.spool import InstanceLock, Layout, SegmentFile, SegmentName, files_below, replace_file, sync_directory

NAME = SegmentName("0123456789ab", 7)


def test_everything_lies_where_the_documentation_says(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    places = {
        layout.part(NAME): "spool/open/0123456789ab-000007.part",
        layout.open_meta(NAME): "spool/open/0123456789ab-000007.meta",
        layout.audio(NAME): "spool/sealed/0123456789ab-000007.flac",
        layout.meta(NAME): "spool/sealed/0123456789ab-000007.meta",
        layout.quarantine: "spool/quarantine",
        layout.ledger: "state/ledger.db",
    }
    assert {str(path.relative_to(tmp_path)) for path in places} == set(places.values())
    assert all(str(path.relative_to(tmp_path)) == place for path, place in places.items())


@pytest.mark.parametrize("suffix", [".part", ".flac", ".flac.age", ".meta"])
def test_a_file_of_ours_is_understood(suffix: str) -> None:
    assert SegmentFile.parse(f"{NAME}{suffix}") == SegmentFile(NAME, suffix)


@pytest.mark.parametrize(
    "stranger",
    ["", ".flac", "0123456789ab-000007", f"{NAME}.flac.age.2", f"{NAME}.x.flac", f"x{NAME}.flac", f"{NAME}.wav",
     "0123456789AB-000007.flac", "0123456789ab-7.flac", "0123456789ab-0000007.flac", f"{NAME}.flac.2"],
)  # fmt: skip
def test_what_is_not_quite_a_file_of_ours_is_a_strangers(stranger: str) -> None:
    assert SegmentFile.parse(stranger) is None


def test_audio_is_found_encrypted_or_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    encrypted = layout.audio_as(NAME, encrypted=True)
    assert str(encrypted.relative_to(tmp_path)) == "spool/sealed/0123456789ab-000007.flac.age"
    encrypted.touch()
    assert layout.audio(NAME) == encrypted
    assert SegmentFile.suffix_of(encrypted) == ".flac.age"


def test_a_name_that_is_none_is_quoted() -> None:
    with pytest.raises(ValueError, match="not the name of a segment: 'holiday'"):
        SegmentName.parse("holiday")


def test_a_spool_is_made_with_all_that_leads_to_it_for_its_owner_and_group_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "far" / "away")
    umask = os.umask(0)
    try:
        layout.create()
    finally:
        os.umask(umask)
    for directory in (layout.root, layout.spool, layout.open, layout.sealed, layout.quarantine):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o750
        assert not list(directory.glob("*probe*"))
    assert stat.S_IMODE(layout.state.stat().st_mode) == 0o770  # both processes write there, as two users of one group
    layout.create()


def test_a_place_that_can_not_be_written_is_told_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(KioskError) as refused:
        Layout(tmp_path).create()
    assert str(refused.value) == (
        f"use spool {tmp_path}: Not a directory\n"
        "  → point `spool.path` at a directory on a writable card that this user may write"
    )


def test_a_card_that_only_pretends_to_be_writable_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card may go on saying "rw" and refuse every write; some errors carry no text of the system's."""
    Layout(tmp_path).create()

    def refuse(*_: object) -> int:
        raise OSError("no such luck")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(KioskError, match="no such luck"):
        Layout(tmp_path).create()


def test_only_regular_files_of_the_directory_itself_are_listed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "below").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert [entry.name for entry in files_below(tmp_path)] == ["file"]
    assert list(files_below(tmp_path / "missing")) == []


def test_only_a_directory_can_be_synced_as_one(tmp_path: Path) -> None:
    sync_directory(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="Not a directory") as refused:
        sync_directory(tmp_path / "file")
    assert refused.value.errno == errno.ENOTDIR


def test_syncing_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        sync_directory(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_second_process_of_a_role_is_turned_away_and_told_who_is_there(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    (layout.state / "recorder.lock").write_text("99999999")
    held = InstanceLock(layout, "recorder")
    assert (layout.state / "recorder.lock").read_text() == str(os.getpid())
    with pytest.raises(KioskError) as refused:
        InstanceLock(layout, "recorder")
    assert str(refused.value) == (
        f"start recorder {tmp_path}: another recorder already runs here (process {os.getpid()})\n"
        "  → stop it first, or give this one another `spool.path`"
    )
    InstanceLock(layout, "courier").close()
    held.close()
    InstanceLock(layout, "recorder").close()


def test_a_holder_that_did_not_say_who_it_is_is_unknown(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    held = InstanceLock(layout, "recorder")
    os.truncate(layout.state / "recorder.lock", 0)
    with pytest.raises(KioskError, match=r"\(process unknown\)"):
        InstanceLock(layout, "recorder")
    held.close()


def test_a_card_that_became_read_only_still_lets_one_process_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.create()
    (layout.state / "recorder.lock").write_text("1")
    real = os.open

    def read_only(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    held = InstanceLock(layout, "recorder")
    with pytest.raises(KioskError, match=r"\(process 1\)"):
        InstanceLock(layout, "recorder")
    held.close()


def test_a_process_that_dies_gives_its_lock_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.create()
    program = (
        "import sys, os, pathlib; from agent.spool import InstanceLock, Layout;"
        "lock = InstanceLock(Layout(pathlib.Path(sys.argv[1])), 'recorder'); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=root, check=False)
    InstanceLock(layout, "recorder").close()


def test_a_replaced_file_is_whole_however_little_is_written_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:3]))
    replace_file(tmp_path / "file", b"0123456789", durable=False)
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(tmp_path / "file", b"old", durable=False)

    def full(_descriptor: int, _content: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        replace_file(tmp_path / "file", b"new", durable=False)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_durable_file_is_synced_before_it_takes_its_name_and_its_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(source: str, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    replace_file(tmp_path / "file", b"new", durable=True)
    assert done == ["file", "rename", "directory"]
