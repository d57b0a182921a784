"""The gate: whether the next step of a roll-out may be taken, by what the kiosks have counted since this one began.

Pure. The figures are of the kiosks that have the variant, by their own word; those whose environment chooses are left
out.

- **Rates.** Failures ÷ attempts and errors ÷ segments of all of them together, from counters now and in the snapshot.
  A ledger with another epoch began anew after the snapshot: everything in it counts. Counters that fell without that
  (recordings in memory that were lost) tell nothing, and the kiosk isn't judged.
- **Enough.** `LEAST_ATTEMPTS` without a failure say with 95 % confidence that less than 5 % fail, and `LEAST_SEGMENTS`
  that less than 1 % have errors (the rule of three: 3 ÷ n). At least half of those who should have it must be judged.
- **Comparison.** A kiosk is the unit, because what one kiosk attempts fails together. One is troubled by a rate beyond
  the limits, a critical alert, or having fallen silent since the snapshot. More troubled ones than elsewhere are an
  objection if chance alone deals them out so at less than `SIGNIFICANT` (Fisher's exact test, one-sided).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from agent.contract.rollout import MOST_NAMED, Counters, Figures
from agent.units import NS_PER_S, human_seconds
from fleet.pictures import Picture
from fleet.tally import LEAST_SUCCESS_PCT, MOST_ERRORS_PCT, Tally, chance, grown

LEAST_ATTEMPTS: Final = 60
LEAST_SEGMENTS: Final = 300
SIGNIFICANT: Final = 0.05

Reason = Literal["soak", "data", "reach", "success", "errors", "critical", "comparison"]

WAITING: Final[tuple[Reason, ...]] = ("soak", "data", "reach")
"""Nothing is wrong that is known of: time may help."""

Left = Literal["environment", "offline", "silent", "late", "unexpected", "new", "fallen", "gone"]

LEFT_OUT: Final[Mapping[Left, str]] = {
    "environment": "chosen by the kiosk's own environment",
    "offline": "should have it",
    "silent": "online, should have it, tells nothing",
    "late": "should have it, has something else",
    "unexpected": "has it and shouldn't: counted with those who have it",
    "new": "wasn't there when the phase began",
    "fallen": "its counters fell: nothing to count from",
    "gone": "was there when the phase began, and the broker doesn't know it any more",
}
"""Who isn't judged, or is judged otherwise than expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a step is judged on."""

    flag: str
    variant: str
    begun: bool
    """False in the phase "off", where those are judged who will get it next."""
    chosen: frozenset[str]
    """Names of the kiosks that should have it, or will get it next."""
    snapshot: Mapping[str, Counters]
    since_ns: int
    soak_s: int


@dataclass(frozen=True, slots=True)
class Objection:
    """One reason to stay."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it."""

    figures: Figures
    objections: tuple[Objection, ...]
    left_out: Mapping[Left, tuple[str, ...]]
    """Names, by why."""

    @property
    def holds(self) -> bool:
        return not self.objections

    @property
    def bad(self) -> bool:
        """Whether something is wrong that waiting doesn't mend."""
        return any(each.reason not in WAITING for each in self.objections)


