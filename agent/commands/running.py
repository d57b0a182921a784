"""`kiosk-recorder run`: recorder and courier in the foreground, looked after as systemd would.

One thread a process passes its output on and starts it again when it ends. The processes stand in groups of their
own, so that Ctrl-C reaches this one alone, which then ends the recorder first (it seals the open segment) and the
courier after it. Should this process be killed, the kernel asks them to end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from agent.commands.starting import Role, ending_with_parent, lean_command, lean_environment
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, EXIT_UNUSABLE
from agent.handover import hand_over
from agent.settings import Settings
from agent.terminal import Style, painter
from agent.units import human_seconds
from hw.process import on_request_to_end

_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 30.0
_SETTLED_S: Final = 60.0
"""A process that lived this long begins with a short delay again."""

_STARTING_S: Final = 10.0
"""A recorder that finds itself unusable within this time won't be helped by another start."""

_PATIENCE_S: Final = 30.0
"""For sealing the open segment on a slow card. Who takes longer is killed; recovery makes that good."""

_STYLES: Final[dict[str, Style]] = {"recorder": "green", "courier": "yellow", "run": "bold"}


def run(settings: Settings) -> int:
    """Both processes until SIGINT or SIGTERM. Good, or unusable when the recorder can't begin."""
    stop = threading.Event()
    on_request_to_end(stop.set)
    teller = Teller(stop)
    children = [Child("recorder", settings, teller, stop)]
    if settings.upload.target or settings.mqtt.url:
        children.append(Child("courier", settings, teller, stop))
    else:
        teller.tell("run", "no courier: neither `upload.target` nor `mqtt.url` is set, recordings stay here")
    for child in children:
        child.thread.start()
    stop.wait()
    for child in children:
        child.end()
    return max(child.exit_status for child in children)


def next_delay(previous_s: float | None, lived_s: float) -> float:
    """How long to wait before a process that lived so long is started again."""
    if previous_s is None or lived_s >= _SETTLED_S:
        return _FIRST_DELAY_S
    return min(_LONGEST_DELAY_S, previous_s * 2)


class Teller:
    """Writes whole lines to standard error, each with the name of who says it. For all threads."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._paint = painter(sys.stderr)
        self._lock = threading.Lock()

    def tell(self, who: str, text: str) -> None:
        """One line. When nobody reads any more, everything ends in good order."""
        with self._lock:
            try:
                sys.stderr.write(f"{self._paint(f'{who:8} │', _STYLES[who])} {text}\n")
                sys.stderr.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
                self._stop.set()


class Child:
    """One of the two processes: started, listened to, started again, ended."""

    def __init__(self, role: Role, settings: Settings, teller: Teller, stop: threading.Event) -> None:
        self.exit_status = EXIT_GOOD
        self.thread = threading.Thread(target=self._mind, name=role)
        self._role = role
        self._settings = settings
        self._tell: Callable[[str], None] = lambda text: teller.tell(role, text)
        self._stop = stop
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def end(self) -> None:
        """Ask the process to end and wait for it."""
        with self._lock:
            self._ending.set()
            if self._process is not None:
                self._process.terminate()
        self.thread.join(_PATIENCE_S)
        if self.thread.is_alive() and self._process is not None:
            self._tell(f"didn't end within {human_seconds(_PATIENCE_S)} and is killed")
            self._process.kill()
            self.thread.join()

    def _mind(self) -> None:
        delay_s: float | None = None
        while (process := self._start()) is not None:
            began_s = time.monotonic()
            for line in process.stdout or ():
                self._tell(line.rstrip("\n"))
            status, lived_s = process.wait(), time.monotonic() - began_s
            if self._ending.is_set():
                self.exit_status = EXIT_GOOD if status == 0 else EXIT_FOUND_WRONG
                return
            if self._role == "recorder" and status == EXIT_UNUSABLE and lived_s < _STARTING_S:
                self._tell("can't record: see above")
                self.exit_status = EXIT_UNUSABLE
                self._stop.set()
                return
            delay_s = next_delay(delay_s, lived_s)
            self._tell(f"{_told(status)} and is started again in {human_seconds(delay_s)}")
            self._ending.wait(delay_s)

    def _start(self) -> subprocess.Popen[str] | None:
        """A new process, or None when everything is ending."""
        with self._lock:
            if self._ending.is_set():
                return None
            handed = hand_over(self._settings)
            try:
                self._process = subprocess.Popen(
                    [*ending_with_parent(), *lean_command(self._role, handed)],
                    env=lean_environment(os.environ),
                    pass_fds=[handed],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    process_group=0,
                )
            finally:
                os.close(handed)
            return self._process


def _told(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
