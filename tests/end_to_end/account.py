"""What a recorder put down, judged by the journal of the room it listened to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from agent import timeline
from agent.ledger import Segment
from agent.timeline import Interval
from agent.units import NS_PER_S
from hw.simulated import SimulatedRoom
from tests.end_to_end.kiosk import Kiosk, decoded, runs

PERIOD_S = 0.5
"""How often the recorder's microphone wakes it: losses are accounted to one period."""

REASONS = {
    "overrun": "overrun",
    "suspend": "overrun",
    "stall": "overrun",
    "freeze": "unplugged",
    "gone": "unplugged",
    "broken": "unplugged",
}
"""What the ledger says of each thing a room does. `stall` is a freeze that ended before anybody opened anew."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Frames of the room that nobody heard."""

    begin: int
    end: int
    causes: frozenset[str]

    @property
    def frames(self) -> int:
        return self.end - self.begin

    @property
    def reasons(self) -> set[str]:
        return {REASONS[cause] for cause in self.causes}


def losses(room: SimulatedRoom) -> list[Loss]:
    """Every loss between two frames that were heard, and one before the first if the room was silent then."""
    found: list[Loss] = []
    causes: set[str] = set()
    for happening in room.history():
        if happening.what in REASONS:
            causes.add(happening.what)
        elif happening.what in ("start", "resume", "thaw") and happening.lost:
            begin, end = happening.position - happening.lost, happening.position
            if found and begin <= found[-1].end:
                # A stream that began anew and again gave nothing goes on losing.
                found[-1] = Loss(found[-1].begin, end, found[-1].causes | (causes - {"freeze"}))
            else:
                found.append(Loss(begin, end, frozenset({"stall"} if happening.what == "thaw" else causes)))
            causes = set()
    return found


def silences(room: SimulatedRoom) -> list[tuple[int, int]]:
    """From which frame to which the card gave zeros."""
    turns = [happening for happening in room.history() if happening.what in ("zeros", "sound")]
    ends = [*(turn.position for turn in turns[1:]), sys.maxsize]
    return [(turn.position, end) for turn, end in zip(turns, ends, strict=False) if turn.what == "zeros"]


@dataclass(frozen=True, slots=True)
class Sound:
    """What the room let be heard: a source that loops, but for the silences."""

    source: NDArray[np.int16]
    silences: list[tuple[int, int]]

    def played(self, begin: int, frames: int) -> NDArray[np.int16]:
        """From frame `begin` of the room on."""
        length = len(self.source)
        first = begin // length * length
        loops = range(first, begin + frames, length) or [first]
        sound = np.concatenate([self.source[max(begin - loop, 0) : begin + frames - loop] for loop in loops])
        for since, until in self.silences:
            sound[max(since - begin, 0) : max(until - begin, 0)] = 0
        return sound


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far the ledger is from the truth, where both need not be the same to the frame."""

    recorded: int
    lost: int
    worst_gap_s: float
    """The largest difference between a gap's length and what was lost in it."""
    all_gaps_s: float
    """The same of all gaps together."""


def judge(kiosk: Kiosk, room: SimulatedRoom, source: NDArray[np.int16]) -> Verdict:
    """Hold everything against the room's journal: runs to the bit, gaps to a period, nothing besides.

    For one boot, one life of the recorder, and a source that loops.
    """
    with kiosk.ledger() as ledger:
        row = timeline.read(ledger)
    assert row.faults == []
    (account,) = row.accounts
    gaps = list(_gaps(account.intervals))
    lost = losses(room)
    heard = list(runs(kiosk.segments()))
    opens_with_gap = bool(lost) and lost[0].begin == 0
    assert len(heard) == len(lost) + (not opens_with_gap)
    sound = Sound(source, silences(room))
    position = lost[0].end if opens_with_gap else 0
    recorded = before = 0
    for segments, loss in zip_longest(heard, lost[1:] if opens_with_gap else lost):
        frames = sum(segment.frames for segment in segments)
        audio = sound.played(position - before, before), sound.played(position, frames - before)
        assert np.array_equal(_recorded(kiosk, segments), np.concatenate(audio)), segments[0].run
        recorded += frames
        position += frames - before
        if loss is not None:
            # Where in a block a stall lies nobody can tell: up to a block of what was heard before goes with what came
            # after. Every other loss is where the run ends, to the frame.
            before = loss.begin - position
            assert 0 <= before <= (PERIOD_S * room.rate if loss.causes == {"stall"} else 0), loss
            position = loss.end
    assert recorded + sum(loss.frames for loss in lost) == position
    errors = []
    for (reasons, seconds), loss in zip(gaps, lost, strict=False):
        assert reasons == loss.reasons, loss
        errors.append(seconds - loss.frames / room.rate)
    assert all(reasons <= {"restart"} for reasons, _ in gaps[len(lost) :]), "the end of the process is no loss"
    worst = max((abs(error) for error in errors), default=0.0)
    assert worst <= PERIOD_S
    return Verdict(recorded, position - recorded, worst, sum(errors))


def _gaps(intervals: tuple[Interval, ...]) -> Iterator[tuple[set[str], float]]:
    """Reasons and length of each time without a recording."""
    reasons: set[str] = set()
    begin_ns = end_ns = 0
    for interval in intervals:
        if interval.reason:
            begin_ns = begin_ns if reasons else interval.begin_ns
            end_ns = interval.end_ns
            reasons.add(interval.reason)
        elif reasons:
            yield reasons, (end_ns - begin_ns) / NS_PER_S
            reasons = set()
    if reasons:
        yield reasons, (end_ns - begin_ns) / NS_PER_S


def _recorded(kiosk: Kiosk, segments: list[Segment]) -> NDArray[np.int16]:
    return np.concatenate([decoded(kiosk.layout.audio(segment.name).read_bytes()) for segment in segments])
