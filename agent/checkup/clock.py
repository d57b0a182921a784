"""Whether the clock is right, and stays so after the next power cut: a Pi has none that runs without power."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.checkup.finding import Finding
from agent.checkup.visit import Visit
from agent.units import human_seconds
from hw.clock import time_services

_CLOSE_S: Final = 5.0
"""A store's `Date` has whole seconds and takes a while to come: less is no difference."""
_REFUSED_S: Final = 15 * 60.0
"""S3 refuses signatures that are further off."""


def look(visit: Visit) -> Iterator[Finding]:
    """Who sets it, whether that works, and what the store's clock says."""
    services = " and ".join(time_services(visit.root))
    if visit.clock.synchronised():
        yield Finding("synchronised", "green", f"yes, by {services}" if services else "yes")
    elif services:
        yield Finding(
            "synchronised",
            "yellow",
            f"not yet, though {services} runs: until then recordings go by the store's clock",
            "it takes some minutes after a start; then let it reach a time server (UDP port 123): `timedatectl`",
        )
    else:
        yield Finding(
            "synchronised",
            "red",
            "nothing sets this machine's clock: after a power cut it goes on from when the power went",
            "apt install systemd-timesyncd, and let it reach a time server (UDP port 123)",
        )
    if visit.store_ahead_s is not None:
        yield _against_store(visit.store_ahead_s)


def _against_store(ahead_s: float) -> Finding:
    facts = {"store_ahead_s": round(ahead_s, 1)}
    if abs(ahead_s) <= _CLOSE_S:
        return Finding("store's clock", "green", "the same as here, to within seconds", facts=facts)
    side = "ahead of" if ahead_s > 0 else "behind"
    text = f"the store's clock is {human_seconds(abs(ahead_s))} {side} this machine's"
    refused = abs(ahead_s) > _REFUSED_S
    if refused:
        text += ": requests are signed by the store's clock, or it would refuse them"
    return Finding("store's clock", "red" if refused else "yellow", text, "set this machine's clock right", facts)
