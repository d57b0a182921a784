"""The courier as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.handover import hand_over
from agent.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Courier:
    """A running courier and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(10)


@contextmanager
def courier(
    settings: Settings,
    environment: dict[str, str],
    *arguments: str,
    hasty: float | None = None,
    root: Path = Path("/"),
    beside: Path | None = None,
) -> Iterator[Courier]:
    """`python -m agent.courier`, ended when the block is left, if it hasn't ended before.

    A `hasty` one's clock is that many times too fast (`tests.faults.hasty_courier`), and `root` is its machine's. What
    it keeps in memory and its log are `beside` the spool, or in it.
    """
    beside = beside or settings.spool.path
    runtime = beside / "run"
    runtime.mkdir(exist_ok=True)
    log = beside / "courier.log"
    descriptor = hand_over(settings)
    command = [sys.executable, "-m", "agent.courier", "--settings-fd", str(descriptor), *arguments]
    if hasty is not None:
        command[2:] = ["tests.faults.hasty_courier", str(descriptor), str(hasty), str(root)]
    chosen = {**os.environ, "RUNTIME_DIRECTORY": str(runtime), "AWS_EC2_METADATA_DISABLED": "true", **environment}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, pass_fds=[descriptor], env=chosen, cwd=ROOT
        )
    os.close(descriptor)
    try:
        yield Courier(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def run_once(settings: Settings, environment: dict[str, str]) -> tuple[int, str]:
    """`python -m agent.courier --once`: its exit status and what it said."""
    with courier(settings, environment, "--once") as running:
        return running.process.wait(60), running.said
