"""`kiosk-recorder list`: every recording the ledger knows, a line each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from agent.commands.kiosk import Kiosk, open_ledger
from agent.commands.times import iso, local
from agent.errors import EXIT_GOOD, KioskError
from agent.ledger import Boot, Segment, State
from agent.terminal import Style, painter, say, say_json_list
from agent.units import human_bytes, human_seconds

_STYLES: dict[State, Style] = {
    "pending": "yellow",
    "acknowledged": "green",
    "damaged": "red",
    "evicted": "red",
    "quarantined": "red",
    "lost": "red",
    "erased": "dim",
    "empty": "dim",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which segments are wanted; None leaves a question open."""

    state: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    run: str | None = None
    here: bool = False
    limit: int | None = None

    def matches(self, segment: Segment, offset_ns: int) -> bool:
        """Whether a segment is one of them; by time, whether any part of it is."""
        return (
            (self.state is None or segment.state == self.state)
            and (self.run is None or segment.run == self.run)
            and (segment.present or not self.here)
            and (self.since_ns is None or offset_ns + segment.end_ns > self.since_ns)
            and (self.until_ns is None or offset_ns + segment.begin_ns < self.until_ns)
        )


def list_segments(kiosk: Kiosk, choice: Choice, *, as_json: bool) -> int:
    """Print what `choice` wants, oldest first. Raises KioskError."""
    if choice.state is not None and choice.state not in get_args(State):
        raise KioskError(
            "list recordings", cause=f'there is no state "{choice.state}"', hint=f"states: {', '.join(get_args(State))}"
        )
    with open_ledger(kiosk) as ledger:
        boots = {boot.boot: boot for boot in ledger.boots()}
        offsets = ledger.offsets()
        chosen: Iterator[Segment] = (
            segment for segment in ledger.segments() if choice.matches(segment, offsets.get(segment.boot, 0))
        )
        if choice.limit is not None:
            chosen = iter(deque(chosen, maxlen=choice.limit))
        if as_json:
            say_json_list(_for_programs(segment, boots, kiosk) for segment in chosen)
        else:
            _print_table(chosen, boots, kiosk)
    return EXIT_GOOD


def _for_programs(segment: Segment, boots: dict[str, Boot], kiosk: Kiosk) -> dict[str, Any]:
    boot = boots.get(segment.boot)
    offset_ns = boot.offset_ns if boot else 0
    return {
        "name": str(segment.name),
        "run": segment.run,
        "seq": segment.seq,
        "state": segment.state,
        "here": segment.present,
        "begin": iso(offset_ns + segment.begin_ns, kiosk.zone),
        "end": iso(offset_ns + segment.end_ns, kiosk.zone),
        "clock": boot.clock if boot else "unsynchronised",
        "boot": segment.boot,
        "begin_ns": segment.begin_ns,
        "end_ns": segment.end_ns,
        "frames": segment.frames,
        "rate": segment.rate,
        "channels": segment.channels,
        "seconds": segment.seconds,
        "bytes": segment.bytes,
        "sha256": segment.sha256,
        "truncated": segment.truncated,
        "key": segment.key,
        "settled": None if segment.settled_ns is None else iso(segment.settled_ns, kiosk.zone),
        "reason": segment.reason,
    }


def _print_table(segments: Iterator[Segment], boots: dict[str, Boot], kiosk: Kiosk) -> None:
    paint = painter()
    say(paint(f"{'begin':20} {'length':>11} {'size':>9}  {'state':12} {'name':19}  key", "bold"))
    for segment in segments:
        say(_line(segment, boots.get(segment.boot), kiosk, paint))


def _line(segment: Segment, boot: Boot | None, kiosk: Kiosk, paint: Callable[[str, Style], str]) -> str:
    begin = local((boot.offset_ns if boot else 0) + segment.begin_ns, kiosk.zone)
    doubt = "?" if boot is None or boot.clock == "unsynchronised" else " "
    length = human_seconds(segment.seconds)
    # The key, or where it is in no store why: both never stand together.
    fate = segment.key if segment.key and segment.state in ("pending", "acknowledged") else segment.reason or ""
    state = paint(f"{segment.state:12}", _STYLES[segment.state])
    torn = " (cut short by a crash)" if segment.truncated else ""
    size, name = human_bytes(segment.bytes), str(segment.name)
    return f"{begin}{doubt} {length:>11} {size:>9}  {state} {name:19}  {fate}{torn}".rstrip()
