"""What must be true of a kiosk whatever was done to it: room, ledger and bucket against each other.

The room plays noise that never repeats, so a few frames tell where in it they were heard. Nothing is taken from the
kiosk's word alone: what is in the bucket is decoded and compared with the source, and its place in time with the
room's own journal.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.contract.age import CHUNK_BYTES
from agent.ledger import Entry, Gap, Segment
from agent.settings import Settings
from agent.spool import AUDIO_SUFFIX, ENCRYPTED_SUFFIX, files_below
from agent.timeline import Timeline, read
from agent.units import NS_PER_S
from hw.simulated import SimulatedRoom
from tests.end_to_end.kiosk import Kiosk, decoded, runs
from tests.end_to_end.storm import Life
from tests.servers import Bucket

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEEDLE_FRAMES: Final = 64
"""So many frames of noise occur once in a source."""

_PAGE_BYTES: Final = 4096
_UNDER_WAY_S: Final = 2.0
"""docs/SPOOL.md, "Sync": what is on its way to the encoder when a kill comes."""

_CLOCKS_S: Final = 0.5
"""How well the kiosk tells when a frame was heard: a period, on a machine that is busy with killing."""


def noise_that_never_repeats(seconds: float, rate: int, seed: int) -> NDArray[np.int16]:
    """Full-scale white noise, shape (frames, 1): FLAC can't shrink it, and every place in it is unlike any other."""
    generator = np.random.default_rng(seed)
    return generator.integers(-(2**15), 2**15, (round(seconds * rate), 1), dtype=np.int16)


@dataclass(frozen=True, slots=True)
class Placed:
    """A run, and the frame of the room at which it begins."""

    segments: Sequence[Segment]
    position: int

    @property
    def frames(self) -> int:
        return sum(segment.frames for segment in self.segments)

    @property
    def begin_ns(self) -> int:
        return self.segments[0].begin_ns

    @property
    def end_ns(self) -> int:
        return self.segments[-1].end_ns


