"""`kiosk-recorder erase`: whole recordings of a stretch of time are removed, here and, by a tombstone, from the store.

A running recorder does it: it gets the order as a file beside the spool, where nobody but its own user and root may
write, so that it needs no signature. Without one it's done here, under the recorder's lock.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
import time
from dataclasses import dataclass
from typing import Final

from agent.commands.kiosk import Kiosk, open_ledger, process_of
from agent.commands.repair import alone, as_owner
from agent.commands.times import iso, local, moment
from agent.contract.verbs import REASON
from agent.errors import EXIT_GOOD, KioskError
from agent.ledger import Boot, Ledger, Segment
from agent.recorder.erasing import Erasure, carry_out, file_of, fulfilled, order, overlapping
from agent.recorder.homecoming import cuts_for_card
from agent.recorder.root import open_root
from agent.spool import Layout, files_below
from agent.status import runtime_directory
from agent.terminal import complain, counted, say, say_json
from agent.units import Duration, MisreadError, human_seconds

_PATIENCE_S: Final = 60.0
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Span:
    """What was asked for, as it was written."""

    last: str | None
    since: str | None
    until: str | None


def erase(kiosk: Kiosk, span: Span, reason: str, *, yes: bool, as_json: bool) -> int:
    """Have it done and say what was. Raises KioskError."""
    if reason and not REASON.holds(reason):
        raise KioskError("erase", place="--reason", cause=REASON.wrong, hint=f"write {REASON.described}")
    with open_ledger(kiosk) as ledger:
        erasure = _ordered(kiosk, span, reason, ledger.now_ns())
        found = overlapping(ledger.segments(), ledger.offsets(), erasure)
        if not yes:
            _ask(kiosk, erasure, found)
    running = process_of(kiosk.layout, "recorder") is not None
    if running:
        with as_owner(kiosk.layout.spool):
            _tell(kiosk, erasure)
    else:
        with alone(kiosk.layout, "erase"):
            _do(kiosk, erasure)
    return _report(kiosk, erasure, as_json=as_json)


def _ordered(kiosk: Kiosk, span: Span, reason: str, now_ns: int) -> Erasure:
    """Raises KioskError for a span that isn't one."""
    if (span.last is None) == (span.since is None) or (span.until is not None and span.since is None):
        raise KioskError(
            "erase", cause="it needs one stretch of time", hint="--last 10m, or --from 08:00 with or without --to 09:00"
        )
    if span.last is not None:
        try:
            from_ns = now_ns - Duration.parse(span.last).ns
        except MisreadError as error:
            raise KioskError("erase", place=f'--last "{span.last}"', cause=error.cause, hint=error.hint) from error
    else:
        from_ns = moment(span.since or "", kiosk.zone, now_ns)
    to_ns = now_ns if span.until is None else min(moment(span.until, kiosk.zone, now_ns), now_ns)
    if from_ns >= to_ns:
        raise KioskError(
            "erase", cause="that stretch of time ends before it begins, or lies ahead", hint="turn it round"
        )
    return Erasure(secrets.token_hex(16), from_ns, to_ns, reason)


def _ask(kiosk: Kiosk, erasure: Erasure, found: list[Segment]) -> None:
    """Go on only when a person says yes. Raises KioskError."""
    between = f"{local(erasure.from_ns, kiosk.zone)} and {local(erasure.to_ns, kiosk.zone)}"
    what = f"{counted(len(found), 'recording')} ({human_seconds(sum(segment.seconds for segment in found))})"
    what += f", and what is being recorded, between {between}"
    if sys.stdin.isatty():
        complain(f"erase {what}, for ever? Type yes to go on.")
        if sys.stdin.readline().strip().lower() in ("yes", "y"):
            return
    raise KioskError("erase", cause=f"nobody confirmed: {what}", hint="say --yes; nothing was erased")


def _tell(kiosk: Kiosk, erasure: Erasure) -> None:
    """Have the recorder do it, and wait until it has. Raises KioskError."""
    root = kiosk.layout.root
    try:
        order(root, erasure)
        waiting = file_of(root, erasure)
        deadline_s = time.monotonic() + _PATIENCE_S
        while waiting.exists():
            if time.monotonic() > deadline_s:
                raise KioskError(
                    "erase",
                    place=str(waiting),
                    cause=f"the recorder hasn't done it within {_PATIENCE_S:.0f} s",
                    hint="it does it when its card answers, or at its next start; `kiosk-recorder status` tells more",
                )
            time.sleep(_LOOK_S)
    except OSError as error:
        raise _refused(kiosk, error) from error


def _do(kiosk: Kiosk, erasure: Erasure) -> None:
    direct = Layout(runtime_directory() / "direct")
    if any(True for _ in files_below(direct.sealed)) or any(True for _ in files_below(direct.open)):
        raise KioskError(
            "erase",
            place=str(direct.root),
            cause="recordings lie in memory, and only the recorder brings them to the card",
            hint="start it (`systemctl start kiosk-recorder`), then erase",
        )
    clock = kiosk.clock
    boot = Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "unsynchronised")
    try:
        order(kiosk.layout.root, erasure)
        with open_root(kiosk.settings, clock, boot, cuts_for_card(direct, clock)) as root:
            carry_out(root, erasure)
        fulfilled(kiosk.layout.root, erasure)
    except (OSError, sqlite3.DatabaseError) as error:
        raise _refused(kiosk, error) from error


def _refused(kiosk: Kiosk, error: Exception) -> KioskError:
    return KioskError(
        "erase",
        place=str(kiosk.layout.root),
        cause=str(error),
        hint="run it as root or as the recorder's user, and see that the card is sound; it can be repeated at any time",
    )


def _report(kiosk: Kiosk, erasure: Erasure, *, as_json: bool) -> int:
    with open_ledger(kiosk) as ledger:
        erased = _erased(ledger, erasure)
    in_store = [segment for segment in erased if segment.key is not None]
    if as_json:
        say_json(
            {
                "id": erasure.id,
                "from": iso(erasure.from_ns, kiosk.zone),
                "to": iso(erasure.to_ns, kiosk.zone),
                "reason": erasure.why,
                "recordings": [str(segment.name) for segment in erased],
                "seconds": sum(segment.seconds for segment in erased),
                "keys": [segment.key for segment in in_store],
            }
        )
    else:
        length = human_seconds(sum(segment.seconds for segment in erased))
        say(f"erased {counted(len(erased), 'recording')} ({length}), order {erasure.id}")
        if in_store:
            say(
                f"  → {counted(len(in_store), 'recording')} may be in the store: `kiosk-fleet erase-apply` removes "
                "them there, once the tombstone has been uploaded"
            )
    return EXIT_GOOD


def _erased(ledger: Ledger, erasure: Erasure) -> list[Segment]:
    """By this order, on the card and in memory."""
    orders = (erasure.id, erasure.in_memory.id)
    names = [name for order, _, names in ledger.erasures() if order in orders for name in names]
    return [segment for name in names if (segment := ledger.segment(name)) is not None]
