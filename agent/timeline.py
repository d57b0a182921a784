"""Where all the time went: per boot, every moment is a recording or a gap with a reason (DESIGN invariant 6).

The ledger enters segments and gaps as they end. Here they are put into one row per boot, and the row is checked: each
interval must end exactly where the next begins, and between two boots there is exactly one `power_off`. Segments are
taken as a stream and joined to recordings at once, so a year of them costs little memory.

What lies before the ledger's own beginning was rebuilt from the spool after an earlier ledger was lost, and its gaps
with it (invariant 3): holes there are `unknown`, not faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from agent.ledger import Boot, Gap, Ledger, Segment

_READ_AGAIN: Final = 20


@dataclass(frozen=True, slots=True)
class Interval:
    """Part of one boot's monotonic time: a recording (`run` is set) or a gap (`reason` is set)."""

    boot: str
    begin_ns: int
    end_ns: int
    reason: str = ""
    """A GapReason, or "unknown"."""
    run: str = ""
    first_seq: int = 0
    segments: int = 0
    audio_seconds: float = 0.0
    """By frame count."""

    @property
    def seconds(self) -> float:
        """By the clock."""
        return (self.end_ns - self.begin_ns) / 1e9


@dataclass(frozen=True, slots=True)
class PowerOff:
    """The time between two boots: from `begin_ns` on the clock of `previous` to `end_ns` on this boot's."""

    previous: str
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Account:
    """One boot's row."""

    boot: Boot
    before: tuple[PowerOff, ...] = ()
    """Exactly one, but for the first boot."""
    intervals: tuple[Interval, ...] = ()

    @property
    def begin_ns(self) -> int | None:
        """Where the row begins; None when nothing is known of this boot."""
        if self.before:
            return self.before[0].end_ns
        return self.intervals[0].begin_ns if self.intervals else None

    @property
    def end_ns(self) -> int | None:
        """Up to where everything is accounted for."""
        return max(interval.end_ns for interval in self.intervals) if self.intervals else self.begin_ns


@dataclass(frozen=True, slots=True)
class Beginning:
    """When the ledger was begun."""

    boot: str
    mono_ns: int
    at_ns: int
    """Wall time, as the machine believed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Two neighbours that don't meet: time that is told twice, or not at all."""

    kind: Literal["hole", "overlap", "unlinked"]
    """`unlinked`: nothing says what was between this boot and the one before it."""
    boot: str
    begin_ns: int
    end_ns: int
    before: str
    """What ended there."""
    after: str
    """What began there."""

    @property
    def seconds(self) -> float:
        """How much time is missing or told twice."""
        return abs(self.end_ns - self.begin_ns) / 1e9


@dataclass(slots=True)
class Timeline:
    """Every boot's row, in the order in which they happened, and what is wrong with them."""

    accounts: list[Account] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read(ledger: Ledger) -> Timeline:
    """The timeline of a ledger that others may be writing to meanwhile."""
    beginning = _beginning(ledger)
    gaps = ledger.gaps()
    for _ in range(_READ_AGAIN):
        timeline = lay_out(ledger.segments(), gaps, ledger.boots(), beginning)
        known, gaps = len(gaps), ledger.gaps()
        if len(gaps) == known:
            # Gaps go in before the segments that follow them: then none of those read lacks one.
            break
    return timeline


def _beginning(ledger: Ledger) -> Beginning | None:
    try:
        first = next(ledger.entries(), None)
    except ValueError:
        return None
    if first is None or first.kind != "epoch":
        return None
    return Beginning(first.boot, first.mono_ns, first.at_ns)


def lay_out(
    segments: Iterable[Segment], gaps: Iterable[Gap], boots: Sequence[Boot], beginning: Beginning | None = None
) -> Timeline:
    """Put everything into rows, each interval in its place, and check that they tile."""
    rows: dict[str, list[Interval]] = {boot.boot: [] for boot in boots}
    before: dict[str, list[PowerOff]] = {}
    for recording in _joined(map(_recording, segments)):
        rows.setdefault(recording.boot, []).append(recording)
    for gap in gaps:
        if gap.previous_boot is not None:
            before.setdefault(gap.boot, []).append(PowerOff(gap.previous_boot, gap.begin_ns, gap.end_ns))
        else:
            rows.setdefault(gap.boot, []).append(Interval(gap.boot, gap.begin_ns, gap.end_ns, gap.reason))
    known = {boot.boot: boot for boot in boots}
    accounts = _in_order(
        Account(
            known.get(boot) or Boot(boot, 0, "unsynchronised"),
            tuple(before.get(boot, ())),
            tuple(sorted(row, key=lambda interval: (interval.begin_ns, interval.end_ns))),
        )
        for boot, row in rows.items()
        if row or boot in before
    )
    limits = _rebuilt_until(accounts, [boot.boot for boot in boots], beginning)
    timeline = Timeline()
    for place, account in enumerate(accounts):
        timeline.faults += _check_links(account, accounts[:place], rebuilt=account.boot.boot in limits)
        row, faults = _check_row(account, limits.get(account.boot.boot))
        timeline.accounts.append(replace(account, intervals=tuple(_joined(row))))
        timeline.faults += faults
    return timeline


def _recording(segment: Segment) -> Interval:
    return Interval(
        segment.boot,
        segment.begin_ns,
        segment.end_ns,
        run=segment.run,
        first_seq=segment.seq,
        segments=1,
        audio_seconds=segment.seconds,
    )


