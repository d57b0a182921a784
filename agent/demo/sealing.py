"""A key of the demonstration's own: recordings are encrypted to it as they are made, and opened with it at the end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.contract import age, new_file


@dataclass(frozen=True, slots=True)
class Key:
    """Somebody who may hear what is recorded."""

    file: Path
    public: str
    identities: tuple[age.Identity, ...]

    @property
    def label(self) -> str:
        """Which one it is."""
        return age.label(self.public)


def throw_away(directory: Path) -> Key:
    """A new one, in a file that lasts as long as `directory`. Raises OSError."""
    secret, public = age.key_pair()
    file = directory / "key.txt"
    new_file.make(file, secret.encode(), mode=0o600)
    return Key(file, public, tuple(age.identities(file)))
