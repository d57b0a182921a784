"""Commands for a guest: the protocol of QEMU's guest agent, JSON lines over a serial line.

No network and no login is in between, so what a test does to the network doesn't cut it off from the guest.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

_POLL_S: Final = 0.05
_LONGEST_POLL_S: Final = 2.0
"""Each question costs an emulated processor milliseconds, so what takes longer is asked for less often."""

_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    status: int
    output: str
    error: str


class Agent:
    """The far end of the line. Raises OSError when the guest is gone, TimeoutError when it doesn't answer."""

    def __init__(self, path: Path) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(str(path))
        self._answers = self._line.makefile("rb")
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._line.close()

    def wait(self, seconds: float) -> None:
        """Until somebody answers there, for a boot takes its time."""
        deadline = time.monotonic() + seconds
        while not self._answers_now():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody answers in the guest after {seconds:g} s")

    def run(self, command: str, seconds: float) -> Done:
        """What became of a bash command. What it leaves in the background must not hold on to its output."""
        started = self._ask(
            "guest-exec", {"path": "/bin/bash", "arg": ["-c", command], "env": [_PATH], "capture-output": True}
        )
        began = time.monotonic()
        while not (seen := self._ask("guest-exec-status", {"pid": started["pid"]}))["exited"]:
            elapsed = time.monotonic() - began
            if elapsed > seconds:
                raise TimeoutError(f"not done after {seconds:g} s: {command}")
            time.sleep(min(_LONGEST_POLL_S, max(_POLL_S, elapsed / 10)))
        status = seen.get("exitcode", -seen.get("signal", 0))
        return Done(status, _text(seen, "out-data"), _text(seen, "err-data"))

    def _answers_now(self) -> bool:
        number = next(self._numbers)
        self._line.settimeout(1)
        with contextlib.suppress(TimeoutError):
            # 0xFF ends whatever half a message lies there, in both directions.
            self._line.sendall(b"\xff" + _written("guest-sync-delimited", {"id": number}))
            while line := self._answers.readline():
                with contextlib.suppress(ValueError):
                    if json.loads(line.rpartition(b"\xff")[2]).get("return") == number:
                        self._line.settimeout(60)
                        return True
            time.sleep(_POLL_S)
        # A file doesn't read on after a timeout.
        self._answers = self._line.makefile("rb")
        return False

    def _ask(self, what: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        self._line.sendall(_written(what, arguments))
        line = self._answers.readline()
        if not line:
            raise ConnectionError("the guest is gone")
        answer: dict[str, Any] = json.loads(line)
        assert "return" in answer, answer
        result: dict[str, Any] = answer["return"]
        return result


def _written(what: str, arguments: Mapping[str, object]) -> bytes:
    return json.dumps({"execute": what, "arguments": arguments}).encode() + b"\n"


def _text(seen: Mapping[str, Any], name: str) -> str:
    return base64.b64decode(seen.get(name, "")).decode(errors="replace")
