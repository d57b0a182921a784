"""`kiosk-recorder verify`: whether spool and ledger are whole and agree; nothing is changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from agent.commands.kiosk import Kiosk, open_ledger, running
from agent.commands.output import counted, painter, say, say_json
from agent.commands.timeline import told
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD
from agent.inspection import Finding, Inspection
from agent.ledger import Ledger, LedgerDamaged
from agent.spool import files_below
from agent.timeline import read
from agent.units import human_bytes


@dataclass(slots=True)
class Report:
    """What was looked at and what was found."""

    findings: list[Finding] = field(default_factory=list)
    segments: int = 0
    audio_bytes: int = 0
    """Hashed, or with `--fast` only measured."""
    hashed: bool = True
    spool_bytes: int = 0
    quarantined_files: int = 0
    finished: bool = False
    """Whether everything was looked at: without a ledger there is nothing to compare with."""


def verify(kiosk: Kiosk, *, fast: bool, as_json: bool) -> int:
    """Look at everything and print what doesn't agree. Raises KioskError when there is nothing to look at."""
    report = Report(hashed=not fast)
    try:
        with open_ledger(kiosk) as ledger:
            _inspect(kiosk, ledger, report)
    except LedgerDamaged as damage:
        remedy = "the recorder sets it aside at its next start and makes a new one from the spool"
        report.findings.append(Finding("ledger", "state/ledger.db", f"is damaged: {damage.cause}", remedy))
    if as_json:
        say_json({"good": not report.findings, **asdict(report)})
    else:
        _print(report)
    return EXIT_FOUND_WRONG if report.findings else EXIT_GOOD


def _inspect(kiosk: Kiosk, ledger: Ledger, report: Report) -> None:
    ledger.check()
    report.findings += _chain(ledger)
    report.findings += _tiling(kiosk, ledger)

    def recording() -> bool:
        return running(kiosk.layout, "recorder") is not None

    inspection = Inspection(kiosk.layout, ledger, kiosk.clock, recording, hashing=report.hashed)
    names = inspection.expected()
    report.segments, report.audio_bytes = len(names), sum(names.values())
    with _progress(report.audio_bytes) as progress:
        report.findings += inspection.segments(names, lambda name: progress.advance(names[name]))
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


class _Progress(Protocol):
    def advance(self, count: int) -> None:
        """So many more bytes were read."""


class _Unseen:
    def advance(self, count: int) -> None:
        """Nobody looks."""


@contextmanager
def _progress(total: int) -> Iterator[_Progress]:
    """A bar on standard error, where a person looks on."""
    if not sys.stderr.isatty():
        yield _Unseen()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("verifying", BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        class Seen:
            def advance(self, count: int) -> None:
                bar.advance(task, count)

        yield Seen()


def _print(report: Report) -> None:
    paint = painter()
    for finding in report.findings:
        say(f"{paint(finding.kind, 'red')}: {finding.place} {finding.what}\n  → {finding.remedy}")
    if report.finished:
        depth = "read and hashed" if report.hashed else "measured, not read"
        looked_at = f"{counted(report.segments, 'recording')}, {human_bytes(report.audio_bytes)}"
        say(f"{looked_at} {depth}; chain and tiling followed")
    if report.quarantined_files:
        what = f"{counted(report.quarantined_files, 'file')} in spool/quarantine, damaged or not understood: look there"
        say(f"{paint('note', 'yellow')}: {what}")
    verdict = f"{len(report.findings)} found wrong" if report.findings else "all is well"
    say(paint(verdict, "red" if report.findings else "green"))
