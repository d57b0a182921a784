"""`kiosk-recorder config`: what is in force, whether it can be used, and what could be said."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import config
from agent.commands.kiosk import ordered_hours, process_of
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, EXIT_UNUSABLE, ConfigError, KioskError, Mistake
from agent.flags import FLAGS, overrides
from agent.settings import Settings
from agent.spool import Layout
from agent.terminal import painter, say, say_json

if TYPE_CHECKING:
    from agent.courier.probe import Finding


def show(file: Path | None, *, as_json: bool) -> int:
    """Print every key as it stands. Raises ConfigError."""
    settings = config.load(file, os.environ)
    if as_json:
        say_json(config.as_json(settings))
    else:
        say(config.as_toml(settings).rstrip())
        ordered = ordered_hours(settings)
        if ordered is not None:
            hours = ", ".join(f'"{each}"' for each in ordered)
            say(f"\n# By command, and in force instead of the above: upload.hours = [{hours}]")
    return EXIT_GOOD


def schema() -> int:
    """Print the JSON schema of the file."""
    say_json(config.schema())
    return EXIT_GOOD


def check(file: Path | None, *, online: bool, as_json: bool) -> int:
    """Say everything that is wrong with the file, what a clinic shouldn't leave, and whether the far ends answer.

    The environment's choice of flags is part of it. Raises KioskError.
    """
    place = str(config.locate(file, os.environ))
    try:
        settings = config.load(file, os.environ)
        overrides()
    except KioskError as error:
        if not as_json:
            raise
        environment = [Mistake(error.place, error.cause, error.hint)]
        mistakes = error.mistakes if isinstance(error, ConfigError) else environment
        say_json({"file": place, "mistakes": [asdict(mistake) for mistake in mistakes], "notes": []})
        return EXIT_UNUSABLE
    notes = [*left_open(settings), *switched(os.environ)]
    findings = _far_ends(settings) if online else []
    if as_json:
        found = [_for_programs(finding) for finding in findings]
        say_json({"file": place, "mistakes": [], "notes": notes, "online": found if online else None})
    else:
        paint = painter()
        say(f"{place}: {paint('good', 'green')}")
        for note in notes:
            say(f"  {paint('note', 'yellow')}: {note}")
        for finding in findings:
            say(_told(finding))
    return max((_exit_status(finding) for finding in findings), default=EXIT_GOOD)


def _far_ends(settings: Settings) -> list[Finding]:
    from agent.courier.probe import probe
    from hw.clock import SystemClock

    # What the courier would write into its log is said in the answer, once.
    logging.getLogger("agent").addHandler(logging.NullHandler())
    courier = process_of(Layout(settings.spool.path), "courier")
    return probe(settings, SystemClock(), connected=courier is not None)


def _exit_status(finding: Finding) -> int:
    if finding.problem is None:
        return EXIT_GOOD
    return EXIT_UNUSABLE if _needs_person(finding.problem) else EXIT_FOUND_WRONG


def _needs_person(problem: KioskError) -> bool:
    """Whether it stays as it is until somebody corrects it, as a wrong password does and a broken line doesn't."""
    from agent.courier.targets import NeedsPerson

    return isinstance(problem, NeedsPerson) or not problem.retryable


def _told(finding: Finding) -> str:
    paint = painter()
    if finding.problem is None:
        return f"{finding.subject}: {paint('good', 'green')}: {finding.detail}"
    # A far end that doesn't answer now is no reason to leave a room unrecorded.
    comfort = (
        "\n  recording isn't affected: what waits goes on its way by itself"
        if not _needs_person(finding.problem)
        else ""
    )
    return f"{finding.subject}: {paint('wrong', 'red')}: {finding.problem}{comfort}"


def _for_programs(finding: Finding) -> dict[str, Any]:
    problem = finding.problem
    answer: dict[str, Any] = {"subject": finding.subject, "good": problem is None, "detail": finding.detail}
    if problem is not None:
        answer |= {"cause": problem.cause, "hint": problem.hint, "needs_person": _needs_person(problem)}
    return answer


def left_open(settings: Settings) -> list[str]:
    """Defaults that work on a desk and that a clinic shouldn't leave that way."""
    notes = []
    if settings.capture.pcm == "default":
        notes.append('capture.pcm is "default": name the microphone, so that another one never takes its place')
    if not settings.seal.recipients:
        notes.append("seal.recipients is empty: whoever takes the card, or can read the store, hears what was said")
    if not settings.upload.target:
        notes.append("upload.target is empty: recordings stay on this card until they are given up")
    if not settings.mqtt.url:
        notes.append("mqtt.url is empty: nobody is told when this kiosk stops recording")
    return notes


def switched(environ: Mapping[str, str]) -> list[str]:
    """What the environment takes out of the fleet's hands. Raises KioskError when it can't be obeyed."""
    return [
        f"{FLAGS[name].variable}={variant}: here {name} is {variant}, whatever the fleet chooses"
        for name, variant in overrides(environ).items()
    ]
