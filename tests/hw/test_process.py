"""A process that is asked to end does so, whatever its main thread is in the midst of."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.kiosk import ROOT

PROGRAM = """
import signal, threading
from hw.process import on_request_to_end

taken, ended = threading.Lock(), threading.Event()

def end():
    with taken:
        ended.set()

on_request_to_end(end)
with taken:
    signal.raise_signal(signal.{number})
print(ended.wait(20))
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_while_the_main_thread_holds_a_lock_is_heeded(number: str) -> None:
    """An event's lock is such a one: who waits for it holds it for a moment before and after."""
    command = [sys.executable, "-c", PROGRAM.format(number=number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
