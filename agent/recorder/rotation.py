"""Recipients that were ordered by command: they count instead of the file's, whatever it says.

The command is kept as it came, signature and all, and judged again at each start: whoever can write to the card can't
add a recipient of his own. Kept twice as `recipients.json`: in `<spool.path>` it is durable, in `<runtime>/direct` it
survives a restart while the card can't be used. Of two commands the one that was issued later counts, in whatever order
they came: a key that was revoked doesn't come back with an older command.

From encrypted there is no way back to plain. Where such a command was kept and can't be judged any more, the file's
recipients count again; where it has none, nothing is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.contract.commands import Command, judge_again
from agent.errors import KioskError
from agent.recorder.memory import kept_in
from agent.spool import replace_file

log = logging.getLogger(__name__)

FILE: Final = "recipients.json"
VERB: Final = "rotate-recipients"


@dataclass(frozen=True, slots=True)
class Rotation:
    """A command that counts, and what it orders."""

    issued_ns: int
    recipients: tuple[str, ...]
    payload: bytes
    """As it came."""


def rotation_of(command: Command, payload: bytes) -> Rotation:
    """What `command`, which was judged, orders."""
    return Rotation(command.issued_ns, tuple(command.args["recipients"]), payload)


def remembered(
    card: Path, memory: Path, *, keys: Collection[str], target: str, configured: Collection[str]
) -> Rotation | None:
    """The newest that was kept in two directories and still counts; None: the file's recipients do (`configured`).

    Raises KioskError when there may be one that can't be obeyed, and the file names no recipients.
    """
    found: list[Rotation] = []
    trouble: tuple[Path, str, bool] | None = None
    for path in kept_in(card, memory, FILE):
        try:
            payload = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            trouble = path, f"can't be read: {error.strerror}", True
            continue
        judged = judge_again(payload, keys=keys, target=target, able={VERB})
        if isinstance(judged, Command):
            found.append(rotation_of(judged, payload))
        else:
            trouble = path, f"doesn't count any more: {judged.text}", False
    if found:
        return max(found, key=lambda each: each.issued_ns)
    if trouble is not None and (keys or not trouble[2]):
        _tell(*trouble, configured)
    return None


def _tell(path: Path, what: str, passing: bool, configured: Collection[str]) -> None:  # noqa: FBT001 (of a triple)
    if configured:
        log.error("%s %s; the recipients of config.toml count", path, what)
        return
    raise KioskError(
        "encrypt recordings",
        place=str(path),
        cause=f"the command that named recipients {what}",
        hint="name recipients in `seal.recipients`; nothing is recorded unencrypted instead",
        retryable=passing,
    )


def keep(directory: Path, rotation: Rotation, *, durable: bool) -> None:
    """Replace the file in `directory`; on return it survives a power cut, if it's to be `durable`. Raises OSError."""
    replace_file(directory / FILE, rotation.payload, durable=durable)
