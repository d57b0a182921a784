"""Whether recordings can be uploaded, and whether that is all these credentials can do.

What a kiosk may do, whoever takes the kiosk may do. It needs to put objects below its own prefix; nobody who steals it
should read or delete what is there, or write into another kiosk's place. Each is tried with the check's own object.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from agent.checkup.finding import Finding, of_error
from agent.checkup.visit import Visit
from agent.contract.keys import device_prefix, utc
from agent.courier.pace import Pace
from agent.courier.probe import shares_the_card
from agent.courier.targets import Deed, NeedsPerson, Outgoing, Target, TargetError, open_target
from agent.errors import KioskError
from agent.units import NS_PER_S, human_bytes, human_seconds

_ONLY_PUT: Final = "let these credentials PutObject below the device's own prefix, and nothing else"

_TAKEN: Final[dict[Deed, tuple[str, str]]] = {
    "get": ("GET", "whoever takes this kiosk can listen to what it uploaded"),
    "head": ("HEAD", "whoever takes this kiosk can find out what it uploaded"),
    "delete": ("DELETE", "whoever takes this kiosk can delete what it uploaded"),
}


def look(visit: Visit) -> Iterator[Finding]:
    """Put something, then try what mustn't be possible."""
    upload = visit.settings.upload
    if not upload.target:
        yield Finding(
            "upload",
            "yellow",
            "upload.target is empty: recordings stay on this card until they are given up",
            "write the store into `upload.target`",
        )
        return
    visit.progress(f"uploading to {upload.target}")
    try:
        target = open_target(upload.target, endpoint_url=upload.endpoint_url, region=upload.region)
    except KioskError as error:
        yield of_error("upload", error)
        return
    if target is None:
        return
    with closing(target):
        yield from _tried(target, visit)
    yield from _same_disk(visit)


def _tried(target: Target, visit: Visit) -> Iterator[Finding]:
    device = visit.settings.device
    key = _key(device_prefix(target.prefix, device.site, device.id), visit)
    begun_ns = visit.clock.monotonic_ns()
    try:
        with _object(key, visit) as outgoing:
            target.put(outgoing, _pace(visit))
            took_s = (visit.clock.monotonic_ns() - begun_ns) / NS_PER_S
            yield Finding(
                "upload",
                "green",
                f"{target.describe()} took {human_bytes(outgoing.size)} in {human_seconds(took_s)} and verified their "
                f"SHA-256: {key}",
                facts={"bytes": outgoing.size, "seconds": round(took_s, 3), "key": key},
            )
            _learn_time(target, visit)
            again = target.put(outgoing, _pace(visit))
    except KioskError as error:
        yield of_error("upload", error)
        yield Finding("permissions", "grey", "not tried, because nothing could be put")
        return
    if again.how == "stored":
        yield Finding(
            "overwriting",
            "yellow",
            "the store ignores `If-None-Match`: it stored the same object twice",
            "turn on versioning there, or use a store that knows conditional writes",
        )
    else:
        yield Finding("overwriting", "green", "what is there isn't written again")
    if visit.settings.upload.target.startswith("file:"):
        yield from _of_directory(target, key)
    else:
        yield from _of_bucket(target, key, visit)


def _of_bucket(target: Target, key: str, visit: Visit) -> Iterator[Finding]:
    for deed in ("get", "head"):
        yield _attempt(target, deed, key)
    yield _elsewhere(target, visit)
    yield _attempt(target, "delete", key)


def _of_directory(target: Target, key: str) -> Iterator[Finding]:
    """Whoever may write into a directory may read and delete there, too."""
    yield Finding(
        "permissions",
        "yellow",
        "a directory can't let a kiosk write but not read and delete: whoever takes the kiosk can do what it can",
        "have the other machine copy recordings away, or upload to a store with a key that may only put",
    )
    with suppress(TargetError):
        target.allows("delete", key)


def _attempt(target: Target, deed: Deed, key: str) -> Finding:
    name, consequence = _TAKEN[deed]
    try:
        allowed = target.allows(deed, key)
    except KioskError as error:
        return of_error(name, error, "grey")
    if allowed:
        return Finding(name, "red", f"{name} is allowed: {consequence}", _ONLY_PUT)
    return Finding(name, "green", "refused, as it should be")


def _elsewhere(target: Target, visit: Visit) -> Finding:
    """Put into the place of a kiosk whose name begins with this one's, below this one's name.

    A policy without its last slash lets that be, and one with `*` in the place of the site, which matches slashes.
    """
    device = visit.settings.device
    key = _key(device_prefix(target.prefix, device.site, f"{device.id}-is-another/{device.id}"), visit)
    try:
        with _object(key, visit, small=True) as outgoing:
            target.put(outgoing, _pace(visit))
    except NeedsPerson:
        return Finding("other kiosks", "green", "putting below another kiosk's prefix is refused, as it should be")
    except KioskError as error:
        return of_error("other kiosks", error, "grey")
    with suppress(TargetError):
        target.allows("delete", key)
    return Finding(
        "other kiosks",
        "red",
        f"a put below another kiosk's prefix succeeded ({key}): whoever takes this kiosk can pass for another one",
        f"{_ONLY_PUT}; end the policy's resource in `/{device.site}/{device.id}/*`",
    )


def _learn_time(target: Target, visit: Visit) -> None:
    """How far apart the clocks are, as `agent.checkup.clock` will judge it."""
    with suppress(TargetError):
        before_ns = visit.clock.wall_ns()
        server_ns = target.server_time()
        if server_ns is not None:
            visit.store_ahead_s = (server_ns - (before_ns + visit.clock.wall_ns()) / 2) / NS_PER_S


def _same_disk(visit: Visit) -> Iterator[Finding]:
    with suppress(OSError):
        there = visit.layout.root if visit.layout.root.exists() else visit.layout.root.parent
        shared = shares_the_card(visit.settings.upload.target, there)
        if shared is not None:
            yield Finding("disk", "red", f"{shared.place} is on the same file system as the spool", shared.hint)


def _key(prefix: str, visit: Visit) -> str:
    now = utc(visit.clock.wall_ns())
    suffix = visit.sample.suffix if visit.sample is not None else "txt"
    return f"{prefix}/_check/{now:%Y%m%dT%H%M%SZ}_{os.urandom(4).hex()}.{suffix}"


@contextmanager
def _object(key: str, visit: Visit, *, small: bool = False) -> Iterator[Outgoing]:
    """The sample that was made for this, or a line of text. It lies in memory and is gone however this ends."""
    device = visit.settings.device
    sample = visit.sample
    content = f"{device.site}/{device.id} tries what it may do here\n".encode()
    if sample is not None and not small:
        content = sample.content
    descriptor = os.memfd_create("kiosk-recorder-check")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield Outgoing(
            path=Path(f"/proc/self/fd/{descriptor}"),
            key=key,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            metadata={},
        )
    finally:
        os.close(descriptor)


def _pace(visit: Visit) -> Pace:
    return Pace(0, visit.clock, threading.Event())
