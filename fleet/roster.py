"""Which kiosks there are, by what each has left with the broker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from agent.contract.messages import ONLINE, ROOT
from agent.contract.names import is_name
from agent.errors import KioskError
from fleet.broker import Line

_AT_ONCE: Final = 100
"""Kiosks that the broker is asked about in one go. mosquitto drops what a client doesn't take in quickly: beyond 1000
messages, or what fits into the connection's buffers."""


@dataclass(frozen=True, slots=True, order=True)
class Kiosk:
    """One kiosk as the broker knows it."""

    site: str
    device: str
    groups: tuple[str, ...]
    online: bool

    def __str__(self) -> str:
        return f"{self.site}/{self.device}"


def roster(line: Line) -> list[Kiosk]:
    """Every kiosk that ever introduced itself and wasn't forgotten. Raises KioskError."""
    return read(gathered(line, ["birth"]))


def gathered(line: Line, below: Sequence[str]) -> dict[str, bytes]:
    """What each kiosk has left on `status` and on some topics `below` its own, by topic. Raises KioskError."""
    found = line.retained(f"{ROOT}/+/+/status", qos=0)
    if found:
        # On a busy machine it may only have paused: what it sends once more comes after all the rest.
        found |= line.gather((), next(iter(found)))
    bases = sorted(topic.removesuffix("/status") for topic in found)
    for first in range(0, len(bases), _AT_ONCE):
        some = bases[first : first + _AT_ONCE]
        found |= line.gather([f"{base}/{each}" for base in some for each in below], f"{some[-1]}/status")
    return found


def read(retained: Mapping[str, bytes]) -> list[Kiosk]:
    """The kiosks that retained messages tell of, in order; what isn't one of ours is passed over."""
    groups: dict[tuple[str, str], tuple[str, ...]] = {}
    for topic in retained:
        parts = topic.removeprefix(f"{ROOT}/").split("/")
        if len(parts) == 3 and parts[2] in ("birth", "status") and is_name(parts[0]) and is_name(parts[1]):
            groups.setdefault((parts[0], parts[1]), ())
            if parts[2] == "birth":
                groups[parts[0], parts[1]] = _groups(retained[topic])
    return sorted(
        Kiosk(site, device, known, retained.get(f"{ROOT}/{site}/{device}/status") == ONLINE)
        for (site, device), known in groups.items()
    )


def chosen(kiosks: list[Kiosk], *, name: str = "", group: str = "") -> list[Kiosk]:
    """The kiosk called `name` ("site/device", or "device" alone), those of a `group`, or all.

    Raises KioskError when there is none.
    """
    if name:
        found = [kiosk for kiosk in kiosks if name in (str(kiosk), kiosk.device)]
        known = [str(kiosk) for kiosk in kiosks] + [kiosk.device for kiosk in kiosks]
    elif group:
        found = [kiosk for kiosk in kiosks if group in kiosk.groups]
        known = sorted({each for kiosk in kiosks for each in kiosk.groups})
    else:
        found, known = kiosks, []
    if found and (len(found) == 1 or not name):
        return found
    near = get_close_matches(name or group, known, n=1)
    raise KioskError(
        "find kiosk",
        place=name or group,
        cause=f"{len(found)} kiosks are called so" if found else f"none of the {len(kiosks)} that this broker knows",
        hint="say which with SITE/DEVICE"
        if found
        else f"did you mean {near[0]}?"
        if near
        else "is it the right broker?",
    )


def _groups(birth: bytes) -> tuple[str, ...]:
    try:
        found = json.loads(birth)["groups"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(group for group in found if isinstance(group, str)) if isinstance(found, list) else ()
