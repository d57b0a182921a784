"""`kiosk-recorder check`: whether a technician may leave this kiosk alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.checkup import areas, report
from agent.checkup.finding import Section, exit_status
from agent.checkup.software import versions
from agent.checkup.visit import MACHINE, Visit
from agent.commands import kiosk
from agent.commands.environment import act_as_services
from agent.commands.times import iso
from agent.errors import KioskError
from agent.status import runtime_directory
from agent.terminal import painter, say, say_json
from hw.board import identity

_FORMATS: Final[dict[str, Callable[[Sequence[Section], report.Head], str]]] = {
    ".txt": report.as_text,
    ".html": report.as_html,
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command was asked for."""

    only: Sequence[str]
    skip: Sequence[str]
    seconds: float
    clap: bool | None
    """None: when a person is at the terminal."""
    report: Path | None
    environment: Path
    identities: Sequence[Path] = ()


def check(file: Path | None, wish: Wish, *, as_json: bool) -> int:
    """Look at everything and tell as it comes. Raises KioskError when it can't begin."""
    act_as_services(wish.environment)
    chosen = areas.chosen(wish.only, wish.skip)
    written = _format_of(wish.report)
    # What the courier would write into its log is said in the report, once.
    logging.getLogger("agent").addHandler(logging.NullHandler())
    found = kiosk.find(file)
    progress = Progress()
    person = sys.stdin.isatty() and sys.stderr.isatty()
    visit = Visit(
        settings=found.settings,
        layout=found.layout,
        zone=found.zone,
        clock=found.clock,
        runtime=runtime_directory(),
        recorder_pid=kiosk.process_of(found.layout, "recorder"),
        courier_pid=kiosk.process_of(found.layout, "courier"),
        seconds=wish.seconds,
        clap=person if wish.clap is None else wish.clap,
        ask=progress.ask,
        progress=progress.show,
        identities=tuple(wish.identities),
    )
    head = _head(visit)
    paint, sections = painter(), list[Section]()
    if not as_json:
        say(paint(f"{head.kiosk}, {head.when}", "bold"))
    try:
        for section in areas.walk(visit, chosen):
            progress.clear()
            sections.append(section)
            if not as_json:
                for line in report.section_lines(section, paint):
                    say(line)
    finally:
        progress.clear()
    if as_json:
        say_json(report.document(sections, head))
    else:
        say(report.summary(sections, paint))
    if wish.report is not None and written is not None:
        _write(wish.report, written(sections, head))
    return exit_status(sections)


class Progress:
    """One line on standard error that comes and goes, where a person looks."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """What is being done."""
        if self._live:
            sys.stderr.write(f"\r\033[K… {text}")
            sys.stderr.flush()
            self._shown = True

    def ask(self, text: str) -> None:
        """Something a person has to do now; it stays."""
        self.clear()
        sys.stderr.write(f"{painter(sys.stderr)(text, 'bold')}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Nothing is being done any more."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._shown = False


def _head(visit: Visit) -> report.Head:
    device, board = visit.settings.device, identity(MACHINE)
    named = ", serial ".join(part for part in (board.model, board.serial) if part)
    return report.Head(
        f"{device.site}/{device.id}",
        iso(visit.clock.wall_ns(), visit.zone),
        named or "not available: only a Raspberry Pi tells",
        versions(MACHINE),
    )


def _format_of(file: Path | None) -> Callable[[Sequence[Section], report.Head], str] | None:
    if file is None:
        return None
    if file.suffix not in _FORMATS:
        raise _refused(file, "isn't named as a report", "end its name in .txt or .html")
    if file.exists():
        raise _refused(file, "exists already", "name another one")
    return _FORMATS[file.suffix]


def _write(file: Path, text: str) -> None:
    try:
        with file.open("x") as out:
            out.write(text)
    except OSError as error:
        raise _refused(file, error.strerror or str(error), "name a place that can be written") from error


def _refused(file: Path, cause: str, hint: str) -> KioskError:
    return KioskError("write report", place=str(file), cause=cause, hint=hint)
