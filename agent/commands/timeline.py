"""`kiosk-recorder timeline`: what was recorded, what wasn't and why, and whether that is all of the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from agent.commands.kiosk import Kiosk, open_ledger
from agent.commands.times import iso, local
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD
from agent.ledger import Boot
from agent.terminal import counted, painter, say, say_json
from agent.timeline import Account, Fault, Interval, Timeline, power_off_seconds, read
from agent.units import human_seconds


@dataclass(frozen=True, slots=True)
class Row:
    """One interval as it's shown. Times are wall times in nanoseconds."""

    boot: Boot
    begin_ns: int
    end_ns: int
    seconds: float
    reason: str
    """Empty for a recording."""
    certain: bool
    """Whether the times are to be trusted, and so the length of a `power_off`."""
    recording: Interval | None = None


@dataclass(slots=True)
class Totals:
    """Of what is shown."""

    recorded_s: float = 0.0
    """By frame count."""
    not_recorded_s: dict[str, float] = field(default_factory=dict)
    """By reason."""

    def add(self, row: Row) -> None:
        if row.recording is not None:
            self.recorded_s += row.recording.audio_seconds
        else:
            self.not_recorded_s[row.reason] = self.not_recorded_s.get(row.reason, 0.0) + row.seconds


def show(kiosk: Kiosk, *, since_ns: int | None, until_ns: int | None, as_json: bool) -> int:
    """Print the part between two wall times; the check is made on all of it. Raises KioskError."""
    if as_json:
        shown = document(kiosk, since_ns=since_ns, until_ns=until_ns)
        say_json(shown)
        return EXIT_FOUND_WRONG if shown["faults"] else EXIT_GOOD
    with open_ledger(kiosk) as ledger:
        timeline = read(ledger)
    _print_table(_between(timeline, since_ns, until_ns), kiosk)
    paint = painter()
    for fault in timeline.faults:
        say(f"{paint('fault', 'red')}: {told(fault, timeline, kiosk)}")
    return EXIT_FOUND_WRONG if timeline.faults else EXIT_GOOD


def document(kiosk: Kiosk, *, since_ns: int | None, until_ns: int | None) -> dict[str, Any]:
    """The same for programs. Raises KioskError."""
    with open_ledger(kiosk) as ledger:
        timeline = read(ledger)
    totals, intervals = Totals(), []
    for row in _between(timeline, since_ns, until_ns):
        totals.add(row)
        intervals.append(_for_programs(row, kiosk))
    faults = [
        {**asdict(fault), "seconds": fault.seconds, "text": told(fault, timeline, kiosk)} for fault in timeline.faults
    ]
    return {"intervals": intervals, "totals": asdict(totals), "faults": faults}


def _between(timeline: Timeline, since_ns: int | None, until_ns: int | None) -> Iterator[Row]:
    for row in rows_of(timeline):
        if (since_ns is None or row.end_ns > since_ns) and (until_ns is None or row.begin_ns < until_ns):
            yield row


def rows_of(timeline: Timeline) -> Iterator[Row]:
    """Everything in the order in which it happened."""
    boots: dict[str, Boot] = {}
    for account in timeline.accounts:
        boot = boots[account.boot.boot] = account.boot
        yield from _power_offs(account, boots)
        for interval in account.intervals:
            yield Row(
                boot,
                boot.offset_ns + interval.begin_ns,
                boot.offset_ns + interval.end_ns,
                interval.seconds,
                interval.reason,
                boot.clock != "unsynchronised",
                interval if interval.run else None,
            )


def _power_offs(account: Account, boots: dict[str, Boot]) -> Iterator[Row]:
    for off in account.before:
        if (previous := boots.get(off.previous)) is not None:
            seconds, certain = power_off_seconds(off, previous, account.boot)
            end_ns = account.boot.offset_ns + off.end_ns
            yield Row(account.boot, end_ns - round(seconds * 1e9), end_ns, seconds, "power_off", certain)


def told(fault: Fault, timeline: Timeline, kiosk: Kiosk) -> str:
    """One fault, for a person."""
    boot = next(account.boot for account in timeline.accounts if account.boot.boot == fault.boot)
    where = f"boot {fault.boot[:8]} at {local(boot.offset_ns + fault.begin_ns, kiosk.zone)}"
    if fault.kind == "unlinked":
        return f"unlinked: {where}: nothing says what was between this boot and the one before"
    return (
        f"{fault.kind} of {human_seconds(fault.seconds)}: {where}, where {fault.before} ends and {fault.after} begins"
    )


def _for_programs(row: Row, kiosk: Kiosk) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": "recording" if row.recording else "gap",
        "begin": iso(row.begin_ns, kiosk.zone),
        "end": iso(row.end_ns, kiosk.zone),
        "seconds": row.seconds,
        "certain": row.certain,
        "boot": row.boot.boot,
    }
    if row.recording is None:
        return {**shown, "reason": row.reason}
    recording = row.recording
    names = {"run": recording.run, "first_seq": recording.first_seq, "segments": recording.segments}
    return {**shown, **names, "audio_seconds": recording.audio_seconds}


def _print_table(rows: Iterator[Row], kiosk: Kiosk) -> None:
    paint, totals, boot = painter(), Totals(), ""
    for row in rows:
        totals.add(row)
        if row.reason != "power_off" and row.boot.boot != boot:
            boot = row.boot.boot
            doubt = "" if row.certain else ": its clock was never right, so these times may be wrong"
            say(paint(f"boot {boot[:8]}, clock {row.boot.clock}{doubt}", "bold"))
        about = "" if row.certain or row.reason != "power_off" else "about "
        length = about + human_seconds(row.seconds)
        begin = local(row.begin_ns, kiosk.zone)
        if row.recording is not None:
            what = (
                paint(f"{'recording':10}", "green")
                + f" {length:>16}  {row.recording.run}, {counted(row.recording.segments, 'segment')}"
            )
        else:
            what = paint(f"{row.reason:10}", "yellow") + f" {length:>16}"
        say(f"  {begin}  {what}")
    say(_summary(totals))


def _summary(totals: Totals) -> str:
    parts = [f"recorded {human_seconds(totals.recorded_s)}"]
    by_length = sorted(totals.not_recorded_s.items(), key=lambda item: -item[1])
    if by_length:
        parts.append("not recorded: " + ", ".join(f"{reason} {human_seconds(length)}" for reason, length in by_length))
    return "; ".join(parts)
