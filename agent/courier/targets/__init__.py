"""Where recordings go: the port, what it answers, and the four ways in which it can refuse.

A target stores one object a call, completely or not at all, never over another one, and only says so once the far
side verifiably holds exactly the bytes that the ledger knows. It knows nothing of retries, order or rates: those
decorate the port (agent.courier.worker).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from agent.courier.pace import Pace
from agent.errors import KioskError

Deed = Literal["get", "head", "delete"]
"""What a kiosk never does with what it uploaded."""


class TargetError(KioskError):
    """The store didn't take an object. Never raised itself: the kinds below say what can help."""


class Unreachable(TargetError):
    """Time alone may help: no network, an overloaded store, a broken connection."""


class ClockRefused(TargetError):
    """The store refuses this machine's clock: uploads wait until it is right."""


class NeedsPerson(TargetError):
    """Nothing but a person can help: wrong credentials, no such bucket, a disk that isn't there or is full."""


class DigestRefused(TargetError):
    """What arrived isn't what the ledger knows: the line or the file is damaged, only the file itself can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One object on its way out: a file that never changes, and everything said about it."""

    path: Path
    key: str
    sha256: str
    """Hex digest that the stored object must have."""
    size: int
    """Bytes that it must have."""
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The far side holds the object, verified."""

    how: Literal["stored", "already_there"]


class Target(Protocol):
    """A place that keeps recordings. All methods may be called from several threads at once."""

    @property
    def prefix(self) -> str:
        """Comes before every key; without slashes at its ends."""

    def put(self, outgoing: Outgoing, pace: Pace) -> Receipt:
        """Store an object. On return the far side durably holds it and its hash was checked there.

        Raises one of the TargetErrors, Gone, Unreadable or Interrupted. Then either nothing or the whole object is
        there, and the same call can be made again.
        """

    def server_time(self) -> int | None:
        """What the store thinks the time is, in nanoseconds since 1970, to within a second or so.

        None when it has no clock of its own. Raises Unreachable when it doesn't answer.
        """

    def allows(self, deed: Deed, key: str) -> bool:
        """Try a deed on an object that may go: False when it is refused for want of permission.

        Raises TargetError when it fails for another reason, which says nothing of what may be done.
        """

    def describe(self) -> str:
        """Where that is, for people."""

    def close(self) -> None:
        """Let go of connections."""


def open_target(url: str, *, endpoint_url: str = "", region: str = "", connections: int = 1) -> Target | None:
    """The target that `upload.target` names; None for "". Raises KioskError for what no target understands."""
    if not url:
        return None
    scheme, _, place = url.partition("://")
    bucket, _, prefix = place.partition("/")
    if scheme == "s3" and bucket:
        # Here, because botocore alone takes half of the courier's memory.
        from agent.courier.targets.s3 import S3Target

        return S3Target(bucket, prefix, endpoint_url=endpoint_url, region=region, connections=connections)
    if scheme == "file" and place.startswith("/"):
        from agent.courier.targets.directory import DirectoryTarget

        return DirectoryTarget(Path(place))
    raise KioskError(
        "use upload target",
        place=url,
        cause="nothing here knows how to upload to that",
        hint='write `upload.target` as "s3://bucket/prefix", "file:///absolute/path", or "" to keep everything here',
    )
