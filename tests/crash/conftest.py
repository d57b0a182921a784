"""What tests of power cuts need of their machine."""

from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def strace() -> None:
    """Skips where processes can't be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is missing")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"processes can't be traced here: {tried.stderr.strip()}")
