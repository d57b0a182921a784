"""The card: its speed, its room, its errors."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.checkup import card
from agent.checkup.card import Room, hours_a_week, space, speed
from agent.hours import ALWAYS, Hours
from agent.settings import Capture, Schedule, Upload
from agent.units import Duration, Size
from hw.storage import sync_latencies
from tests.card import Card
from tests.checkup.kiosk import found, kiosk, visit
from tests.cli.kiosk import ROOT

GIB = 1 << 30
HOURLY = 60 << 20
"""About what an hour of 16 kHz mono takes."""


def roomy(free: int = 20 * GIB, spool: int = 0) -> Room:
    return Room(size=32 * GIB, free=free, spool=spool)


def test_it_says_for_how_long_there_is_room(tmp_path: Path) -> None:
    finding = space(roomy(), kiosk(tmp_path, cap=Size(8 * GIB)), HOURLY)
    assert finding.verdict == "green"
    assert finding.text == (
        "8 GiB holds 5 d 16 h at these settings (60 MiB an hour, 24 hours a day); then the oldest are given up"
    )
    assert finding.facts["holds_days"] == 5.69


def test_what_the_spool_takes_already_is_its_own(tmp_path: Path) -> None:
    settings = kiosk(tmp_path, cap=Size(8 * GIB), keep_free=Size(GIB))
    assert space(roomy(free=2 * GIB, spool=7 * GIB), settings, HOURLY).verdict == "green"
    assert space(roomy(free=2 * GIB, spool=0), settings, HOURLY).verdict == "yellow"


def test_a_cap_that_the_file_system_can_not_hold_is_yellow(tmp_path: Path) -> None:
    finding = space(roomy(), kiosk(tmp_path, cap=Size(64 * GIB)), HOURLY)
    assert finding.verdict == "yellow"
    assert finding.way_out == "lower `spool.cap` below 20 GiB, or take a larger card"


def test_a_full_card_is_red(tmp_path: Path) -> None:
    finding = space(roomy(free=GIB // 2, spool=7 * GIB), kiosk(tmp_path, keep_free=Size(GIB)), HOURLY)
    assert finding.verdict == "red"
    assert "recordings are given up" in finding.text


def test_room_for_less_than_an_hour_is_red(tmp_path: Path) -> None:
    assert space(roomy(), kiosk(tmp_path, cap=Size(HOURLY // 2)), HOURLY).verdict == "red"


def test_no_day_without_a_network_is_yellow(tmp_path: Path) -> None:
    settings = kiosk(tmp_path, cap=Size(GIB), upload=Upload(target="s3://bucket"))
    assert space(roomy(), settings, HOURLY).verdict == "yellow"
    assert space(roomy(), kiosk(tmp_path, cap=Size(GIB)), HOURLY).verdict == "green"


def test_without_anything_heard_the_most_that_it_can_take_counts(tmp_path: Path) -> None:
    finding = space(roomy(), kiosk(tmp_path, cap=Size(8 * GIB)), None)
    assert "8 GiB holds at least 2 d 22 h" in finding.text


def test_max_age_is_told_when_it_comes_first(tmp_path: Path) -> None:
    finding = space(roomy(), kiosk(tmp_path, cap=Size(8 * GIB), max_age=Duration(86400)), HOURLY)
    assert finding.text.endswith("; spool.max_age gives them up after 1d")


def test_the_schedule_s_hours_count(tmp_path: Path) -> None:
    weekdays = dict.fromkeys(("mon", "tue", "wed", "thu", "fri"), (Hours(480, 960),))
    settings = replace(
        kiosk(tmp_path, capture=Capture(mode="scheduled"), cap=Size(8 * GIB)), schedule=Schedule(**weekdays)
    )
    assert "8 GiB holds 23 d 21 h at these settings (60 MiB an hour, 5.71 hours a day)" in (
        space(roomy(), settings, HOURLY).text
    )
    assert space(roomy(), replace(settings, schedule=Schedule()), HOURLY).verdict == "red"


def test_a_week_has_its_hours() -> None:
    assert hours_a_week(ALWAYS) == 168
    assert hours_a_week(((Hours(1320, 360),), *((),) * 6)) == 8


@pytest.mark.parametrize(
    ("latencies", "verdict"),
    [
        ([0.01] * 40, "green"),
        ([0.01] * 38 + [0.4, 2.0], "green"),
        ([0.01] * 35 + [0.4] * 5, "yellow"),
        ([0.6] * 40, "red"),
    ],
)
def test_a_card_is_judged_by_how_long_syncs_take(latencies: list[float], verdict: str) -> None:
    assert speed(latencies, 2.0).verdict == verdict


def test_measuring_leaves_nothing_behind(tmp_path: Path) -> None:
    latencies = sync_latencies(tmp_path, 5, 4096)
    assert len(latencies) == 5
    assert min(latencies) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_nameless_files_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.O_TMPFILE", 0)
    assert len(sync_latencies(tmp_path, 5, 4096)) == 5
    assert list(tmp_path.iterdir()) == []


_SPEED_OF = """
import sys
from pathlib import Path
from agent.checkup.card import speed
from hw.storage import sync_latencies
print(speed(sync_latencies(Path(sys.argv[1]), 5, 8192), 2.0).verdict)
"""


def test_a_card_that_syncs_slowly_is_red(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    slow = ["strace", "-f", "-o", str(tmp_path / "trace"), "-e", "trace=fdatasync"]
    slow += ["-e", "inject=fdatasync:delay_enter=600000"]
    command = [*slow, sys.executable, "-P", "-c", _SPEED_OF, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.stdout == "red\n", done.stderr


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Card]:
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4")
    try:
        made = Card(tmp_path / "card", tmp_path / "image", 64, 1000)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs root and loop devices: {error}")
    yield made
    made.take_out()


def test_a_real_card_that_is_full_is_red(ext4: Card) -> None:
    checked = visit(kiosk(ext4.path, keep_free=Size(1 << 20)), bytes_per_hour=1 << 20)
    assert found(card.look, checked)["space"].verdict == "yellow"
    ext4.fill()
    findings = found(card.look, checked)
    assert findings["space"].verdict == "red"
    assert findings["speed"].verdict == "red"
    assert "No space left" in findings["speed"].text


def test_a_real_card_that_has_become_read_only_is_red(ext4: Card) -> None:
    ext4.become_read_only()
    findings = found(card.look, visit(kiosk(ext4.path)))
    assert {findings["speed"].verdict, findings["file system"].verdict} == {"red"}