def _joined(intervals: Iterable[Interval]) -> Iterator[Interval]:
    """Neighbours that are one thing for a reader become one: segments of a run, pieces of a gap."""
    last: Interval | None = None
    for interval in intervals:
        if last is not None and _continues(last, interval):
            last = replace(
                last,
                end_ns=interval.end_ns,
                segments=last.segments + interval.segments,
                audio_seconds=last.audio_seconds + interval.audio_seconds,
            )
            continue
        if last is not None:
            yield last
        last = interval
    if last is not None:
        yield last


def _continues(last: Interval, interval: Interval) -> bool:
    return (last.boot, last.end_ns, last.reason, last.run) == (
        interval.boot,
        interval.begin_ns,
        interval.reason,
        interval.run,
    ) and interval.first_seq == last.first_seq + last.segments


def _in_order(found: Iterable[Account]) -> list[Account]:
    """As they happened: each after the boot its `power_off` names; where none does, by wall time."""
    accounts = {account.boot.boot: account for account in found}
    following = {off.previous: boot for boot, account in accounts.items() for off in account.before}
    heads = [
        account
        for account in accounts.values()
        if not any(off.previous in accounts and off.previous != account.boot.boot for off in account.before)
    ]
    ordered: dict[str, Account] = {}
    for head in sorted(heads, key=lambda account: account.boot.offset_ns + (account.begin_ns or 0)):
        boot: str | None = head.boot.boot
        while boot is not None and boot in accounts and boot not in ordered:
            ordered[boot] = accounts[boot]
            boot = following.get(boot)
    # Links that lead round in a circle are a fault, but not one to hide anything for.
    return [*ordered.values(), *(account for boot, account in accounts.items() if boot not in ordered)]


def _rebuilt_until(accounts: Sequence[Account], entered: Sequence[str], beginning: Beginning | None) -> dict[str, int]:
    """For each boot that the ledger knows, in part or whole, from before it was begun: up to where.

    A recorder that rebuilds enters earlier boots before its own, or else their wall clocks tell that they were earlier.
    """
    if beginning is None:
        return {}
    limits = {beginning.boot: beginning.mono_ns}
    rebuilt = set(entered[: entered.index(beginning.boot)]) if beginning.boot in entered else set()
    for account in accounts:
        boot, end_ns = account.boot, account.end_ns or 0
        earlier = boot.boot in rebuilt or boot.offset_ns + end_ns <= beginning.at_ns
        if earlier and not account.before and boot.boot not in limits:
            limits[boot.boot] = end_ns
    return limits


def _check_row(account: Account, rebuilt_until_ns: int | None) -> tuple[list[Interval], list[Fault]]:
    """The row with unknown stretches filled in, and its faults."""
    row: list[Interval] = []
    faults: list[Fault] = []
    boot = account.boot.boot
    reached_ns, last = account.begin_ns or 0, "power_off" if account.before else ""
    for interval in account.intervals:
        begin_ns, name = interval.begin_ns, _name(interval)
        if begin_ns > reached_ns:
            if rebuilt_until_ns is not None and begin_ns <= rebuilt_until_ns:
                row.append(Interval(boot, reached_ns, begin_ns, "unknown"))
            else:
                faults.append(Fault("hole", boot, reached_ns, begin_ns, last, name))
        elif begin_ns < reached_ns:
            faults.append(Fault("overlap", boot, begin_ns, min(reached_ns, interval.end_ns), last, name))
        if interval.end_ns < begin_ns:
            faults.append(Fault("overlap", boot, interval.end_ns, begin_ns, name, name))
        row.append(interval)
        if interval.end_ns >= reached_ns:
            reached_ns, last = interval.end_ns, name
    return row, faults


def _check_links(account: Account, earlier: Sequence[Account], *, rebuilt: bool) -> list[Fault]:
    """What lies between this boot and the ones before it."""
    boot, begin_ns = account.boot.boot, account.begin_ns or 0
    if not account.before:
        if rebuilt or not earlier:
            return []
        return [Fault("unlinked", boot, begin_ns, begin_ns, "", _name(account.intervals[0]))]
    faults = [Fault("overlap", boot, off.end_ns, off.end_ns, "power_off", "power_off") for off in account.before[1:]]
    off = account.before[0]
    previous = next((other for other in earlier if other.boot.boot == off.previous), None)
    if previous is None or any(off.previous == link.previous for other in earlier for link in other.before):
        return [*faults, Fault("unlinked", boot, begin_ns, begin_ns, "power_off", "")]
    end_ns = previous.end_ns or 0
    if off.begin_ns != end_ns:
        kind: Literal["hole", "overlap"] = "hole" if off.begin_ns > end_ns else "overlap"
        last = _name(previous.intervals[-1]) if previous.intervals else "power_off"
        faults.append(
            Fault(kind, off.previous, min(end_ns, off.begin_ns), max(end_ns, off.begin_ns), last, "power_off")
        )
    return faults


def _name(interval: Interval) -> str:
    return f"recording {interval.run}" if interval.run else interval.reason


def power_off_seconds(off: PowerOff, previous: Boot, boot: Boot) -> tuple[float, bool]:
    """Length of the time between two boots by their wall clocks, never negative, and whether that is certain.

    It isn't when the second seems to have begun before the first ended: then one of the two clocks was wrong.
    """
    length_ns = boot.offset_ns + off.end_ns - previous.offset_ns - off.begin_ns
    return max(0, length_ns) / 1e9, length_ns >= 0 and boot.clock == previous.clock == "synchronised"
