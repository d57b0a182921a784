"""A kiosk that is checked, area by area."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.checkup.finding import Finding
from agent.checkup.visit import Sample, Visit
from agent.settings import Capture, Device, Mqtt, Settings, Spool, Upload
from agent.spool import Layout
from agent.units import Size
from hw.clock import Clock, SystemClock

RATE = 16000


def kiosk(
    root: Path,
    *,
    capture: Capture | None = None,
    upload: Upload | None = None,
    mqtt: Mqtt | None = None,
    **spool: object,
) -> Settings:
    """Room 1 of the clinic "north"."""
    return Settings(
        device=Device(site="north", id="room-1"),
        capture=capture or Capture(rate=RATE),
        spool=Spool(**{"path": root / "kiosk", "keep_free": Size(0)} | spool),  # type: ignore[arg-type]
        upload=upload or Upload(),
        mqtt=mqtt or Mqtt(),
    )


def visit(settings: Settings, clock: Clock | None = None, **changes: object) -> Visit:
    """A check of it while nothing of it runs and nobody is there; `changes` are fields of Visit."""
    made = Visit(
        settings=settings,
        layout=Layout(settings.spool.path),
        zone=ZoneInfo("UTC"),
        clock=clock or SystemClock(),
        runtime=settings.spool.path.parent / "runtime",
        recorder_pid=None,
        courier_pid=None,
        seconds=10,
        clap=False,
        ask=lambda _text: None,
        progress=lambda _text: None,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def found(look: Callable[[Visit], Iterator[Finding]], visit: Visit) -> dict[str, Finding]:
    """What an area finds, by subject."""
    findings = list(look(visit))
    subjects = [finding.subject for finding in findings]
    assert len(subjects) == len(set(subjects))
    assert all(finding.way_out for finding in findings if finding.verdict == "red"), findings
    return dict(zip(subjects, findings, strict=True))


def verdicts(findings: dict[str, Finding]) -> dict[str, str]:
    return {subject: finding.verdict for subject, finding in findings.items()}


SAMPLE = Sample(b"fLaC" + bytes(20000), 10.0, "10 s heard just now")
"""Something to upload."""
