"""The roll-out document: where a roll-out stands, why it may stand there, and what the kiosks had counted before.

It is the body of what is signed and retained on `kiosk/v1/_fleet/rollout`. Kiosks don't read it: they hear of a phase
by the flag document. It is for admins' tools, which need no server of their own because all they have to remember is
here. What is read off a broker is checked as a whole before anything in it counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.contract.evaluation import HIGHEST_VERSION
from agent.contract.keys import TIMESTAMP_PATTERN, moment
from agent.contract.names import NAME, Named
from agent.contract.signed import KEY_PATTERN, Refused

MOST_STEPS: Final = 200
"""Of the history: the oldest are dropped."""
MOST_NAMED: Final = 20
"""Kiosks that a step's figures name; of the others there is the number."""

Action = Literal["start", "advance", "full", "rollback"]

_KIOSK: Final = f"^{NAME.pattern}/{NAME.pattern}$"

Time = Annotated[str, Field(pattern=TIMESTAMP_PATTERN)]
KioskName = Annotated[str, Field(pattern=_KIOSK)]
Words = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=HIGHEST_VERSION)]
Version = Annotated[int, Field(ge=1, le=HIGHEST_VERSION)]


class _Closed(BaseModel):
    """Exactly what is listed, as JSON has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Phase(_Closed):
    """One step of the plan: who has the variant, and for how long at least."""

    name: Annotated[str, Field(pattern="^(off|internal|[1-9][0-9]?%|100%)$")]
    """"off": nobody. "internal": the internal group. "10%": that group, and a tenth of all others."""
    soak_s: Annotated[int, Field(ge=0, le=366 * 86400)]
    """From when it begins until the next may."""

    @property
    def percent(self) -> int:
        """The share of the fleet besides the internal group."""
        return int(self.name[:-1]) if self.name.endswith("%") else 0


class Counters(_Closed):
    """What a kiosk had counted. All of them only grow, within an epoch of its ledger."""

    epoch: Annotated[str, Field(max_length=64)]
    upload_attempts_total: Count
    upload_failures_total: Count
    segments_total: Count
    segment_errors_total: Count


class Figures(_Closed):
    """What a step was decided by: the gate's reckoning as it was then."""

    judged: Count
    """Kiosks that have the variant and whose counters told something."""
    attempts: Count
    failures: Count
    segments: Count
    errors: Count
    compared: Count
    """These, and those that told something when the phase began and nothing now."""
    troubled: Count
    """Of these: with a bad rate, a critical alert, or nothing to tell."""
    rest_compared: Count
    """The same of the kiosks that don't have the variant."""
    rest_troubled: Count
    chance: Annotated[float, Field(ge=0, le=1)] | None
    """That chance alone gives the variant so many of the troubled kiosks; None with nobody to compare."""
    silent: tuple[KioskName, ...]
    critical: tuple[Words, ...]
    waited_s: Count


class Step(_Closed):
    """One thing that was done, and who answers for it."""

    at: Time
    action: Action
    flag: Words
    variant: Words
    phase: Words
    """That which began; of a roll-back that which ended."""
    by: Annotated[str, Field(pattern=KEY_PATTERN)]
    approved_by: Words = ""
    reason: Words = ""
    figures: Figures | None = None
    """None where nothing was reckoned: at a start, and of what doesn't wait for the gate."""


class Metadata(_Closed):
    """As that of a flag document."""

    version: Version
    issued: Time


class Rollout(_Closed):
    """One roll-out, the newest."""

    metadata: Metadata
    flag: Annotated[str, Field(min_length=1, max_length=200)]
    variant: Annotated[str, Field(min_length=1, max_length=200)]
    """What is rolled out."""
    base: Annotated[str, Field(min_length=1, max_length=200)]
    """What everybody else has."""
    before: dict[str, Any] | None
    """The flag in the flag document as it was; None where it had none. A roll-back restores it."""
    internal: Annotated[str, Named()]
    """The group that comes first."""
    phases: Annotated[tuple[Phase, ...], Field(min_length=3, max_length=20)]
    phase: Annotated[int, Field(ge=0)]
    """Of `phases`, that which has begun."""
    since: Time
    rolled_back: bool
    flags_version: Annotated[int, Field(ge=0, le=HIGHEST_VERSION)]
    """The flag document that this step belongs to, published right after (of a roll-back: before) this one; where no
    change was needed the one that was in force; 0 where there was none."""
    snapshot: dict[KioskName, Counters]
    """What each kiosk had counted when the phase began."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=MOST_STEPS)]
    """Oldest first, also those of roll-outs before this one."""

    @model_validator(mode="after")
    def _walks(self) -> Self:
        names = [phase.name for phase in self.phases]
        shares = [phase.percent for phase in self.phases[2:]]
        if names[:2] != ["off", "internal"] or shares[-1] != 100 or shares != sorted(set(shares)):
            raise ValueError("phases go from off by internal to 100%, each larger than the one before")
        if self.phase >= len(self.phases):
            raise ValueError("there is no such phase")
        return self

    @property
    def current(self) -> Phase:
        return self.phases[self.phase]

    @property
    def upcoming(self) -> Phase | None:
        """The phase after this one; None when everybody has it, or nobody any more."""
        return None if self.rolled_back or self.complete else self.phases[self.phase + 1]

    @property
    def complete(self) -> bool:
        """Whether everybody has it."""
        return not self.rolled_back and self.phase == len(self.phases) - 1

    @property
    def under_way(self) -> bool:
        """Whether there are steps to come."""
        return self.upcoming is not None

    @property
    def since_ns(self) -> int:
        """When the phase began, in nanoseconds since 1970."""
        return moment(self.since)

    def document(self) -> dict[str, Any]:
        """As it is signed."""
        return self.model_dump(mode="json")


def read(document: Mapping[str, Any]) -> Rollout:
    """What a signed document says. Raises Refused (`invalid`) with the place of the first mistake."""
    try:
        return Rollout.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part)[:80] for part in first["loc"]) or "the document"
        raise Refused("invalid", f"{place}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise Refused("invalid", "it can't be understood") from error
