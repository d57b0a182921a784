"""Where the courier hands signed commands to the recorder, and the recorder answers: files in memory.

    <runtime>/commands/<id>     the payload as it came, signed
    <runtime>/results/<id>      what became of it, a JSON object

A file appears whole or not at all. Each side alone removes what it was given; a payload that the recorder hasn't taken
can be withdrawn by the courier, and of the two only one succeeds. Nothing here survives a power cut, by intent
(docs/adr/0011): what was obeyed is in the recorder's own records by then.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agent.contract.commands import ID
from agent.contract.signed import LONGEST_BYTES
from agent.spool import replace_file

_MOST: Final = 64
"""Payloads taken at one look, and kept waiting at one time."""


class Mailbox:
    """Both directions. Raises OSError when the runtime directory can't be used."""

    def __init__(self, runtime: Path) -> None:
        self._commands = runtime / "commands"
        self._results = runtime / "results"

    # The courier's side.

    def hand_over(self, name: str, payload: bytes) -> bool:
        """Give a payload to the recorder. False: too many wait there already."""
        self._commands.mkdir(parents=True, exist_ok=True)
        if len(_names(self._commands)) >= _MOST:
            return False
        replace_file(self._commands / name, payload, durable=False)
        return True

    def withdraw(self, name: str) -> bool:
        """Take a payload back. False: the recorder has it."""
        return _removed(self._commands / name)

    def answer(self, name: str) -> dict[str, Any] | None:
        """Take the answer; None when there is none yet."""
        path = self._results / name
        try:
            found = json.loads(_read(path))
        except FileNotFoundError:
            return None
        except ValueError:
            found = None
        _removed(path)
        return found if isinstance(found, dict) else {}

    # The recorder's side.

    def mark(self) -> int:
        """A number that changes when something was handed over: one stat, for whoever looks often."""
        try:
            return os.stat(self._commands).st_mtime_ns  # noqa: PTH116 (once a second for ever: no pathlib in between)
        except OSError:
            return 0

    def take(self) -> dict[str, bytes]:
        """What was handed over, by id; it is gone from here."""
        taken = {}
        for name in _names(self._commands)[:_MOST]:
            with suppress(OSError):
                payload = _read(self._commands / name)
                if _removed(self._commands / name):
                    taken[name] = payload
        return taken

    def reply(self, name: str, content: dict[str, Any]) -> None:
        """Say what became of it."""
        self._results.mkdir(parents=True, exist_ok=True)
        replace_file(self._results / name, json.dumps(content).encode(), durable=False)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if ID.fullmatch(name))  # noqa: PTH208 (names alone)
    except FileNotFoundError:
        return []


def _read(path: Path) -> bytes:
    """At most what a payload may have, and one byte more, which then tells."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, LONGEST_BYTES["command"] + 1)
    finally:
        os.close(descriptor)


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
