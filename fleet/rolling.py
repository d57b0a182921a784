"""`kiosk-fleet rollout`: the steps of a roll-out, each of two publications that may be killed in between.

**Forward** the roll-out document comes first, then the flag document that it names: no kiosk gets a variant that isn't
accounted for. Killed in between, the step is `unpublished`, and the next `advance` publishes what was decided, or
`rollback` takes it back. **Back** the flag document comes first, because that is what kiosks wait for. Killed in
between, the roll-back is `unrecorded`, and the next `rollback` or `advance` records it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.contract.flags import Flag
from agent.contract.keys import timestamp
from agent.contract.rollout import MOST_STEPS, Action, Figures, Metadata, Phase, Rollout, Step
from agent.errors import KioskError
from fleet import definitions, flagging
from fleet.control import Control
from fleet.definitions import Definition
from fleet.flagging import definition_in
from fleet.gate import Verdict
from fleet.keyring import Key
from fleet.noticeboard import Noticeboard, Overtaken
from fleet.pictures import snapshot
from fleet.scene import Scene, Standing, assess, look

DAY_S: Final = 86400
PLAN: Final = (
    Phase(name="off", soak_s=1 * DAY_S),
    Phase(name="internal", soak_s=2 * DAY_S),
    Phase(name="10%", soak_s=7 * DAY_S),
    Phase(name="50%", soak_s=7 * DAY_S),
    Phase(name="100%", soak_s=0),
)
"""Day 0 off, day 1 internal, day 3 10 %, day 10 50 %, day 17 all (DESIGN §9)."""

_MOST_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Approval:
    """Who answers for a step."""

    key: Key
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a step."""

    rollout: Rollout
    verdict: Verdict | None = None
    finished: Standing | None = None
    """What an earlier command had left halfway, and was made good: nothing else was done."""
    taken: bool = True
    """False when the gate kept it from being taken: nothing was published."""


def start(
    control: Control,
    flag: Flag,
    variant: str,
    phases: Sequence[Phase],
    internal: str,
    approval: Approval,
    *,
    full: bool = False,
    force: bool = False,
) -> Outcome:
    """Begin with the phase "off", or (`full`) with everybody at once. Raises KioskError."""
    board, kiosks = control.fleet()
    earlier = _earlier(board, force=force)
    flags = flagging.in_force(board, force=force)
    before = definition_in(flags, flag.name)
    base = definitions.the_same_for_all(flag, before)
    if base is None:
        raise _cannot_start(
            f"{flag.name} is chosen by rules: {flagging.in_words(before)}",
            f"a roll-out starts from one variant for all: kiosk-fleet flags set {flag.name} {flag.default}",
        )
    if base == variant:
        raise _cannot_start(f"everybody has {flag.name} {variant} already", "choose another variant")
    if not full and not any(internal in each.kiosk.groups and flag.name not in each.by_environment for each in kiosks):
        raise _cannot_start(
            f"no kiosk is in the group {internal!r}, or all of them have their environment choose",
            "say --internal GROUP, or put [device] groups in some config.toml",
        )
    now = timestamp(control.now_ns())
    phase = len(phases) - 1 if full else 0
    step = _step(now, "full" if full else "start", flag.name, variant, phases[phase], approval)
    rollout = Rollout(
        metadata=Metadata(version=board.next_version("rollout"), issued=now),
        flag=flag.name,
        variant=variant,
        base=base,
        before=before,
        internal=internal,
        phases=tuple(phases),
        phase=phase,
        since=now,
        rolled_back=False,
        flags_version=board.next_version("flags") if full else flags.version if flags else 0,
        snapshot=snapshot(kiosks),
        steps=(*earlier, step)[-MOST_STEPS:],
    )
    return _forward(control, Scene(board, rollout, flag, flags), approval)


def advance(control: Control, approval: Approval, *, full: bool = False) -> Outcome:
    """Take the next step if the gate holds, or (`full`) the last one whatever it says. Raises KioskError.

    What an earlier command left halfway is made good instead.
    """
    board, kiosks = control.fleet()
    found = look(board)
    rollout = found.rollout
    match found.standing:
        case "unpublished":
            return _forward(control, found, approval, finished="unpublished")
        case "unrecorded":
            return _record_rollback(control, found, approval, finished="unrecorded")
        case "changed":
            raise KioskError(
                "advance",
                place=rollout.flag,
                cause=f"the flag document in force doesn't say what phase {rollout.current.name} says",
                hint="somebody set the flag by hand: `kiosk-fleet rollout rollback`, then start anew",
            )
    if rollout.upcoming is None:
        cause = "it was rolled back" if rollout.rolled_back else f"everybody has {rollout.flag} {rollout.variant}"
        raise KioskError("advance", place=rollout.flag, cause=cause, hint="kiosk-fleet rollout start FLAG VARIANT")
    now_ns = control.now_ns()
    verdict = assess(found, kiosks, now_ns)
    if not full and not verdict.holds:
        return Outcome(rollout, verdict, taken=False)
    phase = len(rollout.phases) - 1 if full else rollout.phase + 1
    now = timestamp(now_ns)
    action: Action = "full" if full else "advance"
    step = _step(now, action, rollout.flag, rollout.variant, rollout.phases[phase], approval, verdict.figures)
    following = rollout.model_copy(
        update={
            "metadata": Metadata(version=board.next_version("rollout"), issued=now),
            "phase": phase,
            "since": now,
            "flags_version": board.next_version("flags"),
            "snapshot": snapshot(kiosks),
            "steps": (*rollout.steps, step)[-MOST_STEPS:],
        }
    )
    return _forward(control, Scene(board, following, found.flag, found.flags), approval, verdict=verdict)


