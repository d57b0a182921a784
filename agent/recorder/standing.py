"""What stays in force when the recorder ends: the quiets, and which commands were obeyed.

    {"generation": n, "quiets": [[reason, source, boot, until_ns, length_ns, wall_until_ns], …],
     "obeyed": {id: expires_ns, …}, "crc": n}

Kept twice: `<spool.path>/orders.json` is durable, and beside `spool/` and `state/` because it's the recorder's alone;
`<runtime>/direct/orders.json` is in memory, for a restart while the card can't be used. Of two the newer generation
counts.
It is read before the microphone is opened, long before the ledger is ready: that's why it isn't in there.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Final, get_args

from agent.contract.commands import REMEMBERED_NS
from agent.recorder.memory import kept_in
from agent.recorder.quiet import Moment, Quiet, Reason, Source, begun, lasting
from agent.spool import replace_file

log = logging.getLogger(__name__)

FILE: Final = "orders.json"

_MOST_EXPIRED: Final = 500
"""Of those that have expired no more are known: the file is written whole each time."""


class Damaged(Exception):
    """A file that can't be understood."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Replaced as a whole, never changed."""

    generation: int = 0
    quiets: tuple[Quiet, ...] = ()
    obeyed: Mapping[str, int] = field(default_factory=dict)
    """When each command that was obeyed expires, in wall time."""

    def quieted(self, quiets: tuple[Quiet, ...], now: Moment) -> Standing:
        """With other quiets."""
        return replace(self, generation=self.generation + 1, quiets=lasting(quiets, now))

    def after(self, quiets: tuple[Quiet, ...], command: str, expires_ns: int, now: Moment) -> Standing:
        """With other quiets, and one more command that was obeyed; without what nobody needs to know any more."""
        wall_ns = now.wall_ns or 0
        living = {name: until_ns for name, until_ns in self.obeyed.items() if until_ns > wall_ns}
        expired = sorted(self.obeyed.items() - living.items(), key=lambda known: known[1])[-_MOST_EXPIRED:]
        known = {name: until_ns for name, until_ns in expired if until_ns > wall_ns - REMEMBERED_NS}
        return replace(self.quieted(quiets, now), obeyed=known | living | {command: expires_ns})


def encoded(standing: Standing) -> bytes:
    """As it's kept."""
    content = {
        "generation": standing.generation,
        "quiets": [astuple(quiet) for quiet in standing.quiets],
        "obeyed": dict(standing.obeyed),
    }
    return json.dumps(content | {"crc": _checksum(content)}).encode()


def decoded(text: bytes) -> Standing:
    """What `encoded` made. Raises Damaged."""
    try:
        content = json.loads(text)
        checksum = content.pop("crc")
        if checksum != _checksum(content):
            raise Damaged
        quiets = tuple(Quiet(*quiet) for quiet in content["quiets"])
        obeyed = {str(name): int(expires_ns) for name, expires_ns in content["obeyed"].items()}
        standing = Standing(int(content["generation"]), quiets, obeyed)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged from error
    if not all(quiet.reason in get_args(Reason) and quiet.source in get_args(Source) for quiet in quiets):
        raise Damaged
    return standing


def remembered(card: Path, memory: Path, now: Moment, damaged_ns: int, source: Source = "command") -> Standing:
    """What was kept in two directories.

    A file that can't be understood, or read, may have told of a mute: then the other counts. Without one the room isn't
    heard for `damaged_ns` from now, as if it had been muted by `source`.
    """
    found: list[Standing] = []
    broken = False
    for path in kept_in(card, memory, FILE):
        try:
            found.append(decoded(path.read_bytes()))
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("can't read %s: %s", path, error.strerror)
            broken = True
        except Damaged:
            log.error("%s is damaged: nobody knows whether the room was muted", path)  # noqa: TRY400
            broken = True
    newest = max(found, key=lambda standing: standing.generation, default=Standing())
    known = {name: until_ns for standing in found for name, until_ns in standing.obeyed.items()}
    if broken and not found:
        return newest.quieted((begun("muted", source, damaged_ns, now),), now)
    return replace(newest, quiets=lasting(newest.quiets, now), obeyed=known)


def keep(directory: Path, standing: Standing, *, durable: bool) -> None:
    """Replace the file in `directory`; on return it survives a power cut, if it's to be `durable`. Raises OSError."""
    replace_file(directory / FILE, encoded(standing), durable=durable)


def _checksum(content: object) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
