"""How a roll-out is shown, to people and to programs."""

from __future__ import annotations

from typing import Any, Final

from agent.contract.keys import timestamp
from agent.contract.rollout import Figures, Phase, Rollout, Step
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD
from agent.terminal import complain, counted, in_utc, painter, say, say_json
from agent.units import NS_PER_S, human_seconds
from fleet.control import Control
from fleet.flags_view import listed
from fleet.gate import LEFT_OUT, Verdict, percent
from fleet.rolling import Outcome
from fleet.scene import Scene, Standing
from fleet.tally import LEAST_SUCCESS_PCT, MOST_ERRORS_PCT, Tally

_STANDING: Final[dict[Standing, tuple[str, str]]] = {
    "settled": ("", ""),
    "unpublished": (
        "a step was interrupted: kiosks haven't been told of this phase yet",
        "`kiosk-fleet rollout advance` tells them, `rollback` takes it back",
    ),
    "unrecorded": (
        "a roll-back was interrupted: kiosks have been told, this document hasn't",
        "`kiosk-fleet rollout rollback` finishes it",
    ),
    "changed": (
        "the flag document doesn't say what this phase says: somebody set the flag by hand",
        "`kiosk-fleet rollout rollback`, or `kiosk-fleet flags set … --force`",
    ),
}
"""What is wrong between the two documents, and the way out."""


def status(control: Control, scene: Scene, verdict: Verdict | None, *, signer: str, as_json: bool) -> int:
    """Where it stands; the exit status: 1 when something is wrong that waiting doesn't mend."""
    rollout = scene.rollout
    if as_json:
        say_json(_document(rollout, scene.standing, verdict, signer))
    else:
        _tell(control, scene, verdict, signer)
    return EXIT_FOUND_WRONG if scene.standing != "settled" or (verdict and verdict.bad) else EXIT_GOOD


def outcome(done: Outcome, *, as_json: bool) -> int:
    """What became of a step; the exit status: 1 when it wasn't taken."""
    rollout = done.rollout
    taken = done.taken and done.finished != "unrecorded"
    if as_json:
        say_json(_document(rollout, "settled", done.verdict, "") | {"taken": taken, "finished": done.finished})
        return EXIT_GOOD if taken else EXIT_FOUND_WRONG
    if not done.taken and done.verdict is not None:
        say(f"{rollout.flag} {rollout.variant} stays in phase {rollout.current.name}")
        _gate(done.verdict)
        return EXIT_FOUND_WRONG
    if done.finished == "unpublished":
        complain("an interrupted step was finished; nothing else was done")
    if done.finished == "unrecorded":
        complain("an interrupted roll-back was finished; nothing else was done")
    say(f"{rollout.flag} {rollout.variant}: {_state(rollout)}")
    return EXIT_GOOD if taken else EXIT_FOUND_WRONG


def plan(phases: tuple[Phase, ...]) -> None:
    """The days on which each phase can begin."""
    for phase, day in zip(phases, _days(phases), strict=True):
        say(f"  {phase.name:9} day {day:g}")


def history(control: Control, rollout: Rollout, *, as_json: bool) -> int:
    """All steps; the exit status."""
    if as_json:
        say_json([step.model_dump(mode="json") | {"by": control.name_of(step.by)} for step in rollout.steps])
        return EXIT_GOOD
    for step in rollout.steps:
        say(_told(control, step))
        if step.figures is not None:
            say(f"    {_in_short(step.figures)}")
    return EXIT_GOOD


