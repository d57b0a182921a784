"""Random lives of a recorder on one card, held against a model after every step (tests/model/model.py).

The recorder's writer, its spool, ledger, recovery and retention are the real ones; the courier is a second connection
to the ledger. Only time, the room and what others keep on the card are made up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.inspection import Inspection
from agent.ledger import Boot, Ledger, Segment
from agent.settings import Seal
from agent.sidecar import RECORD_BYTES, read_sidecar
from agent.spool import AUDIO_SUFFIX, ENCRYPTED_SUFFIX, PART_SUFFIX, Layout, SegmentName
from agent.timeline import read
from agent.units import NS_PER_S, Duration, Frames, Size
from hw.alsa import Block
from tests.clocks import FakeClock
from tests.end_to_end.kiosk import decoded
from tests.keys import PUBLIC, identity
from tests.model.model import Model, Piece, Stretch
from tests.recorder.room import RATE, WriterRoom, noise
from tests.recorder.room import settings as recorder_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEGMENT_S = {False: 3, True: 12}
"""Of what is encrypted more than a chunk of 64 KiB goes to the card before a segment's end."""

SOUND: NDArray[np.int16] = noise(2000)
"""What the room sounds like, longer than any life."""

RAM = Path("/dev/shm")  # noqa: S108 (a directory of our own in it)
"""Thousands of fsyncs: what they are good for is proven elsewhere, with real power cuts."""

Picks = st.integers(0, 7)
"""Which of the segments that qualify."""


def size_of(path: Path) -> int:
    return path.stat().st_size


class Usage(NamedTuple):
    """As much of shutil's answer as is asked for."""

    free: int


