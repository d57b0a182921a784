"""`kiosk-fleet rollout`: begin, look, go on, go back."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from agent.contract.names import is_name
from agent.contract.rollout import Phase
from agent.errors import EXIT_GOOD, KioskError
from agent.terminal import complain, say, say_json
from agent.units import Duration, MisreadError
from fleet import flagging, keyring, rolling, rollout_view, scene
from fleet.broker import Address
from fleet.control import Control, control
from fleet.keyring import Key
from fleet.options import PLAIN, AsJson, SigningKey, Yes, at_broker, confirm, example
from fleet.rolling import PLAN, Approval

app = typer.Typer(**PLAIN)

_MOST_WORDS: Final = 200

ApprovedBy = Annotated[str, typer.Option("--approved-by", metavar="NAME", help="Who answers for it; is recorded.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Is recorded.")]


@app.command("start", epilog=example("rollout start offline_recording off --soak internal=3d"))
@at_broker
def start(
    flag: Annotated[str, typer.Argument(help="Which.")],
    variant: Annotated[str, typer.Argument(help="What it is to become.")],
    where: Address,
    internal: Annotated[str, typer.Option(metavar="GROUP", help="The group that comes first.")] = "internal",
    soak: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[PHASE=]TIME",
            help="How long a phase lasts at least, or each: off=1d, internal=2d, 10%=7d, 50%=7d.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="To everybody at once, without phases.")] = False,
    approved_by: ApprovedBy = "",
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="Also over documents that can't be believed.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    key: SigningKey = None,
) -> None:
    """Begin to give a variant to the fleet: nobody, the internal group, 10 %, 50 %, all.

    Each phase waits for `rollout advance`. In the first, off, nothing changes: it is measured how those fare who get it
    next.
    """
    found, phases = flagging.flag_called(flag), planned(soak or [])
    flagging.variant_of(found, variant)
    if not is_name(internal):
        raise KioskError("start roll-out", place=internal[:80], cause="no group can be called so")
    approval = _approval(keyring.chosen(key), approved_by, reason, needed=full)
    with control(where) as fleet:
        if full:
            _warn(f"{flag} {variant} for all kiosks at once", yes=yes)
        done = rolling.start(fleet, found, variant, phases, internal, approval, full=full, force=force)
    status = rollout_view.outcome(done, as_json=as_json)
    if not as_json and not full:
        rollout_view.plan(phases)
    raise typer.Exit(status)


@app.command("status", epilog=example("rollout status --json"))
@at_broker
def status(where: Address, as_json: AsJson = False) -> None:
    """Show where the roll-out stands, and what the gate says to the next step.

    Exit status: 0 all is well, 1 something is wrong that waiting doesn't mend, 2 could not run.
    """
    with control(where) as fleet:
        board, kiosks = fleet.fleet()
        found = board.rollout()
        if found is None:
            if as_json:
                say_json(None)
            else:
                complain("there is no roll-out\n  → `kiosk-fleet rollout start FLAG VARIANT` begins one")
            raise typer.Exit(EXIT_GOOD)
        here = scene.look(board)
        verdict = None if here.rollout.rolled_back else scene.assess(here, kiosks, fleet.now_ns())
        code = rollout_view.status(fleet, here, verdict, signer=found[0].signer, as_json=as_json)
    raise typer.Exit(code)


@app.command("advance", epilog=example('rollout advance --approved-by "Dr. Ruiz"'))
@at_broker
def advance(
    where: Address,
    approved_by: ApprovedBy = "",
    reason: Reason = "",
    full: Annotated[bool, typer.Option("--full", help="To everybody, whatever the gate says.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    key: SigningKey = None,
) -> None:
    """Take the next step, if its time has come and the gate holds.

    Exit status: 0 taken, 1 refused, with the figures: nothing was published; 2 could not run.
    """
    approval = _approval(keyring.chosen(key), approved_by, reason, needed=True)
    with control(where) as fleet:
        if full:
            _warn("everybody gets it now, whatever the gate says", yes=yes)
        done = rolling.advance(fleet, approval, full=full)
    raise typer.Exit(rollout_view.outcome(done, as_json=as_json))


@app.command("rollback", epilog=example('rollout rollback --reason "uploads fail"'))
@at_broker
def rollback(
    where: Address,
    approved_by: ApprovedBy = "",
    reason: Reason = "",
    as_json: AsJson = False,
    key: SigningKey = None,
) -> None:
    """Give everybody what they had before, at once. Asks nothing."""
    approval = _approval(keyring.chosen(key), approved_by, reason, needed=False)
    with control(where) as fleet:
        done = rolling.rollback(fleet, approval)
    rollout_view.outcome(done, as_json=as_json)


@app.command("history", epilog=example("rollout history"))
@at_broker
def history(where: Address, as_json: AsJson = False) -> None:
    """Show every step with who answers for it, and the gate's figures of then."""
    with control(where) as fleet:
        raise typer.Exit(_history(fleet, as_json=as_json))


def planned(soaks: list[str]) -> tuple[Phase, ...]:
    """The plan with other times. Raises KioskError."""
    phases = {phase.name: phase for phase in PLAN}
    for written in soaks:
        name, equals, time = written.rpartition("=")
        if equals and name not in phases:
            known = ", ".join(phases)
            raise KioskError("plan roll-out", place=f"--soak {written}", cause="no such phase", hint=f"one of {known}")
        try:
            seconds = round(Duration.parse(time))
        except MisreadError as error:
            raise KioskError(
                "plan roll-out",
                place=f"--soak {written}",
                cause=error.cause,
                hint="internal=3d, 10%=12h, or 1d for each",
            ) from error
        if seconds > 366 * rolling.DAY_S:
            raise KioskError("plan roll-out", place=f"--soak {written}", cause="a phase lasts for a year at most")
        for phase in [name] if name else list(phases):
            phases[phase] = Phase(name=phase, soak_s=seconds)
    return tuple(phases.values())


def _history(fleet: Control, *, as_json: bool) -> int:
    found = flagging.rollout_of(fleet.board())
    if found is None:
        if as_json:
            say_json([])
        else:
            say("no roll-out yet")
        return EXIT_GOOD
    return rollout_view.history(fleet, found, as_json=as_json)


def _approval(key: Key, approved_by: str, reason: str, *, needed: bool) -> Approval:
    approved_by, reason = approved_by.strip(), reason.strip()
    if needed and not approved_by:
        raise KioskError("approve", cause="nobody answers for this step", hint="say --approved-by NAME")
    for text in (approved_by, reason):
        if len(text) > _MOST_WORDS or not text.isprintable():
            raise KioskError("approve", place=ascii(text[:40]), cause=f"up to {_MOST_WORDS} printable characters")
    return Approval(key, approved_by, reason)


def _warn(what: str, *, yes: bool) -> None:
    complain("warning: nothing is tried on a few first; what goes wrong goes wrong everywhere")
    confirm("roll out", what, yes=yes)