def _tell(control: Control, scene: Scene, verdict: Verdict | None, signer: str) -> None:
    rollout, paint = scene.rollout, painter()
    since = human_seconds(max(0, (control.now_ns() - rollout.since_ns) // NS_PER_S))
    say(f"{paint(f'{rollout.flag} {rollout.variant}', 'bold')}: {_state(rollout)}, for {since}")
    say(f"others have {rollout.base}; internal group {rollout.internal}; signed by {signer}")
    entered, earliest_ns = _entered(rollout), rollout.since_ns
    for number, phase in enumerate(rollout.phases):
        here = number == rollout.phase and not rollout.rolled_back
        if phase.name in entered:
            told = f"since {in_utc(entered[phase.name])}"
        elif rollout.under_way and number > rollout.phase:
            earliest_ns += rollout.phases[number - 1].soak_s * NS_PER_S
            told = f"{in_utc(timestamp(earliest_ns))} at the earliest"
        else:
            told = "never"
        say(f"  {'>' if here else ' '} {phase.name:9} {told}")
    what, way_out = _STANDING[scene.standing]
    if what:
        complain(f"{paint(what, 'red')}\n  → {way_out}")
    if verdict is not None:
        _gate(verdict)


def _gate(verdict: Verdict) -> None:
    paint, figures = painter(), verdict.figures
    tally = _tally(figures)
    success, errors = tally.success_pct, tally.errors_pct
    say(f"{counted(figures.judged, 'kiosk')} judged, over {human_seconds(figures.waited_s)}")
    say(f"  upload success   {_or_none(success)} of {figures.attempts} attempts (more than {LEAST_SUCCESS_PCT:g} %)")
    say(f"  errors           {_or_none(errors)} of {figures.segments} segments (less than {MOST_ERRORS_PCT:g} %)")
    say(f"  critical alerts  {listed(figures.critical) or 'none'}")
    say(f"  in trouble       {_troubled(figures)}")
    for reason, names in verdict.left_out.items():
        say(f"  {reason} {len(names)}: {listed(names)} ({LEFT_OUT[reason]})")
    say(paint("the gate is open", "green") if verdict.holds else paint("the gate is shut:", "red"))
    for objection in verdict.objections:
        say(f"  {objection.reason}: {objection.text}")


def _state(rollout: Rollout) -> str:
    if rollout.rolled_back:
        return f"rolled back from phase {rollout.current.name}"
    return "everybody has it" if rollout.complete else f"phase {rollout.current.name}"


def _days(phases: tuple[Phase, ...]) -> list[float]:
    days, passed_s = [], 0
    for phase in phases:
        days.append(round(passed_s / 86400, 2))
        passed_s += phase.soak_s
    return days


def _entered(rollout: Rollout) -> dict[str, str]:
    """When each phase of this roll-out began."""
    entered: dict[str, str] = {}
    for step in rollout.steps:
        if step.action == "start" or (step.action == "full" and (step.flag, step.variant) != _of(rollout)):
            entered = {}
        if step.action != "rollback":
            entered[step.phase] = step.at
    return entered


def _of(rollout: Rollout) -> tuple[str, str]:
    return rollout.flag, rollout.variant


def _told(control: Control, step: Step) -> str:
    approved = f", approved by {step.approved_by}" if step.approved_by else ""
    reason = f": {step.reason}" if step.reason else ""
    what = f"{step.action:8} {step.flag} {step.variant} {step.phase:8}"
    return f"{in_utc(step.at)}  {what}  {control.name_of(step.by)}{approved}{reason}"


def _in_short(figures: Figures) -> str:
    tally = _tally(figures)
    return (
        f"{counted(figures.judged, 'kiosk')} judged after {human_seconds(figures.waited_s)}: "
        f"{_or_none(tally.success_pct)} of {figures.attempts} uploads, {_or_none(tally.errors_pct)} errors in "
        f"{figures.segments} segments; in trouble {_troubled(figures)}"
    )


def _troubled(figures: Figures) -> str:
    rest = f"{figures.rest_troubled} of {figures.rest_compared}" if figures.rest_compared else "nobody to compare with"
    return f"{figures.troubled} of {figures.compared}; of the rest {rest}"


def _tally(figures: Figures) -> Tally:
    return Tally(figures.attempts, figures.failures, figures.segments, figures.errors)


def _or_none(value: float | None) -> str:
    return "no data" if value is None else percent(value)


def _document(rollout: Rollout, standing: Standing, verdict: Verdict | None, signer: str) -> dict[str, Any]:
    entered = _entered(rollout)
    return {
        "flag": rollout.flag,
        "variant": rollout.variant,
        "base": rollout.base,
        "internal": rollout.internal,
        "version": rollout.metadata.version,
        "signed_by": signer or None,
        "state": "rolled_back" if rollout.rolled_back else "complete" if rollout.complete else "under_way",
        "standing": standing,
        "phase": rollout.current.name,
        "since": rollout.since,
        "phases": [phase.model_dump() | {"entered": entered.get(phase.name)} for phase in rollout.phases],
        "gate": None
        if verdict is None
        else {
            "holds": verdict.holds,
            "objections": [{"reason": each.reason, "text": each.text} for each in verdict.objections],
            "figures": verdict.figures.model_dump(mode="json"),
            "left_out": {reason: list(names) for reason, names in verdict.left_out.items()},
        },
    }
