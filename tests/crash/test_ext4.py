"""Power cuts on a real ext4, data=ordered (a Raspberry Pi's) and data=journal."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.crash.ext4 import HOWS, Point, count_changes, hide_mounts, make_image, mounted, points, try_point
from tests.crash.plants import LEAKS

pytestmark = [pytest.mark.usefixtures("strace"), pytest.mark.timeout(900)]


@pytest.fixture
def ram() -> Iterator[Path]:
    """A directory in RAM: a card's image there costs the machine's own disk nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="ext4-") as place:
        if os.geteuid():
            pytest.skip("mounting an image takes root")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            if why := pool.apply(_why_not, (Path(place),)):
                pytest.skip(f"no ext4 image can be mounted and shut down here: {why}")
        yield Path(place)


def _why_not(place: Path) -> str:
    try:
        hide_mounts()
        make_image(place / "probe")
        with mounted(place / "probe", place / "mounted", "journal"):
            return ""
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    except OSError as error:
        return str(error)


def cut_at(chosen: list[Point], ram: Path, *, plant: str = "", encrypted: bool = False) -> dict[Point, tuple[str, ...]]:
    """What each point broke, tried on every core."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), hide_mounts) as pool:
        return dict(pool.imap_unordered(partial(_try, ram=ram, plant=plant, encrypted=encrypted), chosen))


def _try(point: Point, *, ram: Path, plant: str, encrypted: bool) -> tuple[Point, tuple[str, ...]]:
    with tempfile.TemporaryDirectory(dir=ram) as place:
        return point, try_point(point, Path(place), plant=plant, encrypted=encrypted)


_LONG = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("count", "encrypted"),
    [(160, False), (24, True), pytest.param(1040, False, marks=_LONG), pytest.param(1040, True, marks=_LONG)],
    ids=str,
)
def test_no_power_cut_on_ext4_breaks_a_promise(
    ram: Path, tell: Callable[[str], None], *, count: int, encrypted: bool
) -> None:
    began = time.monotonic()
    chosen = points(count, count_changes(ram / "counted", encrypted=encrypted))
    broken = cut_at(chosen, ram, encrypted=encrypted)
    bad = {point: what for point, what in broken.items() if what}
    ways = ", ".join(f"{n} {how} data={data}" for (how, data), n in Counter((p.how, p.data) for p in broken).items())
    tell(f"ext4: {len(broken)} points ({ways}), {len(bad)} violations in {time.monotonic() - began:.0f} s")
    assert not bad
    assert len(broken) == count


def test_a_recorder_without_fsync_is_caught_on_ext4(ram: Path, tell: Callable[[str], None]) -> None:
    changes = count_changes(ram / "counted")
    chosen = [Point(changes * eighth // 8, "journal lost", "ordered") for eighth in range(1, 8)]
    caught = [what for what in cut_at(chosen, ram, plant="without fsync").values() if what]
    tell(f"ext4, without fsync: {len(caught)} of {len(chosen)} points caught it")
    assert caught


@pytest.mark.parametrize("leak", LEAKS)
def test_what_lies_on_an_encrypted_card_in_plain_is_found(ram: Path, tell: Callable[[str], None], leak: str) -> None:
    changes = count_changes(ram / "counted", encrypted=True)
    chosen = [Point(changes * part // 3, how, "ordered") for part in (1, 2) for how in HOWS[:2]]
    caught = [what for what in cut_at(chosen, ram, plant=leak, encrypted=True).values() if what]
    tell(f"ext4, {leak}: {len(caught)} of {len(chosen)} points caught it")
    assert all("in plain" in str(what) for what in caught)
    assert caught