def rollback(control: Control, approval: Approval) -> Outcome:
    """Give everybody what they had before, at once. Raises KioskError.

    A colleague who publishes at the same moment can't stop it: it is done anew on top of what they published.
    """
    for attempt in range(_MOST_TRIES):
        found = look(control.board())
        if found.rollout.rolled_back:
            raise KioskError(
                "roll back",
                place=found.rollout.flag,
                cause=f"it was rolled back at {found.rollout.since}",
                hint="`kiosk-fleet flags set` chooses a variant for all",
            )
        try:
            return _back(control, found, approval)
        except Overtaken:
            if attempt == _MOST_TRIES - 1:
                raise
    raise AssertionError


def _back(control: Control, found: Scene, approval: Approval) -> Outcome:
    unrecorded = found.standing == "unrecorded"
    if definition_in(found.flags, found.flag.name) != found.rollout.before:
        what = f"roll-back of {found.rollout.flag} {found.rollout.variant}"
        _put_flag(control, found, found.rollout.before, what, approval.key)
    return _record_rollback(control, found, approval, finished="unrecorded" if unrecorded else None)


def _record_rollback(control: Control, found: Scene, approval: Approval, *, finished: Standing | None) -> Outcome:
    rollout, now = found.rollout, timestamp(control.now_ns())
    step = _step(now, "rollback", rollout.flag, rollout.variant, rollout.current, approval)
    ended = rollout.model_copy(
        update={
            "metadata": Metadata(version=found.board.next_version("rollout"), issued=now),
            "rolled_back": True,
            "since": now,
            "flags_version": max(rollout.flags_version, found.flags.version if found.flags else 0),
            "snapshot": {},
            "steps": (*rollout.steps, step)[-MOST_STEPS:],
        }
    )
    found.board.post("rollout", ended.document(), approval.key)
    return Outcome(ended, finished=finished)


def _forward(
    control: Control,
    found: Scene,
    approval: Approval,
    *,
    verdict: Verdict | None = None,
    finished: Standing | None = None,
) -> Outcome:
    """Say that the step is taken (unless that was said before), then have kiosks take it."""
    rollout = found.rollout
    if finished is None:
        found.board.post("rollout", rollout.document(), approval.key)
    wanted = definitions.in_phase(found.flag, rollout, rollout.phase)
    if definition_in(found.flags, rollout.flag) != wanted:
        what = f"roll-out of {rollout.flag} {rollout.variant}: {rollout.current.name}"
        _put_flag(control, found, wanted, what, approval.key)
    return Outcome(rollout, verdict, finished)


def _put_flag(control: Control, found: Scene, definition: Definition, what: str, key: Key) -> None:
    flags = flagging.replaced(found.flags, found.flag.name, definition)
    version = max(found.board.next_version("flags"), found.rollout.flags_version)
    flagging.publish(control, found.board, found.flags, flags, what, key, version=version)


def _earlier(board: Noticeboard, *, force: bool) -> tuple[Step, ...]:
    """The history so far. Raises KioskError while another roll-out is under way."""
    try:
        earlier = flagging.rollout_of(board)
    except KioskError:
        if not force:
            raise
        earlier = None
    if earlier is not None and earlier.under_way:
        raise KioskError(
            "start roll-out",
            place=earlier.flag,
            cause=f"that of {earlier.variant} is under way, in phase {earlier.current.name}",
            hint="`kiosk-fleet rollout advance` until everybody has it, or `rollback`",
        )
    return earlier.steps if earlier is not None else ()


def _step(
    at: str,
    action: Action,
    flag: str,
    variant: str,
    phase: Phase,
    approval: Approval,
    figures: Figures | None = None,
) -> Step:
    return Step(
        at=at,
        action=action,
        flag=flag,
        variant=variant,
        phase=phase.name,
        by=approval.key.public,
        approved_by=approval.by,
        reason=approval.reason,
        figures=figures,
    )


def _cannot_start(cause: str, hint: str) -> KioskError:
    return KioskError("start roll-out", cause=cause, hint=hint)
