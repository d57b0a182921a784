"""The highest version of each fleet document that this machine has seen at a broker.

    {"mqtts://broker:8884": {"flags": 8, "rollout": 3}}

A broker keeps what it is given: it may have lost its memory, or been given an old document anew, whose signature is as
good as ever. Kiosks remember for themselves; this is what an admin's tools remember, in `seen.json` beside the keys.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.contract.evaluation import HIGHEST_VERSION
from agent.errors import KioskError


@dataclass(frozen=True, slots=True)
class Sightings:
    """Of one broker. Two programs at once may forget each other's newest: the next look sees it again."""

    path: Path
    broker: str

    def highest(self, kind: str) -> int:
        """0 when none was seen. Raises KioskError."""
        found = self._all().get(self.broker, {}).get(kind, 0)
        return found if type(found) is int and 0 <= found <= HIGHEST_VERSION else 0

    def note(self, kind: str, version: int) -> None:
        """Remember a version, if it is the highest yet. Raises KioskError."""
        if version <= self.highest(kind):
            return
        known = self._all()
        known.setdefault(self.broker, {})[kind] = version
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".seen-")
            with os.fdopen(descriptor, "w") as file:
                json.dump(known, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError as error:
            raise self._error(error.strerror or str(error), "it has to be writable") from error

    def _all(self) -> dict[str, dict[str, int]]:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise self._error(str(error), "look at it; without it old documents aren't told from new ones") from error
        if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
            raise self._error("it isn't what this program writes", "remove it")
        return found

    def _error(self, cause: str, hint: str) -> KioskError:
        return KioskError("remember versions", place=str(self.path), cause=cause, hint=hint)
