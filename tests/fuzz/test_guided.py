"""The coverage-guided fuzzer finds nothing in half a minute a parser (tests/fuzz/guided.py)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.kiosk import ROOT
from tests.fuzz.targets import TARGETS

SECONDS = 30


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TARGETS)
def test_following_the_coverage_finds_nothing_a_parser_stumbles_over(name: str) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine", exc_type=ImportError)
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
