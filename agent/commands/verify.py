"""`kiosk-recorder verify`: whether spool and ledger are whole and agree. Nothing is changed but by `--repair`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from agent.commands.kiosk import Kiosk, open_ledger, running
from agent.commands.timeline import told
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD
from agent.inspection import Finding, Inspection
from agent.ledger import Ledger, LedgerDamaged
from agent.spool import files_below
from agent.terminal import counted, painter, progress, say, say_json
from agent.timeline import read
from agent.units import human_bytes

_REBUILT: Final = "the recorder sets it aside at its next start and makes a new one from the spool"


@dataclass(slots=True)
class Report:
    """What was looked at and what was found."""

    findings: list[Finding] = field(default_factory=list)
    """After a repair: what is left."""
    repaired: list[Finding] = field(default_factory=list)
    segments: int = 0
    audio_bytes: int = 0
    """Hashed, or with `--fast` only measured."""
    hashed: bool = True
    spool_bytes: int = 0
    quarantined_files: int = 0
    finished: bool = False
    """Whether everything was looked at: without a ledger there is nothing to compare with."""


def verify(kiosk: Kiosk, *, fast: bool, repair: bool, as_json: bool) -> int:
    """Look at everything and print what doesn't agree. Raises KioskError when there is nothing to look at.

    With `repair`, what can be put right is, and everything is looked at again.
    """
    report = _repaired(kiosk, fast=fast) if repair else _look(kiosk, fast=fast)
    if as_json:
        say_json({"good": not report.findings, **asdict(report)})
    else:
        _print(report, repair=repair)
    return EXIT_FOUND_WRONG if report.findings else EXIT_GOOD


def _repaired(kiosk: Kiosk, *, fast: bool) -> Report:
    from agent.commands.repair import alone, repair

    with alone(kiosk.layout):
        if kiosk.layout.ledger.exists():
            found = _look(kiosk, fast=fast, alone=True).findings
        else:
            found = [Finding("ledger", "state/ledger.db", "is gone", _REBUILT)]
        repair(kiosk, found)
        report = _look(kiosk, fast=fast, alone=True)
        left = {(finding.kind, finding.place) for finding in report.findings}
        report.repaired = [finding for finding in found if (finding.kind, finding.place) not in left]
        return report


def _look(kiosk: Kiosk, *, fast: bool, alone: bool = False) -> Report:
    """`alone`: no recorder runs, and none can begin meanwhile."""
    report = Report(hashed=not fast)

    def recording() -> bool:
        return not alone and running(kiosk.layout, "recorder") is not None

    try:
        with open_ledger(kiosk) as ledger:
            _inspect(kiosk, ledger, recording, report)
    except LedgerDamaged as damage:
        report.findings.append(Finding("ledger", "state/ledger.db", f"is damaged: {damage.cause}", _REBUILT))
    return report


def _inspect(kiosk: Kiosk, ledger: Ledger, recording: Callable[[], bool], report: Report) -> None:
    ledger.check()
    report.findings += _chain(ledger)
    report.findings += _tiling(kiosk, ledger)
    inspection = Inspection(kiosk.layout, ledger, kiosk.clock, recording, hashing=report.hashed)
    names = inspection.expected()
    report.segments, report.audio_bytes = len(names), sum(names.values())
    with progress("verifying", report.audio_bytes) as advance:
        report.findings += inspection.segments(names, lambda name: advance(names[name]))
    report.findings += inspection.strangers()
    report.findings += inspection.settled(lambda: list(_cap(kiosk, report)))
    report.finished = True


def _chain(ledger: Ledger) -> Iterator[Finding]:
    broken = ledger.broken_link()
    if broken is not None:
        what = f"the journal's chain is broken at entry {broken}: it was altered or damaged"
        yield Finding("chain", "state/ledger.db", what, "nothing repairs it: what comes before stays proven")


def _tiling(kiosk: Kiosk, ledger: Ledger) -> Iterator[Finding]:
    timeline = read(ledger)
    for fault in timeline.faults:
        yield Finding("tiling", "state/ledger.db", told(fault, timeline, kiosk), "nothing repairs it")


def _cap(kiosk: Kiosk, report: Report) -> Iterator[Finding]:
    layout, cap = kiosk.layout, kiosk.settings.spool.cap
    report.quarantined_files = sum(1 for _ in files_below(layout.quarantine))
    report.spool_bytes = _size(layout.spool)
    if report.spool_bytes > cap:
        what = f"holds {human_bytes(report.spool_bytes)}, more than spool.cap = {cap}"
        yield Finding("cap", "spool", what, "the recorder gives up the oldest recordings before it begins the next one")


def _size(directory: Path) -> int:
    """Bytes of all files below it, whatever comes and goes meanwhile."""
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(path) / name).lstat().st_size
    return total


def _print(report: Report, *, repair: bool) -> None:
    paint = painter()
    for finding in report.repaired:
        say(f"{paint('repaired', 'green')}: {finding.kind}: {finding.place} {finding.what}")
    for finding in report.findings:
        say(f"{paint(finding.kind, 'red')}: {finding.place} {finding.what}\n  → {finding.remedy}")
    if report.finished:
        depth = "read and hashed" if report.hashed else "measured, not read"
        looked_at = f"{counted(report.segments, 'recording')}, {human_bytes(report.audio_bytes)}"
        say(f"{looked_at} {depth}; chain and tiling followed")
    if report.quarantined_files:
        what = f"{counted(report.quarantined_files, 'file')} in spool/quarantine, damaged or not understood: look there"
        say(f"{paint('note', 'yellow')}: {what}")
    left = len(report.findings)
    verdict = f"{left} {'left' if repair else 'found wrong'}" if left else "all is well"
    if report.repaired:
        verdict = f"{len(report.repaired)} repaired, {verdict}"
    say(paint(verdict, "red" if left else "green"))
