"""A spool whose files went bad in any way is opened by the next recorder, and no audio is lost by that."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.inspection import Inspection
from agent.ledger import Ledger
from agent.recorder.recovery import recover
from agent.settings import Seal
from agent.sidecar import HEADER_BYTES
from agent.spool import AUDIO_SUFFIX, ENCRYPTED_SUFFIX, META_SUFFIX, Layout
from agent.timeline import read
from tests.clocks import FakeClock
from tests.fuzz.damage import Damage, damaged, damages
from tests.keys import PUBLIC, identity
from tests.recorder.room import RATE, WriterRoom, noise
from tests.recorder.room import settings as recorder_settings

RAM = Path("/dev/shm")  # noqa: S108 (a directory of our own in it)

quick = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


class Spool:
    """What a recorder left that was killed in its third segment; copied for each attempt."""

    def __init__(self, root: Path, *, encrypted: bool) -> None:
        self.root = root
        self.encrypted = encrypted
        # More than two chunks of what is encrypted are on the card of the third segment.
        self.segment_s = 14 if encrypted else 4
        self.sound = noise(self.segment_s * 2.9)
        room = self._room(root / "whole", FakeClock())
        room.hear(self.sound)
        room.ledger.close()
        self.attempts = 0

    def _room(self, root: Path, clock: FakeClock) -> WriterRoom:
        chosen = recorder_settings(root, segment_seconds=self.segment_s, sync_seconds=0.5)
        return WriterRoom(replace(chosen, seal=Seal(recipients=(PUBLIC,))) if self.encrypted else chosen, clock)

    @property
    def suffix(self) -> str:
        return ENCRYPTED_SUFFIX if self.encrypted else AUDIO_SUFFIX

    def copy(self) -> Layout:
        self.attempts += 1
        root = self.root / f"attempt-{self.attempts}"
        shutil.copytree(self.root / "whole", root)
        return Layout(root)

    def recorder(self, layout: Layout) -> WriterRoom:
        return self._room(layout.root, FakeClock(monotonic_s=1000))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "encrypted"])
def spool(request: pytest.FixtureRequest) -> Iterator[Spool]:
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=RAM if RAM.is_dir() else None) as root:
        yield Spool(Path(root), encrypted=request.param)


def audio(layout: Layout) -> set[bytes]:
    """All the audio there is, wherever it lies."""
    suffixes = (".flac", ".age", ".part")
    return {path.read_bytes() for path in layout.spool.rglob("*") if path.suffix in suffixes}


def assert_the_recorder_works_on(spool: Spool, layout: Layout) -> None:
    """It recovers, once and for all, agrees with `verify`, and records."""
    room = spool.recorder(layout)
    assert not recover(layout, room.ledger)
    inspection = Inspection(layout, room.ledger, room.clock, lambda: False, hashing=True, keys=[identity()])
    assert {finding.kind for finding in inspection.segments(inspection.expected(), lambda _: None)} <= {
        "sidecar",
        "hash",
        "size",
    }
    assert inspection.strangers() == []
    before = len(room.sealed())
    room.hear(noise(spool.segment_s))
    assert len(room.sealed()) == before + 1
    read(room.ledger)
    room.end()
    shutil.rmtree(layout.root)


@quick
@given(which=st.sampled_from(["part", "meta"]), changes=damages())
def test_an_unfinished_segment(spool: Spool, which: str, changes: list[Damage]) -> None:
    layout = spool.copy()
    (part,) = layout.open.glob("*.part")
    path = part.with_suffix(f".{which}")
    path.write_bytes(damaged(path.read_bytes(), changes))
    spoken_for = any(part.with_suffix(".meta").read_bytes()[HEADER_BYTES:])
    content = part.read_bytes()
    room = spool.recorder(layout)
    kept = [segment for segment in room.sealed() if segment.truncated]
    room.ledger.close()
    if kept:
        # All but the header's length is as it was; what is encrypted is so entirely.
        own = 0 if spool.encrypted else 42
        assert room.layout.audio(kept[0].name).read_bytes()[own:] == content[own : kept[0].bytes]
        assert np.array_equal(room.audio(kept[0]), spool.sound[2 * spool.segment_s * RATE :][: kept[0].frames])
    elif content and spoken_for:
        assert content in audio(layout)
    assert_the_recorder_works_on(spool, layout)


@quick
@given(which=st.sampled_from(["audio", "meta"]), changes=damages(), ledger_lost=st.booleans(), number=st.integers(0, 1))
def test_a_sealed_segment(spool: Spool, which: str, changes: list[Damage], *, ledger_lost: bool, number: int) -> None:
    layout = spool.copy()
    path = sorted(layout.sealed.glob(f"*{META_SUFFIX if which == 'meta' else spool.suffix}"))[number]
    path.write_bytes(damaged(path.read_bytes(), changes))
    if ledger_lost:
        shutil.rmtree(layout.state)
    before = {path.read_bytes() for path in layout.sealed.glob(f"*{spool.suffix}")}
    spool.recorder(layout).ledger.close()
    assert before <= audio(layout)
    assert_the_recorder_works_on(spool, layout)


@quick
@given(changes=damages())
def test_what_a_key_is_asked_about_a_file_whose_hash_nobody_looks_at(spool: Spool, changes: list[Damage]) -> None:
    """`verify -i` goes into the file itself: what it can't open or decode is a finding."""
    layout = spool.copy()
    path = min(layout.sealed.glob(f"*{spool.suffix}"))
    content = path.read_bytes()
    changed = damaged(content, changes).ljust(len(content), b"x")[: len(content)]
    path.write_bytes(changed)
    with Ledger(layout.ledger, FakeClock(), read_only=True) as ledger:
        inspection = Inspection(layout, ledger, FakeClock(), lambda: False, hashing=False, keys=[identity()])
        name = next(ledger.segments()).name
        kinds = [finding.kind for finding in inspection.segments([name], lambda _: None)]
    assert kinds == (["encryption"] if spool.encrypted and changed != content else [])
    shutil.rmtree(layout.root)


@quick
@given(changes=damages(5))
def test_the_ledger(spool: Spool, changes: list[Damage]) -> None:
    layout = spool.copy()
    layout.ledger.write_bytes(damaged(layout.ledger.read_bytes(), changes))
    assert_nothing_is_lost(spool, layout)


@settings(quick, max_examples=150)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=3))
def test_flipped_bits_where_the_ledger_says_something(spool: Spool, flips: list[tuple[float, int]]) -> None:
    layout = spool.copy()
    content = bytearray(layout.ledger.read_bytes())
    said = [at for at, byte in enumerate(content) if byte]
    for place, bit in flips:
        content[said[int(place * len(said))]] ^= 1 << bit
    layout.ledger.write_bytes(content)
    assert_nothing_is_lost(spool, layout)


def assert_nothing_is_lost(spool: Spool, layout: Layout) -> None:
    before = {path.read_bytes() for path in layout.sealed.glob(f"*{spool.suffix}")}
    room = spool.recorder(layout)
    assert before <= audio(layout)
    known = len(room.sealed())
    room.hear(noise(spool.segment_s))
    assert len(room.sealed()) == known + 1
    room.end()
    shutil.rmtree(layout.root)
