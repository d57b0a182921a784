"""Every state that a power cut may leave, recovered from by the real recovery (docs/SPOOL.md, invariants 1 to 6)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.checker import Findings, check, check_recoveries, live
from tests.crash.cuts import Life
from tests.crash.plants import ERASING, PLANTS

pytestmark = [pytest.mark.usefixtures("strace"), pytest.mark.timeout(900)]


def enumerate_cuts(life: Life, *, seed: int, draws: int, draws_in_recovery: int) -> Findings:
    """Cuts all through a life, and all through a recovery from one state of each kind."""
    findings = check(life, seed=seed, draws=draws)
    beginnings = [cut for _, cut in sorted(findings.recovered.items())]
    findings.add(check_recoveries(life, beginnings, seed=seed, draws=draws_in_recovery))
    return findings


def test_no_power_cut_breaks_a_promise(tmp_path: Path, tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    findings = enumerate_cuts(live("record", tmp_path), seed=1, draws=3, draws_in_recovery=0)
    tell(f"{findings} in {time.monotonic() - began:.0f} s")
    assert not findings.violations, str(findings)
    assert len(findings.states) >= 5000


def test_no_power_cut_breaks_a_promise_about_what_is_encrypted(tmp_path: Path, tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    findings = check(live("record", tmp_path, encrypted=True), seed=1, draws=0)
    tell(f"encrypted: {findings} in {time.monotonic() - began:.0f} s")
    assert not findings.violations, str(findings)
    assert len(findings.states) >= 500


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_no_power_cut_leaves_an_erasure_half_done(
    tmp_path: Path, tell: Callable[[str], None], *, encrypted: bool
) -> None:
    """Either the order still waits, or the journal tells of it and nothing is left of what it names."""
    began = time.monotonic()
    findings = check(live("erase", tmp_path, encrypted=encrypted), seed=1, draws=1)
    kind = "encrypted" if encrypted else "plain"
    tell(f"erasing, {kind}: {findings} in {time.monotonic() - began:.0f} s")
    assert not findings.violations, str(findings)
    assert len(findings.states) >= 300


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("seed", range(2, 7))
def test_no_power_cut_breaks_a_promise_however_the_card_is_torn(
    tmp_path: Path, tell: Callable[[str], None], *, seed: int, encrypted: bool
) -> None:
    findings = enumerate_cuts(live("record", tmp_path, encrypted=encrypted), seed=seed, draws=12, draws_in_recovery=2)
    tell(f"{findings} (seed {seed})")
    assert not findings.violations, str(findings)


@pytest.mark.parametrize(
    ("program", "plant"), [*(("record", plant) for plant in PLANTS), *(("erase", plant) for plant in ERASING)]
)
def test_a_planted_mistake_is_caught(tmp_path: Path, tell: Callable[[str], None], program: str, plant: str) -> None:
    findings = check(live(program, tmp_path, plant=plant), seed=1, draws=1, enough=1)
    tell(f"{plant}: " + (str(findings.violations[0]) if findings.violations else "not caught"))
    assert findings.violations
