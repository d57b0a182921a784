"""Whether store and broker would take what this kiosk has to say, asked once, for a person who waits for the answer."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.contract.keys import device_prefix, utc
from agent.courier.broker import Broker
from agent.courier.pace import Pace
from agent.courier.targets import Outgoing, Target, open_target
from agent.errors import KioskError
from agent.settings import Settings
from hw.clock import Clock

BROKER_S = 10.0
"""How long a broker is waited for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was asked: `problem` is None when the answer was good."""

    subject: str
    """What was asked: "store", "broker"."""
    detail: str
    """What was found, for a person."""
    problem: KioskError | None = None


def probe(settings: Settings, clock: Clock, *, connected: bool = False) -> list[Finding]:
    """Put a tiny object into the store and connect to the broker, as far as they are configured.

    Not to the broker while the courier is `connected`: one that knows kiosks by their certificates would hang up on it.
    """
    if connected and settings.mqtt.url:
        beside = Finding(
            "broker", "not tried beside the running courier; `kiosk-recorder status` tells how that gets on"
        )
        return [*_probe_store(settings, clock), beside]
    return [*_probe_store(settings, clock), *_probe_broker(settings)]


def _probe_store(settings: Settings, clock: Clock) -> Iterator[Finding]:
    upload = settings.upload
    try:
        target = open_target(upload.target, endpoint_url=upload.endpoint_url, region=upload.region)
        if target is None:
            return
        with closing(target):
            key = _put_check(target, settings, clock)
            yield Finding("store", f"{target.describe()} took {key}")
    except KioskError as error:
        yield Finding("store", upload.target, error)
        return
    with suppress(OSError):
        shared = shares_the_card(upload.target, settings.spool.path)
        if shared is not None:
            yield Finding("store", shared.place, shared)


def _put_check(target: Target, settings: Settings, clock: Clock) -> str:
    now = utc(clock.wall_ns())
    site, device = settings.device.site, settings.device.id
    content = f"{site}/{device} could upload at {now.isoformat()}\n".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    key = f"{device_prefix(target.prefix, site, device)}/_check/{now:%Y%m%dT%H%M%SZ}_{sha256[:16]}.txt"
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        outgoing = Outgoing(path=Path(file.name), key=key, sha256=sha256, size=len(content), metadata={})
        target.put(outgoing, Pace(0, clock, threading.Event()))
    return key


def _probe_broker(settings: Settings) -> Iterator[Finding]:
    if not settings.mqtt.url:
        return
    answered = threading.Event()
    try:
        broker = second_line(settings, answered.set)
    except KioskError as error:
        yield Finding("broker", settings.mqtt.url, error)
        return
    broker.start()
    answered.wait(BROKER_S)
    problem = broker.refusal
    if problem is None and not broker.connected:
        problem = no_answer(settings.mqtt.url)
    broker.stop(None, 1.0)
    yield Finding("broker", settings.mqtt.url if problem else f"{settings.mqtt.url} let us in", problem)


def second_line(settings: Settings, wake: Callable[[], None]) -> Broker:
    """A connection beside the courier's. Raises KioskError when certificates or password can't be used."""
    # Another client id than the courier's, or the broker would hang up on that one.
    return Broker(settings.mqtt, f"{settings.device.id}-check", None, wake)


def no_answer(url: str) -> KioskError:
    """What is wrong when nothing came back from there in time."""
    return KioskError(
        "connect to broker",
        place=url,
        cause=f"no answer in {BROKER_S:g} s",
        hint="is the broker up, `mqtt.url` right, and the way there open?",
        retryable=True,
    )


def shares_the_card(target: str, root: Path) -> KioskError | None:
    """What is wrong when a directory to upload to is where the spool is. Raises OSError when one isn't there."""
    place = target.removeprefix("file://")
    if not target.startswith("file:") or Path(place).stat().st_dev != root.stat().st_dev:
        return None
    return KioskError(
        "upload to",
        place=place,
        cause="it is on the same file system as the spool",
        hint="mount the disk or the share there; copies on the same card protect from nothing",
    )