class Judge:
    """Looks at one kiosk that has ended in good order. Every `assert_…` can be asked for by itself."""

    def __init__(self, kiosk: Kiosk, bucket: Bucket, room: SimulatedRoom, source: NDArray[np.int16]) -> None:
        self._settings: Settings = kiosk.settings
        self._kiosk = kiosk
        self._rate = room.rate
        self.source = source
        history = room.history()
        self.starts: set[int] = {happening.position for happening in history if happening.what in ("start", "resume")}
        self.overran = any(happening.what == "overrun" for happening in history)
        prefix = f"{kiosk.settings.upload.target.partition('://')[2].partition('/')[2]}/"
        self.objects = {key: bucket.get(key)[0] for key in bucket.keys() if key.startswith(prefix)}  # noqa: SIM118 (a bucket is no mapping)
        self.segments = kiosk.segments()
        with kiosk.ledger() as ledger:
            self.gaps: list[Gap] = ledger.gaps()
            self.counters = ledger.counters()
            self.entries: list[Entry] = list(ledger.entries())
            self.timeline: Timeline = read(ledger)

    def copy(self) -> Judge:
        """One whose evidence can be tampered with."""
        other = copy.copy(self)
        other.objects, other.counters = dict(self.objects), dict(self.counters)
        other.segments, other.gaps, other.entries = list(self.segments), list(self.gaps), list(self.entries)
        return other

    def assert_all(self) -> None:
        self.assert_every_segment_is_acknowledged()
        self.assert_the_bucket_holds_each_segment_once_and_whole()
        placed = self.placed_runs()
        self.assert_runs_begin_where_the_microphone_did(placed)
        self.assert_the_timeline_tiles()
        self.assert_gaps_are_as_long_as_the_room_says(placed)
        self.assert_the_counters_agree()

    def assert_every_segment_is_acknowledged(self) -> None:
        """Nothing is pending, evicted, lost, damaged or set aside: whatever was sealed is in the store."""
        assert self.segments
        assert {str(segment.name): segment.state for segment in self.segments if segment.state != "acknowledged"} == {}
        told = {entry.kind for entry in self.entries}
        assert not told & {"evicted", "erased", "lost", "damaged", "quarantined"}, told
        assert list(files_below(self._kiosk.layout.quarantine)) == []

    def assert_the_bucket_holds_each_segment_once_and_whole(self) -> None:
        """One object for each segment, under its key, with its hash; and no other object."""
        keys = [segment.key for segment in self.segments]
        assert len(set(keys)) == len(keys)
        assert sorted(self.objects) == sorted(str(key) for key in keys)
        names = [tuple(key.rsplit("_", 3)[1:3]) for key in self.objects]
        assert len(set(names)) == len(names), "a segment lies under two keys"
        for segment in self.segments:
            digest = hashlib.sha256(self.objects[str(segment.key)]).hexdigest()
            assert digest == segment.sha256
            assert str(segment.key).endswith(f"_{segment.run}_{segment.seq:06d}_{digest[:16]}{self._suffix}")

    def placed_runs(self) -> list[Placed]:
        """Every run found in the source, compared with it sample for sample; in order of time."""
        played = self.source.tobytes()
        found = []
        for run in runs(self.segments):
            assert [segment.seq for segment in run] == list(range(len(run))), f"run {run[0].run} lacks a segment"
            heard = np.concatenate([self._decoded(segment) for segment in run])
            position = _find(played, heard[:_NEEDLE_FRAMES].tobytes())
            assert position is not None, f"run {run[0].run} was never played"
            np.testing.assert_array_equal(heard, self.source[position : position + len(heard)])
            found.append(Placed(run, position))
        for before, after in itertools.pairwise(found):
            assert before.position + before.frames <= after.position, "what was played once is recorded twice"
        return found

    def _decoded(self, segment: Segment) -> NDArray[np.int16]:
        samples = decoded(self.objects[str(segment.key)])
        assert len(samples) == segment.frames
        return samples

    def assert_runs_begin_where_the_microphone_did(self, placed: Sequence[Placed]) -> None:
        """Of what the microphone gave, nothing is missing before a run's first frame, however long recovery took."""
        assert {run.position for run in placed} <= self.starts

    def assert_the_timeline_tiles(self) -> None:
        """Recordings and gaps fill the time from the first frame to the end, and no gap has another reason."""
        assert self.timeline.faults == []
        assert len(self.timeline.accounts) == 1
        assert {gap.reason for gap in self.gaps} <= {"restart", *(["overrun"] if self.overran else [])}

    def assert_gaps_are_as_long_as_the_room_says(self, placed: Sequence[Placed]) -> None:
        """What a gap claims was not recorded is what the room played between two recordings."""
        recordings = [interval for interval in self.timeline.accounts[0].intervals if interval.run]
        assert [interval.run for interval in recordings] == [run.segments[0].run for run in placed]
        for before, after in itertools.pairwise(placed):
            missed_s = (after.position - before.position - before.frames) / self._rate
            assert abs((after.begin_ns - before.end_ns) / NS_PER_S - missed_s) < _CLOCKS_S, after.segments[0].run

    def assert_the_counters_agree(self) -> None:
        """What is told over MQTT about all this is true as well."""
        count, seconds = len(self.segments), sum(segment.seconds for segment in self.segments)
        told = {name: self.counters.get(name, 0) for name in ("segments_total", "uploaded_total")}
        assert told == {"segments_total": count, "uploaded_total": count}
        for name in ("captured_seconds_total", "verified_seconds_total"):
            assert abs(self.counters[name] - seconds) < 1e-3 * count, name

    def assert_a_kill_costs_what_is_promised(self, lives: Sequence[Life]) -> None:
        """No more than a page, a sync and what was under way, besides the time in which no recorder was there."""
        for cost in self.costs_of_kills(lives):
            assert cost.lost_s - cost.starting_s <= self.promised_s, cost

    def costs_of_kills(self, lives: Sequence[Life]) -> Iterator[Cost]:
        """For each gap after one of these recorders was killed: what had been heard by then and isn't there."""
        entered = [entry for entry in self.entries if entry.kind == "gap"]
        for number, gap in enumerate(self.gaps):
            life = next((life for life in lives if life.started_ns <= gap.begin_ns <= life.killed_ns), None)
            if gap.reason != "restart" or life is None:
                continue
            # What the writer found waiting when it began was heard while the process started.
            nothing_kept = number > 0 and self.gaps[number - 1].end_ns == gap.begin_ns
            starting_ns = entered[number - 1].mono_ns - gap.begin_ns if nothing_kept else 0
            yield Cost(gap, (life.killed_ns - gap.begin_ns) / NS_PER_S, starting_ns / NS_PER_S)

    @property
    def _suffix(self) -> str:
        return ENCRYPTED_SUFFIX if self._settings.seal.recipients else AUDIO_SUFFIX

    @property
    def promised_s(self) -> float:
        """What a kill may cost by docs/SPOOL.md: a page of FLAC that holds plain samples, a sync, what is under way.

        Where recordings are encrypted, a chunk takes the place of the page.
        """
        unwritten = CHUNK_BYTES if self._settings.seal.recipients else _PAGE_BYTES
        unwritten_s = unwritten / (2 * self._settings.capture.channels * self._settings.capture.rate)
        return unwritten_s + self._settings.spool.sync_seconds + _UNDER_WAY_S


@dataclass(frozen=True, slots=True)
class Cost:
    """A kill's cost: `lost_s` of sound was heard and isn't kept, of it `starting_s` before the writer was there."""

    gap: Gap
    lost_s: float
    starting_s: float


def _find(played: bytes, needle: bytes) -> int | None:
    at = played.find(needle)
    while at % 2 and at >= 0:
        at = played.find(needle, at + 1)
    return at // 2 if at >= 0 else None