class Lives(RuleBasedStateMachine):
    """One card through restarts, power cuts, uploads, damage and want of room."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="lives-", dir=RAM if RAM.is_dir() else None)
        self.root = Path(self.directory.name)
        self.clock = FakeClock()
        self.boots = 0
        self.stamp = 0
        self.whole_history = True
        """Whether the ledger never was lost: then all time is accounted for."""
        self.counted: dict[str, float] = {}
        self.patched = patch("shutil.disk_usage", self._disk_usage)
        self.patched.start()

    def _disk_usage(self, _: Path) -> Usage:
        used = sum(size_of(path) for path in (self.root / "spool").rglob("*") if path.is_file())
        return Usage(self.model.disk - self.model.others - used)

    @initialize(
        encrypting=st.sampled_from(["never", "always", "after a restart"]),
        segments=st.sampled_from([2.1, 3.5, 6]),
        when_full=st.sampled_from(["drop-oldest", "drop-oldest", "stop"]),
        max_age_s=st.sampled_from([0, 90]),
        keep_uploaded_s=st.sampled_from([0, 0, 20]),
        quarantine_bytes=st.sampled_from([0, 40_000, 120_000]),
    )
    def begin(
        self,
        encrypting: str,
        segments: float,
        when_full: str,
        max_age_s: int,
        keep_uploaded_s: int,
        quarantine_bytes: int,
    ) -> None:
        self.encrypting = encrypting
        self.segment_s = SEGMENT_S[encrypting != "never"]
        short = partial(recorder_settings, self.root, segment_seconds=self.segment_s, sync_seconds=0.5)
        reserve = short().segment_reserve_bytes
        self.settings = short(
            cap=Size(int(reserve * segments)),
            keep_free=Size(1 << 20),
            when_full=when_full,
            max_age=Duration(max_age_s),
            keep_uploaded=Duration(keep_uploaded_s),
            quarantine_cap=Size(quarantine_bytes),
        )
        self.encrypted = replace(self.settings, seal=Seal(recipients=(PUBLIC,)))
        if encrypting == "always":
            self.settings = self.encrypted
        self.model = Model(self.settings, self.clock)
        self.layout = Layout(self.root)
        self._start(off=True)

    def _start(self, *, off: bool) -> None:
        self.room = WriterRoom(self.settings, self.clock)
        self.sealed = self._newly_sealed()
        self.model.starts(off=off)

    def _newly_sealed(self) -> Iterator[Segment]:
        """Segments in the order in which they came into the ledger; for the model to learn names and sizes."""
        while True:
            with Ledger(self.layout.ledger, self.clock, read_only=True) as ledger:
                segments = list(ledger.segments())
            yield segments[len(self.model.pieces)]

    # The room.

    def _play(self, seconds: int) -> None:
        """A block of sound that ends now."""
        at = self.model.heard
        assert at + seconds * RATE <= len(SOUND)
        self.clock.advance(seconds)
        frames = seconds * RATE
        self.room.ring.put(Block(SOUND[at : at + frames].tobytes(), Frames(frames), self.clock.monotonic_ns()))

    @rule(seconds=st.integers(1, 7))
    def the_room_is_heard(self, seconds: int) -> None:
        for _ in range(seconds):
            self._play(1)
            self.room.writer.step()
            self.model.hears(RATE, self.sealed)
            self.model.turn_ends()

    @rule(seconds=st.integers(2, 12))
    def the_writer_was_slow_and_finds_much_at_once(self, seconds: int) -> None:
        self._play(seconds)
        self.room.writer.step()
        self.model.hears(seconds * RATE, self.sealed)
        self.model.turn_ends()

    @rule(reason=st.sampled_from(["overrun", "overflow", "unplugged", "schedule", "voice"]))
    def the_stream_breaks(self, reason: str) -> None:
        self.room.ring.interrupt(reason, self.clock.monotonic_ns())  # type: ignore[arg-type]
        self.room.writer.step()
        self.model.is_interrupted(reason, self.sealed)
        self.model.turn_ends()

    @rule(seconds=st.sampled_from([5, 30, 100, 700]), reason=st.sampled_from(["unplugged", "schedule"]))
    def nothing_is_heard_for_a_while(self, seconds: int, reason: str) -> None:
        self.the_stream_breaks(reason)
        self.clock.advance(seconds)
        self.the_stream_breaks(reason)

    # The clock.

    @rule(seconds=st.sampled_from([-4000, -30, 30, 4000]))
    def the_wall_clock_jumps(self, seconds: int) -> None:
        self.clock.step(seconds)

    @rule()
    def the_clock_is_found_right(self) -> None:
        offset_ns = self.clock.wall_ns() - self.clock.monotonic_ns()
        self.room.ledger.retime(Boot(self.clock.boot, offset_ns, "synchronised"))
        self.model.is_retimed(offset_ns, trusted=True)

    @rule()
    def the_clock_is_no_longer_trusted(self) -> None:
        offset_ns = self.model.offsets[self.clock.boot]
        self.room.ledger.retime(Boot(self.clock.boot, offset_ns, "unsynchronised"))
        self.model.is_retimed(offset_ns, trusted=False)

    # The courier: another process with the same ledger.

    @precondition(lambda self: any(piece.state in ("pending", "evicted") for piece in self.model.pieces))
    @rule(pick=Picks, arrives=st.booleans())
    def the_courier_uploads(self, pick: int, *, arrives: bool) -> None:
        candidates = [piece for piece in self.model.pieces if piece.state == "pending"]
        candidates += [piece for piece in self.model.pieces if piece.state == "evicted" and piece.key]
        if not candidates:
            return
        piece = candidates[pick % len(candidates)]
        with Ledger(self.layout.ledger, self.clock) as courier:
            key = f"key-{self.clock.monotonic_ns()}"
            piece.key = piece.key or key
            for attempt in (key, f"{key}-again"):
                courier.fix_key(piece.name, attempt, "synchronised")
            if arrives:
                courier.acknowledge(piece.name, "stored")
                piece.state, piece.settled_ns = "acknowledged", self.model.now_ns

    @precondition(lambda self: self.model.here("pending"))
    @rule(pick=Picks, noticed=st.booleans())
    def a_bit_flips(self, pick: int, *, noticed: bool) -> None:
        candidates = self.model.here("pending")
        piece = candidates[pick % len(candidates)]
        audio = self.layout.audio(piece.name)
        if not piece.flipped:
            data = bytearray(audio.read_bytes())
            data[len(data) // 2] ^= 1
            audio.write_bytes(data)
            piece.flipped = True
        self._stamp(audio, self.layout.meta(piece.name))
        if noticed:
            with Ledger(self.layout.ledger, self.clock) as courier:
                courier.settle(piece.name, "damaged", "its SHA-256 is another")
            piece.state = "damaged"

    def _stamp(self, *paths: Path) -> None:
        """Order in time, however fast the test runs."""
        for path in paths:
            self.stamp += 1
            os.utime(path, (self.stamp, self.stamp))
            stem = path.name.partition(".")[0]
            for name in (path.name, f"{stem}{AUDIO_SUFFIX}", f"{stem}{ENCRYPTED_SUFFIX}"):
                if name == path.name or path.suffix == PART_SUFFIX:
                    self.model.stamps[name] = self.stamp

    # The card.

    @rule(mib=st.sampled_from([0, 0, 1021, 1022, 1023]), kib=st.integers(0, 1023))
    def others_fill_the_card(self, mib: int, kib: int) -> None:
        self.model.others = mib * 2**20 + kib * 1024
        limits = self.settings.spool
        if limits.when_full == "drop-oldest":
            # A little room is left by all recordings together: beyond that there is another path (ADR 7).
            most = self.model.disk - limits.keep_free - limits.quarantine_cap - sum(self.model.quarantined.values())
            self.model.others = min(self.model.others, most - 3 * self.settings.segment_reserve_bytes)

    # Ends and beginnings.

    @rule(off=st.booleans())
    def it_ends_in_good_order(self, *, off: bool) -> None:
        self.room.end()
        self.model.ends(self.sealed)
        self._reboot(off=off)
        self._start(off=off)

    @rule(
        heard_s=st.sampled_from([0, 0, 8]),
        off=st.booleans(),
        torn_bytes=st.sampled_from([0, 0, 1, 3000, 9000, 40_000]),
        torn_record=st.booleans(),
    )
    def it_is_killed(self, *, heard_s: int, off: bool, torn_bytes: int, torn_record: bool) -> None:
        self.the_room_is_heard(heard_s)
        self._kill()
        piece = self.model.open
        if piece is not None:
            self._tear(torn_bytes, torn_record=torn_record)
        self._reboot(off=off)
        expected = self._predict_open(piece) if piece is not None else None
        self._start(off=off)
        if expected is not None:
            self._learn_truncated(expected)

    @precondition(lambda self: self.model.here("pending"))
    @rule(pick=Picks, off=st.booleans())
    def it_is_killed_and_a_recording_vanishes(self, pick: int, *, off: bool) -> None:
        self.it_ends_in_good_order(off=False)
        candidates = self.model.here("pending")
        if not candidates:
            return
        piece = candidates[pick % len(candidates)]
        self._kill()
        self.layout.audio(piece.name).unlink()
        piece.state, piece.place = "lost", "nowhere"
        self.model.counters["segment_errors_total"] += 1
        self._reboot(off=off)
        self._start(off=off)

    @rule(size=st.integers(1, 60_000))
    def it_is_killed_and_a_stranger_moves_in(self, size: int) -> None:
        self.it_ends_in_good_order(off=False)
        self._kill()
        if self.model.used + size <= self.settings.spool.cap:
            path = self.layout.sealed / f"stranger-{self.stamp}.bin"
            path.write_bytes(bytes(size))
            self._stamp(path)
            self.model.quarantined[path.name] = size
        self._reboot(off=False)
        self._start(off=False)

    @rule(garbled=st.booleans(), off=st.booleans(), set_back=st.booleans())
    def it_is_killed_and_the_ledger_is_lost(self, *, garbled: bool, off: bool, set_back: bool) -> None:
        if set_back:
            self.the_room_is_heard(self.segment_s)
            self.the_wall_clock_jumps(-4000)
            self.the_stream_breaks("overrun")
            self.the_room_is_heard(self.segment_s)
        self.it_ends_in_good_order(off=False)
        self._kill()
        if garbled:
            for path in self.layout.state.glob("ledger.db*"):
                path.write_bytes(b"no database" * 500)
        else:
            shutil.rmtree(self.layout.state)
        self._reboot(off=off)
        self.model.loses_the_ledger()
        self.whole_history, self.counted = False, {}
        self.room = WriterRoom(self.settings, self.clock)
        self.model.rows, self.model.accounted = {}, None
        for piece in self.model.pieces:
            self.model.row(piece.boot, Stretch(piece.begin_ns, piece.end_ns, run=piece.name.run))
        self.model.offsets = {boot.boot: boot.offset_ns for boot in self.room.ledger.boots()}
        self.model.trusted = {boot.boot for boot in self.room.ledger.boots() if boot.clock == "synchronised"}
        self.sealed = self._newly_sealed()
        self.model.starts(off=False)

    def _kill(self) -> None:
        """As kill -9 and a power cut leave it: nothing is finished, but nothing synced is undone."""
        # For its descriptors, or the test runs out of them.
        self.room.writer.failed(OSError("killed"))
        self.room.ledger.close()

    def _reboot(self, *, off: bool) -> None:
        if self.encrypting == "after a restart":
            self.settings = self.model.settings = self.encrypted
        if off:
            self.boots += 1
            self.clock.reboot(f"{self.boots:032x}", off_s=60)

    def _tear(self, torn_bytes: int, *, torn_record: bool) -> None:
        """The audio's end is gone, or the last record of the sidecar is half written."""
        (part,) = self.layout.open.glob("*.part")
        meta = part.with_suffix(".meta")
        os.truncate(part, max(0, size_of(part) - torn_bytes))
        records = read_sidecar(meta).records
        if torn_record and records:
            with meta.open("r+b") as file:
                file.seek(128 + len(records) * RECORD_BYTES - 20)
                file.write(b"torn")
        self._stamp(part, meta)

    def _predict_open(self, piece: Piece) -> Piece | None:
        """What is durable of the open segment: the newest record whose bytes are all there."""
        (part,) = self.layout.open.glob("*.part")
        sidecar = read_sidecar(part.with_suffix(".meta"))
        there = [record for record in sidecar.records if record.size <= size_of(part)]
        if there and there[-1].frames:
            piece.truncated, piece.frames = True, there[-1].frames
            piece.end_ns = piece.begin_ns + piece.frames * NS_PER_S // RATE
            return piece
        vouched = not there and any(record.frames for record in sidecar.records)
        unreadable = sidecar.garbled and not sidecar.records and size_of(part)
        if vouched or unreadable:
            self.model.quarantined |= {path.name: size_of(path) for path in (part, part.with_suffix(".meta"))}
            self.model.counters["segment_errors_total"] += 1
        return None

    def _learn_truncated(self, piece: Piece) -> None:
        self.model.learns(piece, next(self.sealed))
        self.model.starts(off=False)

    # What must hold after every step.

    @invariant()
    def every_file_is_where_it_should_be_and_whole(self) -> None:
        model = self.model
        here = [piece for piece in model.pieces if piece.place == "sealed"]
        sealed = {name for piece in here for name in (piece.audio, f"{piece.name}.meta")}
        assert {path.name for path in self.layout.sealed.iterdir()} == sealed
        assert {path.name: size_of(path) for path in self.layout.quarantine.iterdir()} == model.quarantined
        opened = list(self.layout.open.iterdir())
        assert len(opened) == (2 if model.open else 0)
        for segment in self.room.sealed():
            path = self.layout.audio(segment.name)
            if path.exists():
                intact = hashlib.sha256(path.read_bytes()).hexdigest() == segment.sha256
                assert intact != self._piece(segment.name).flipped

    def _piece(self, name: SegmentName) -> Piece:
        return next(piece for piece in self.model.pieces if piece.name == name)

    @invariant()
    def the_ledger_says_what_became_of_each(self) -> None:
        told = [(segment.name, segment.state, segment.key) for segment in self.room.sealed()]
        assert told == [(piece.name, piece.state, piece.key) for piece in self.model.pieces]

    @invariant()
    def the_cap_holds_to_the_byte(self) -> None:
        used = sum(size_of(path) for path in self.layout.spool.rglob("*") if path.is_file())
        assert used <= self.settings.spool.cap
        opened = sum(size_of(path) for path in self.layout.open.iterdir())
        assert self.room.retention.used + opened == used == self.model.used + opened

    @invariant()
    def counters_grow_and_count(self) -> None:
        counters = self.room.ledger.counters()
        assert all(counters.get(name, 0) >= value for name, value in self.counted.items())
        self.counted = counters
        expected = self.model.counters
        for name in ("segments_total", "evicted_unsent_total", "segment_errors_total", "recordings_total"):
            assert counters.get(name, 0) == expected[name], name
        assert counters.get("overruns_total", 0) == expected["overruns_total"]
        seconds = sum(segment.seconds for segment in self.room.sealed())
        assert counters.get("captured_seconds_total", 0) == pytest.approx(seconds)
        assert counters.get("gap_seconds_total", 0) == pytest.approx(expected["gap_ns"] / NS_PER_S)

    @invariant()
    def all_time_is_accounted_for(self) -> None:
        timeline = read(self.room.ledger)
        assert timeline.faults == []
        if self.whole_history:
            rows = {
                account.boot.boot: [Stretch(i.begin_ns, i.end_ns, i.reason, i.run) for i in account.intervals]
                for account in timeline.accounts
            }
            assert rows == self.model.rows

    def teardown(self) -> None:
        try:
            if hasattr(self, "room"):
                self._look_at_everything()
        finally:
            self.patched.stop()
            self.directory.cleanup()

    def _look_at_everything(self) -> None:
        """At the end of a life: every recording that is here is what was heard, and `verify` agrees."""
        self.room.end()
        self.model.ends(self.sealed)
        with Ledger(self.layout.ledger, self.clock, read_only=True) as ledger:
            assert ledger.broken_link() is None
            inspection = Inspection(self.layout, ledger, self.clock, lambda: False, hashing=True, keys=[identity()])
            findings = inspection.segments(inspection.expected(), lambda _: None) + inspection.strangers()
        here = [piece for piece in self.model.pieces if piece.place == "sealed"]
        wrong = {
            ("settled" if piece.state == "damaged" else "hash", f"spool/sealed/{piece.audio}")
            for piece in here
            if piece.flipped
        }
        assert {(finding.kind, finding.place) for finding in findings} == wrong
        for piece in here:
            if not piece.flipped:
                samples = decoded(self.layout.audio(piece.name).read_bytes())
                assert np.array_equal(samples, SOUND[piece.first : piece.first + piece.frames])


def live(examples: int, steps: int, *, derandomize: bool) -> None:
    run_state_machine_as_test(
        Lives,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=derandomize,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)  # only to make the shortest life of one that went wrong
def test_every_life_of_a_spool_goes_as_the_model_says() -> None:
    live(200, 25, derandomize=True)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_long_lives_of_a_spool_go_as_the_model_says() -> None:
    live(600, 60, derandomize=False)
