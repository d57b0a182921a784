"""Whatever is missing or broken of what the kernel tells: nobody stumbles, nobody waits, and no value is made up."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw.board import Board, Identity, Sensors, identity
from hw.memory import Memory, Swap, read_memory
from hw.storage import Card, Storage, read_storage
from tests.fuzz.damage import Damage, damaged, damages
from tests.hw.trees import SPOOL, TOP, TREES

MOST_BYTES = 64 << 10
PROMPT_S = 5.0

Picture = tuple[Identity, Board, Memory, Storage]

quick = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def look(root: Path) -> Picture:
    with Sensors(root) as sensors:
        return identity(root), sensors.read(), read_memory(root), read_storage(SPOOL, root)


def assert_honest(picture: Picture) -> None:
    """Every value is None or of its kind, and can be."""
    who, board, memory, storage = picture
    for part in (*picture, *(memory.swaps or ()), *([storage.card] if storage.card else ())):
        assert_types(part)
    assert who.model is None or who.model.startswith("Raspberry Pi ")
    assert who.model is not None or who.serial is None
    assert who.model is not None or (board.undervoltage, board.throttled) == (None, None)
    assert board.temperature_c is None or -50 <= board.temperature_c <= 150
    assert memory.pressure_pct is None or 0 <= memory.pressure_pct < 1000
    for count in (
        memory.total_bytes,
        memory.available_bytes,
        storage.errors,
        storage.first_error_s,
        storage.last_error_s,
        storage.written_bytes,
        storage.free_bytes,
        storage.free_inodes,
    ):
        assert count is None or count >= 0
    if storage.card is not None:
        used_pct = storage.card.life_used_pct
        assert used_pct is None or (storage.card.kind == "eMMC" and used_pct in range(10, 111, 10))


KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (float,),
    "Card": (Card,),
    "tuple": (tuple,),
    "Literal": (str,),
    "Spare": (str,),
}


def assert_types(part: Identity | Board | Memory | Storage | Swap | Card) -> None:
    hints = get_type_hints(type(part))
    for field in fields(part):
        value: Any = getattr(part, field.name)
        annotation = str(field.type)
        if value is None:
            assert annotation.endswith("| None"), field.name
            continue
        kind = annotation.partition(" ")[0].partition("[")[0]
        assert type(value) in KINDS[kind], (field.name, value, hints[field.name])


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trees that may be damaged, and are sound again afterwards."""
    top = tmp_path_factory.mktemp("trees")
    return {tree: Path(shutil.copytree(TOP / tree, top / tree, symlinks=True)) for tree in TREES}


@cache
def files(tree: str) -> list[Path]:
    found = (TOP / tree).rglob("*")
    return sorted(path.relative_to(TOP / tree) for path in found if path.is_file() and not path.is_symlink())


def remove(_: Path) -> None:
    pass


