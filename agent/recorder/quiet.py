"""Who wants the room not to be heard, since when, and until when. Pure.

A quiet ends by the monotonic clock of the boot in which it began. After a power cut that clock starts over: then it
ends by wall time, if that could be trusted when the quiet began and can be now; else when it would have lasted since
the machine came up, as if it had begun only then. So it may last longer than it was meant to, but never ends early.
Where it turns out to be over long since, it goes on for as long as recording is announced before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from agent.recorder.light import WARNING_S
from agent.units import NS_PER_S

Reason = Literal["muted", "paused"]
Source = Literal["command", "button"]

_MARGIN_NS: Final = 5 * NS_PER_S
"""What two trusted wall clocks may differ by: a store's answer tells whole seconds and takes a while."""

_NOTICE_NS: Final = round(WARNING_S * NS_PER_S)

_LASTING: Final = 2**63
"""Longer than any quiet that ends by itself."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now."""

    boot: str
    monotonic_ns: int
    wall_ns: int | None
    """None while wall time can't be trusted."""
    doubted_ns: int | None = None
    """Monotonic time at which wall time still couldn't be trusted, of this process; None: it always could."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """One wish that the room isn't heard."""

    reason: Reason
    source: Source
    boot: str
    until_ns: int | None
    """On the monotonic clock of `boot`; None until it's lifted."""
    length_ns: int | None
    """From its beginning to `until_ns`."""
    wall_until_ns: int | None
    """The same in wall time, if that could be trusted when it began."""


def begun(reason: Reason, source: Source, length_ns: int | None, now: Moment) -> Quiet:
    """A quiet from now on."""
    if length_ns is None:
        return Quiet(reason, source, now.boot, None, None, None)
    wall_ns = None if now.wall_ns is None else now.wall_ns + length_ns
    return Quiet(reason, source, now.boot, now.monotonic_ns + length_ns, length_ns, wall_ns)


def left_ns(quiet: Quiet, now: Moment) -> int | None:
    """How long it still lasts, 0 when it's over; None until it's lifted."""
    if quiet.until_ns is None or quiet.length_ns is None:
        return None
    if quiet.boot == now.boot:
        return max(0, quiet.until_ns - now.monotonic_ns)
    since_boot = max(0, quiet.length_ns - now.monotonic_ns)
    if quiet.wall_until_ns is None or now.wall_ns is None:
        return since_boot
    by_wall = quiet.wall_until_ns + _MARGIN_NS - now.wall_ns
    if now.doubted_ns is not None:
        by_wall = max(by_wall, now.doubted_ns + _NOTICE_NS - now.monotonic_ns)
    return max(0, min(since_boot, by_wall))


def lasting(quiets: Iterable[Quiet], now: Moment) -> tuple[Quiet, ...]:
    """Those that aren't over."""
    return tuple(quiet for quiet in quiets if left_ns(quiet, now) != 0)


def in_force(quiets: Iterable[Quiet], now: Moment) -> Quiet | None:
    """The one that counts: a mute before a pause, of several the one that lasts longest."""
    return max(lasting(quiets, now), key=lambda quiet: (quiet.reason == "muted", _rank(quiet, now)), default=None)


def until_heard_ns(quiets: Iterable[Quiet], now: Moment) -> int | None:
    """How long nobody may hear the room, whoever wants it so; None until it's lifted."""
    lefts = [left_ns(quiet, now) for quiet in quiets]
    return None if None in lefts else max((left for left in lefts if left is not None), default=0)


def joined(quiets: Iterable[Quiet], new: Quiet, now: Moment) -> tuple[Quiet, ...]:
    """With `new`. Of two of one kind the later end counts: who was promised quiet has it."""
    others: list[Quiet] = []
    rivals = [new]
    for quiet in lasting(quiets, now):
        (rivals if (quiet.reason, quiet.source) == (new.reason, new.source) else others).append(quiet)
    return (*others, max(rivals, key=lambda quiet: _rank(quiet, now)))


def without(quiets: Iterable[Quiet], source: Source, now: Moment) -> tuple[Quiet, ...]:
    """What is left when whoever began a quiet takes it back: each can take back only what has the same source."""
    return tuple(quiet for quiet in lasting(quiets, now) if quiet.source != source)


def by_button(quiets: Iterable[Quiet], now: Moment) -> Quiet | None:
    """The mute by the button that is in force, if one is."""
    return in_force((quiet for quiet in quiets if quiet.source == "button"), now)


def _rank(quiet: Quiet, now: Moment) -> int:
    left = left_ns(quiet, now)
    return _LASTING if left is None else left
