"""What the room played, reckoned up: each frame of it is in the bucket or in a gap that says why not.

Where a run was heard is found in the sound itself: its first frames occur once in the source. The kiosk's word is taken
for nothing but which of the source's repetitions it was.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from agent import timeline
from agent.ledger import Ledger, Segment
from agent.spool import Layout
from agent.units import NS_PER_S
from hw.clock import SystemClock
from hw.simulated import SimulatedRoom
from tests.servers import Bucket

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEEDLE_FRAMES = 4096
"""So much of a run occurs once in the source, be it only the noise of a pause."""

_CLOCKS_S = 0.25
"""Real seconds in which a busy machine may tell the end of a block: times the room's speed in the room's."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A run that is whole in the bucket, from frame `position` of the room on."""

    position: int
    segments: Sequence[Segment]

    @property
    def end(self) -> int:
        return self.position + sum(segment.frames for segment in self.segments)


def reckon(layout: Layout, bucket: Bucket, room: SimulatedRoom, source: NDArray[np.int16]) -> dict[str, Any]:
    """The account of a kiosk that has ended and uploaded everything."""
    with Ledger(layout.ledger, SystemClock(), read_only=True) as ledger:
        segments, gaps, told = list(ledger.segments()), ledger.gaps(), timeline.read(ledger)
    objects = bucket.keys()
    own = {segment.key for segment in segments}
    stretches = list(_stretches(segments, bucket, set(objects), room, source))
    missing = [_Missing.between(*pair, room.rate) for pair in itertools.pairwise(stretches)]
    played = stretches[-1].end if stretches else 0
    missed_s = sum(one.played_s for one in missing)
    return {
        "segments": len(segments),
        "acknowledged": sum(segment.state == "acknowledged" for segment in segments),
        "objects": len(objects),
        "strange_objects": len(set(objects) - own),
        "runs": len({segment.run for segment in segments}),
        "whole_segments": sum(len(stretch.segments) for stretch in stretches),
        "played_s": round(played / room.rate, 1),
        "heard_s": round(played / room.rate - missed_s, 1),
        "missed_s": round(missed_s, 1),
        "gap_s": round(sum(one.told_s for one in missing), 1),
        "worst_disagreement_s": round(max((one.disagreement_s for one in missing), default=0.0), 2),
        "gaps": dict(Counter(gap.reason for gap in gaps)),
        "faults_of_timeline": len(told.faults),
        "unexplained": sum(not one.explained(room.speed * _CLOCKS_S) for one in missing),
    }


@dataclass(frozen=True, slots=True)
class _Missing:
    """What lies between two stretches: by the room's frames, and by the kiosk's clock."""

    played_s: float
    told_s: float

    @classmethod
    def between(cls, before: _Stretch, after: _Stretch, rate: int) -> _Missing:
        told_ns = after.segments[0].begin_ns - before.segments[-1].end_ns
        return cls((after.position - before.end) / rate, told_ns / NS_PER_S)

    @property
    def disagreement_s(self) -> float:
        return abs(self.told_s - self.played_s)

    def explained(self, tolerance_s: float) -> bool:
        return self.disagreement_s <= tolerance_s and (self.told_s > 0 or self.played_s <= 0)


def _stretches(
    segments: Sequence[Segment], bucket: Bucket, objects: set[str], room: SimulatedRoom, source: NDArray[np.int16]
) -> Iterator[_Stretch]:
    """Runs that are in the bucket as they were played, in order of time."""
    played = source.tobytes() + source[:_NEEDLE_FRAMES].tobytes()
    begin_ns = min(segment.begin_ns for segment in segments)
    for _, group in itertools.groupby(segments, key=lambda segment: segment.run):
        run = list(group)
        parts = [_downloaded(bucket, segment) for segment in run if segment.key in objects]
        if [segment.seq for segment in run] != list(range(len(run))) or len(parts) < len(run):
            continue
        heard = np.concatenate(parts)
        position = _place(heard, played, (run[0].begin_ns - begin_ns) * room.rate // NS_PER_S, len(source))
        if position is not None and np.array_equal(heard, _played(source, position, len(heard))):
            yield _Stretch(position, run)


def _downloaded(bucket: Bucket, segment: Segment) -> NDArray[np.int16]:
    """What a segment's object holds; nothing when it isn't the object that was sealed."""
    content, _ = bucket.get(str(segment.key))
    if hashlib.sha256(content).hexdigest() != segment.sha256:
        return np.empty((0, segment.channels), np.int16)
    samples, _ = soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
    return np.asarray(samples, np.int16)


def _place(heard: NDArray[np.int16], played: bytes, expected: int, period: int) -> int | None:
    """The frame of the room nearest to `expected` where this was played; the source repeats after `period` frames."""
    frame_bytes = 2 * int(heard.shape[1])
    needle = heard[:_NEEDLE_FRAMES].tobytes()
    at = played.find(needle)
    while at >= 0 and at % frame_bytes:
        at = played.find(needle, at + 1)
    if at < 0:
        return None
    place = at // frame_bytes
    return place + round((expected - place) / period) * period


def _played(source: NDArray[np.int16], position: int, frames: int) -> NDArray[np.int16]:
    """What the room played from frame `position` of its time on; the source loops."""
    return np.take(source, np.arange(position, position + frames) % len(source), axis=0)