def make_directory(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_terminal(path: Path) -> None:
    path.symlink_to("/dev/ptmx")


def make_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_empty(path: Path) -> None:
    path.touch()


def make_garbage(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00garbage " * 400)


def make_huge(path: Path) -> None:
    path.write_bytes(b"9" * (1 << 20))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize(
    "becomes",
    [remove, make_directory, make_fifo, make_loop, make_terminal, make_endless, make_empty, make_garbage, make_huge],
)
def test_a_file_that_is_not_what_it_should_be_costs_no_more_than_its_value(
    copies: dict[str, Path], tree: str, becomes: Callable[[Path], None]
) -> None:
    sound = look(copies[tree])
    assert_honest(sound)
    for path in files(tree):
        with replaced(copies[tree] / path, becomes):
            began_s = time.monotonic()
            assert_honest(look(copies[tree]))
            assert time.monotonic() - began_s < PROMPT_S, path
    assert look(copies[tree])[:3] == sound[:3]


@quick
@given(tree=st.sampled_from(TREES), place=st.floats(0, 1, exclude_max=True), changes=damages())
def test_a_file_that_went_bad_is_understood_or_tells_nothing(
    copies: dict[str, Path], tree: str, place: float, changes: list[Damage]
) -> None:
    known = files(tree)
    path = copies[tree] / known[int(place * len(known))]
    content = path.read_bytes()
    path.write_bytes(damaged(content, changes))
    try:
        assert_honest(look(copies[tree]))
    finally:
        path.write_bytes(content)


@quick
@given(tree=st.sampled_from(TREES), place=st.floats(0, 1, exclude_max=True), content=st.binary(max_size=200))
def test_a_file_of_anything_is_understood_or_tells_nothing(
    copies: dict[str, Path], tree: str, place: float, content: bytes
) -> None:
    known = files(tree)
    path = copies[tree] / known[int(place * len(known))]
    sound = path.read_bytes()
    path.write_bytes(content)
    try:
        assert_honest(look(copies[tree]))
    finally:
        path.write_bytes(sound)


GONE = {
    "proc/device-tree/model": {"model", "serial", "undervoltage"},
    "proc/device-tree/serial-number": {"serial"},
    "sys/class/thermal/thermal_zone0/temp": {"temperature_c"},
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": {"undervoltage"},
    "proc/meminfo": {"total_bytes", "available_bytes"},
    "proc/swaps": {"swaps"},
    "proc/self/mountinfo": {
        "device",
        "card",
        "read_only",
        "errors",
        "first_error_s",
        "last_error_s",
        "written_bytes",
    },
    "sys/dev/block/179:2": {"device", "card", "errors", "first_error_s", "last_error_s", "written_bytes"},
    "sys/fs/ext4/mmcblk0p2/errors_count": {"errors"},
    "sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes": {"written_bytes"},
}


@pytest.mark.parametrize("path", GONE)
def test_what_is_gone_takes_nothing_else_with_it(copies: dict[str, Path], path: str) -> None:
    root = copies["pi4"]
    sound = values(look(root))
    with replaced(root / path, remove):
        left = values(look(root))
    changed = {name for name in sound if left[name] != sound[name]}
    assert changed == GONE[path]
    assert all(left[name] is None for name in changed)


def values(picture: Picture) -> dict[str, object]:
    """By name, but for how full the machine's own disk is."""
    told = {field.name: getattr(part, field.name) for part in picture for field in fields(part)}
    return {name: value for name, value in told.items() if not name.startswith(("size_", "free_"))}


def test_a_reading_starts_no_process_and_reads_little(
    tell: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    for name in ("fork", "posix_spawn", "system"):
        monkeypatch.setattr(os, name, never)
    monkeypatch.setattr(subprocess, "Popen", never)
    for root in (Path("/"), *(TOP / tree for tree in TREES)):
        with Sensors(root) as sensors:
            for _ in range(3):
                before, began_s = read_so_far(), time.perf_counter()
                sensors.read(), read_memory(root), read_storage(SPOOL, root)
                took_ms, taken = (time.perf_counter() - began_s) * 1000, read_so_far() - before
                assert taken < MOST_BYTES, root
        tell(f"hardware read in {took_ms:.2f} ms, {taken} bytes: {root.name or 'this machine'}")


def read_so_far() -> int:
    """Bytes this thread has read from files, in its life."""
    counts = Path(f"/proc/self/task/{threading.get_native_id()}/io").read_text()
    return int(counts.split()[1])


class replaced:  # noqa: N801 (reads as a verb)
    """A file that is something else for a while."""

    def __init__(self, path: Path, becomes: Callable[[Path], None]) -> None:
        self.path, self.aside, self.becomes = path, path.with_name("aside"), becomes

    def __enter__(self) -> None:
        self.path.rename(self.aside)
        self.becomes(self.path)

    def __exit__(self, *_: object) -> None:
        if self.path.is_symlink() or self.path.exists():
            shutil.rmtree(self.path) if self.path.is_dir() and not self.path.is_symlink() else self.path.unlink()
        self.aside.rename(self.path)