def judge(ground: Ground, pictures: Sequence[Picture], now_ns: int) -> Verdict:
    """Whether the next step may be taken at the wall time `now_ns`."""
    left: dict[Left, list[str]] = {reason: [] for reason in LEFT_OUT}
    left["gone"] = sorted(ground.snapshot.keys() - {each.name for each in pictures})
    having, rest = _Side(), _Side()
    critical: list[str] = []
    for each in pictures:
        if ground.flag in each.by_environment:
            left["environment"].append(each.name)
            continue
        chosen = each.name in ground.chosen
        told = each.has(ground.flag)
        has = chosen if told is None or not ground.begun else told == ground.variant
        if told is not None and has != chosen:
            left["late" if chosen else "unexpected"].append(each.name)
        if has:
            critical += [f"{each.name} {name}" for name in each.critical]
        why_not = (having if has else rest).take(each, ground.snapshot.get(each.name))
        if why_not is not None and has:
            left[why_not].append(each.name)
    figures = Figures(
        judged=having.judged,
        attempts=having.tally.attempts,
        failures=having.tally.failures,
        segments=having.tally.segments,
        errors=having.tally.errors,
        compared=having.compared,
        troubled=having.troubled,
        rest_compared=rest.compared,
        rest_troubled=rest.troubled,
        chance=chance(having.troubled, having.compared, rest.troubled, rest.compared),
        silent=tuple([*left["offline"], *left["silent"]][:MOST_NAMED]),
        critical=tuple(critical[:MOST_NAMED]),
        waited_s=max(0, (now_ns - ground.since_ns) // NS_PER_S),
    )
    should = len(ground.chosen - set(left["environment"]))
    found = [*_waiting(ground, figures, should, left), *_wrong(having, figures, critical)]
    return Verdict(figures, tuple(found), {reason: tuple(names) for reason, names in left.items() if names})


class _Side:
    """Those who have it, or those who don't."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.judged = 0
        self.compared = 0
        """Those who are judged, and those who fell silent."""
        self.troubled = 0

    def take(self, picture: Picture, before: Counters | None) -> Left | None:
        """Count a kiosk in; why it can't be judged."""
        if picture.counters is None:
            if before is not None:
                self.compared += 1
                self.troubled += 1
            return "silent" if picture.kiosk.online else "offline"
        since = None if before is None else grown(before, picture.counters)
        if since is None:
            return "new" if before is None else "fallen"
        self.tally += since
        self.judged += 1
        self.compared += 1
        self.troubled += since.troubled or bool(picture.critical)
        return None


def _waiting(ground: Ground, figures: Figures, should: int, left: Mapping[Left, Sequence[str]]) -> list[Objection]:
    found = []
    if figures.waited_s < ground.soak_s:
        text = f"{human_seconds(ground.soak_s - figures.waited_s)} of {human_seconds(ground.soak_s)} are still to pass"
        found.append(Objection("soak", text))
    if should == 0:
        found.append(Objection("reach", "there is no kiosk that should have it"))
    elif figures.judged * 2 < should:
        why = ", ".join(f"{len(left[reason])} {reason}" for reason in left if left[reason] and reason != "environment")
        text = f"{figures.judged} of {should} kiosks that should have it can be judged; half is the least ({why})"
        found.append(Objection("reach", text))
    if figures.attempts < LEAST_ATTEMPTS:
        text = f"{figures.attempts} upload attempts since the step began; {LEAST_ATTEMPTS} are the least"
        found.append(Objection("data", text))
    if figures.segments < LEAST_SEGMENTS:
        text = f"{figures.segments} segments since the step began; {LEAST_SEGMENTS} are the least"
        found.append(Objection("data", text))
    return found


def _wrong(having: _Side, figures: Figures, critical: Sequence[str]) -> list[Objection]:
    found = []
    success, errors = having.tally.success_pct, having.tally.errors_pct
    if success is not None and success <= LEAST_SUCCESS_PCT:
        text = f"{percent(success)} of {figures.attempts} uploads succeeded; more than {LEAST_SUCCESS_PCT:g} % must"
        found.append(Objection("success", text))
    if errors is not None and errors >= MOST_ERRORS_PCT:
        text = f"{percent(errors)} of {figures.segments} segments had errors; less than {MOST_ERRORS_PCT:g} % may"
        found.append(Objection("errors", text))
    if critical:
        more = f" and {len(critical) - 3} more" if len(critical) > 3 else ""
        found.append(Objection("critical", f"critical alerts: {', '.join(critical[:3])}{more}"))
    if figures.chance is not None and figures.chance < SIGNIFICANT:
        text = (
            f"{figures.troubled} of {figures.compared} that have it are in trouble, {figures.rest_troubled} of "
            f"{figures.rest_compared} of the rest: luck does that at {_odds(figures.chance)}, "
            f"{100 * SIGNIFICANT:g} % is the least"
        )
        found.append(Objection("comparison", text))
    return found


def percent(value: float) -> str:
    """Rounded towards what is worse where it matters: 94.96 isn't shown as 95."""
    return f"{math.floor(value * 100) / 100:g} %"


def _odds(probability: float) -> str:
    return percent(100 * probability) if probability >= 0.0001 else "less than 0.01 %"
