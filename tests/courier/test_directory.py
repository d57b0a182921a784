"""What only a directory can do."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from agent.courier.pace import Pace
from agent.courier.targets import NeedsPerson, Outgoing, Receipt, TargetError, Unreachable
from agent.courier.targets.directory import DirectoryTarget
from tests.clocks import FakeClock

KEY = "north/room-12/2026/03/01/recording.flac"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "disk"
    made.mkdir()
    return made


@pytest.fixture
def target(root: Path) -> DirectoryTarget:
    return DirectoryTarget(root)


@pytest.fixture
def pace(clock: FakeClock) -> Pace:
    return Pace(0, clock, threading.Event())


@pytest.fixture
def item(tmp_path: Path) -> Outgoing:
    path = tmp_path / "recording.flac"
    path.write_bytes(b"fLaC" * 1000)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Outgoing(path=path, key=KEY, sha256=digest, size=4000, metadata={"kr-run": "a"})


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_what_is_said_about_a_recording_lies_beside_it(
    root: Path, target: DirectoryTarget, pace: Pace, item: Outgoing
) -> None:
    target.put(item, pace)
    assert files(root) == [KEY, f"{KEY}.json"]
    assert json.loads((root / f"{KEY}.json").read_text()) == {"kr-run": "a", "sha256": item.sha256, "bytes": 4000}


def test_the_remains_of_an_attempt_that_was_killed_are_written_over(
    root: Path, target: DirectoryTarget, pace: Pace, item: Outgoing
) -> None:
    torn = root / KEY
    torn.parent.mkdir(parents=True)
    torn.with_name(f".{torn.name}.part").write_bytes(b"torn and longer than the recording" * 1000)
    assert target.put(item, pace) == Receipt("stored")
    assert files(root) == [KEY, f"{KEY}.json"]
    assert torn.read_bytes() == item.path.read_bytes()


def test_a_file_system_without_hard_links_does_as_well(
    root: Path, target: DirectoryTarget, pace: Pace, item: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    assert target.put(item, pace) == Receipt("stored")
    assert files(root) == [KEY, f"{KEY}.json"]


def test_a_disk_that_is_taken_away_is_not_replaced_by_the_bare_mount_point(
    root: Path, target: DirectoryTarget, pace: Pace, item: Outgoing, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.put(item, pace)
    root.rename(root.with_name("unplugged"))
    with pytest.raises(NeedsPerson, match="connected"):
        target.put(item, pace)
    root.mkdir()
    real = Path.stat
    moved = os.stat_result((*real(root)[:2], real(root).st_dev + 1, *real(root)[3:]))
    monkeypatch.setattr(Path, "stat", lambda path, **how: moved if path == root else real(path, **how))
    with pytest.raises(NeedsPerson, match="taken away"):
        target.put(item, pace)
    monkeypatch.undo()
    assert files(root) == []
    assert target.put(item, pace) == Receipt("stored")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, NeedsPerson),
        (errno.EDQUOT, NeedsPerson),
        (errno.EROFS, NeedsPerson),
        (errno.EACCES, NeedsPerson),
        (errno.EIO, Unreachable),
        (errno.ESTALE, Unreachable),
    ],
)
def test_every_trouble_of_the_disk_is_of_its_kind_and_leaves_no_recording(
    root: Path,
    target: DirectoryTarget,
    pace: Pace,
    item: Outgoing,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    kind: type[TargetError],
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(TargetError) as caught:
            target.put(item, pace)
    assert type(caught.value) is kind
    assert caught.value.cause == os.strerror(code)
    assert caught.value.hint
    assert KEY not in files(root)
    assert target.put(item, pace) == Receipt("stored")


def test_a_target_that_is_a_file_needs_a_person(tmp_path: Path, pace: Pace, item: Outgoing) -> None:
    (tmp_path / "disk").write_text("no directory")
    with pytest.raises(NeedsPerson, match=r"upload\.target"):
        DirectoryTarget(tmp_path / "disk").put(item, pace)


def test_a_directory_has_no_clock_of_its_own(target: DirectoryTarget) -> None:
    assert target.server_time() is None
