"""What the units' own text can show. That it holds is tried under a real systemd in tests/machine."""

from __future__ import annotations

import configparser
import shutil
import subprocess

import pytest

from agent.dropins import UNITS, drop_in
from tests.install.machine import ROOT

SYSTEM = ROOT / "image" / "system"

MOST_EXPOSED = 10
"""Tenths: 1.0 of 10, as systemd-analyze counts it."""


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd isn't installed")
    return found


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_by_no_more_than_a_tenth(systemd_analyze: str, unit: str) -> None:
    judged = subprocess.run(
        [systemd_analyze, "security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}", SYSTEM / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout


@pytest.mark.parametrize("unit", sorted(path.name for path in SYSTEM.glob("*.service")))
def test_systemd_understands_every_line(systemd_analyze: str, unit: str) -> None:
    said = subprocess.run([systemd_analyze, "verify", SYSTEM / unit], capture_output=True, text=True, check=False)
    # The release that it runs isn't installed here.
    assert [line for line in said.stderr.splitlines() if "is not executable" not in line and unit in line] == []


@pytest.mark.parametrize("unit", UNITS)
def test_neither_network_nor_time_is_waited_for(unit: str) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(SYSTEM / unit)
    waited = " ".join(parser["Unit"].get(key, "") for key in ("After", "Wants", "Requires"))
    assert not {"network-online.target", "network.target", "time-sync.target"} & set(waited.split())


def test_a_usual_configuration_needs_no_drop_in() -> None:
    for unit in UNITS:
        assert drop_in(unit, {"device": {"site": "north"}, "upload": {"target": "s3://bucket"}}) == ""


def test_a_path_is_written_so_that_systemd_reads_it_back() -> None:
    text = drop_in("kiosk-courier.service", {"upload": {"target": 'file:///mnt/100% "ours"'}})
    assert 'ReadWritePaths="-/mnt/100%% \\"ours\\""' in text.splitlines()
