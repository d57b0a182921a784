"""What the power cuts came to is told at the end of the run: how many there were is the figure."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest

_TOLD = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the summary of the run."""
    return request.config.stash.setdefault(_TOLD, []).append


@pytest.fixture(scope="session")
def strace() -> None:
    """Skips where processes can't be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"processes can't be traced here: {tried.stderr.strip()}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if told := config.stash.get(_TOLD, []):
        terminalreporter.section("power cuts")
        for line in told:
            terminalreporter.write_line(line)
