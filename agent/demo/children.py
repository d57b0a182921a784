"""Processes that the demonstration starts, and ends by their own id, whatever happens to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agent.commands.starting import ending_with_parent
from agent.errors import KioskError

_SHOWN_LINES = 6
_FOR_OTHERS = ("AWS_", "S3_", "WEED_", "KIOSK_")


class Child:
    """One process, whose words go into a file.

    It has a session of its own, so that Ctrl-C at the terminal reaches the demonstration alone, which then ends its
    children in order. Should the demonstration be killed, the kernel ends them: build a Child in the main thread, for
    the kernel takes the end of the thread that started one for the end of its parent.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Start `command`, an absolute path and its arguments. Raises KioskError when it can't be started."""
        self.name = name
        self._log = log
        try:
            with log.open("ab") as words:
                self._process = subprocess.Popen(
                    [*ending_with_parent(), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd=cwd,
                    start_new_session=True,
                )
        except OSError as error:
            raise KioskError(f"start {name}", place=command[0], cause=error.strerror or str(error)) from error

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Send SIGTERM; harmless when it has ended."""
        self._process.terminate()

    def wait(self, patience_s: float) -> None:
        """Wait for its end, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)

    def kill(self) -> None:
        """End it at once, if it hasn't ended, and wait for that."""
        if self.status is None:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """The end of what it wrote, for people."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_SHOWN_LINES:])


def end_all(children: Sequence[Child], patience_s: float) -> None:
    """Ask all of them to end, and end those that haven't after `patience_s`."""
    try:
        for child in children:
            child.ask_to_end()
        deadline = time.monotonic() + patience_s
        for child in children:
            child.wait(max(0.0, deadline - time.monotonic()))
    finally:
        # Also when whoever waits is told to end at once.
        for child in children:
            child.kill()


class Wish:
    """Whether somebody wants this to end: Ctrl-C, SIGTERM, or the terminal was closed.

    The first time is a wish, heard by whoever looks at `uttered`; the second is an order, KeyboardInterrupt, which
    comes at once or at the end of `held`.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.uttered = False
        self._held = self._ordered = False
        self._before = {number: signal.signal(number, self._hear) for number in self._SIGNALS}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For what must not be left half done, such as starting a process and noting that it was started."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._ordered:
            raise KeyboardInterrupt

    def forget(self) -> None:
        """Handle signals as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, _number: int, _frame: object) -> None:
        if not self.uttered:
            self.uttered = True
        elif self._held:
            self._ordered = True
        else:
            raise KeyboardInterrupt


def environment(**values: str) -> dict[str, str]:
    """This process's environment, without what the user has set for other stores and kiosks, and with `values`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(_FOR_OTHERS)}
    return ours | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | values
