"""What kiosks have counted since a snapshot, what it says of them, and whether luck explains a difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from agent.contract.rollout import Counters

LEAST_SUCCESS_PCT: Final = 95.0
"""Of finished attempts; exactly this isn't enough (DESIGN §9)."""
MOST_ERRORS_PCT: Final = 1.0
"""Of sealed segments; exactly this is too much (DESIGN §9)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What kiosks counted since the snapshot."""

    attempts: int = 0
    failures: int = 0
    segments: int = 0
    errors: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.attempts + other.attempts,
            self.failures + other.failures,
            self.segments + other.segments,
            self.errors + other.errors,
        )

    @property
    def success_pct(self) -> float | None:
        """None without attempts."""
        return None if self.attempts == 0 else 100 * (1 - min(self.failures / self.attempts, 1))

    @property
    def errors_pct(self) -> float | None:
        """None where nothing was sealed and nothing went wrong; 100 where more went wrong than was sealed."""
        if self.errors == 0:
            return 0.0 if self.segments else None
        return 100 * min(self.errors / self.segments, 1) if self.segments else 100.0

    @property
    def troubled(self) -> bool:
        """Whether a rate is beyond the limits."""
        success, errors = self.success_pct, self.errors_pct
        return (success is not None and success <= LEAST_SUCCESS_PCT) or (
            errors is not None and errors >= MOST_ERRORS_PCT
        )


def grown(before: Counters, now: Counters) -> Tally | None:
    """What was counted in between; never negative. None when that can't be told."""
    if before.epoch != now.epoch:
        before = Counters(
            epoch=now.epoch,
            upload_attempts_total=0,
            upload_failures_total=0,
            segments_total=0,
            segment_errors_total=0,
        )
    found = (
        now.upload_attempts_total - before.upload_attempts_total,
        now.upload_failures_total - before.upload_failures_total,
        now.segments_total - before.segments_total,
        now.segment_errors_total - before.segment_errors_total,
    )
    return None if min(found) < 0 else Tally(*found)


def chance(troubled: int, judged: int, rest_troubled: int, rest: int) -> float | None:
    """That `judged` kiosks get `troubled` or more of all the troubled ones by luck; None with nobody to compare.

    Fisher's exact test, one-sided: the upper tail of the hypergeometric distribution.
    """
    if judged == 0 or rest == 0:
        return None
    everybody, bad = judged + rest, troubled + rest_troubled
    tail = sum(
        math.exp(_log_choose(bad, each) + _log_choose(everybody - bad, judged - each) - _log_choose(everybody, judged))
        for each in range(troubled, min(bad, judged) + 1)
        if judged - each <= everybody - bad
    )
    return min(tail, 1.0)


def _log_choose(total: int, taken: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(taken + 1) - math.lgamma(total - taken + 1)
