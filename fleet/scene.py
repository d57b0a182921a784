"""Where a roll-out stands: its document and the flag document, held against each other and against the fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent.contract.evaluation import FlagDocument, checked
from agent.contract.flags import Flag
from agent.contract.rollout import Rollout
from agent.errors import KioskError
from fleet import definitions, flagging
from fleet.flagging import definition_in
from fleet.gate import Ground, Verdict, judge
from fleet.noticeboard import Notice, Noticeboard
from fleet.pictures import Picture

Standing = Literal["settled", "unpublished", "unrecorded", "changed"]
"""Both agree; only the roll-out document was published (forward); only the flag document was (back); somebody set the
flag by hand."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A roll-out, and the flag document beside it."""

    board: Noticeboard
    rollout: Rollout
    flag: Flag
    flags: Notice | None

    @property
    def standing(self) -> Standing:
        """Whether the two agree; how, if they don't."""
        rollout, found = self.rollout, definition_in(self.flags, self.flag.name)
        if rollout.rolled_back or found == definitions.in_phase(self.flag, rollout, rollout.phase):
            return "settled"
        if (self.flags.version if self.flags else 0) < rollout.flags_version:
            return "unpublished"
        return "unrecorded" if found == rollout.before else "changed"


def look(board: Noticeboard) -> Scene:
    """Raises KioskError when there is no roll-out, or one that can't be believed."""
    found = board.rollout()
    if found is None:
        raise KioskError(
            "find roll-out", cause="there is none at this broker", hint="kiosk-fleet rollout start FLAG VARIANT"
        )
    return Scene(board, found[1], flagging.flag_called(found[1].flag), board.flags())


def assess(found: Scene, kiosks: Sequence[Picture], now_ns: int) -> Verdict:
    """What the gate says to the next step now. Raises Refused (`unusable`) when flags can't be evaluated."""
    rollout = found.rollout
    begun = rollout.current.name != "off"
    document = _as_kiosks_see(found.flag, rollout, rollout.phase if begun else 1)
    chosen = frozenset(each.name for each in kiosks if each.should_have(document, rollout.flag) == rollout.variant)
    ground = Ground(
        flag=rollout.flag,
        variant=rollout.variant,
        begun=begun,
        chosen=chosen,
        snapshot=rollout.snapshot,
        since_ns=rollout.since_ns,
        soak_s=rollout.current.soak_s,
    )
    return judge(ground, kiosks, now_ns)


def _as_kiosks_see(flag: Flag, rollout: Rollout, phase: int) -> FlagDocument | None:
    definition = definitions.in_phase(flag, rollout, phase)
    if definition is None:
        return None
    return checked({"metadata": {"version": 1}, "flags": {flag.name: definition}})
