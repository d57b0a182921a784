"""The recorder's writer without its threads: a spool in a directory, audio made of numbers, a clock of the test's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from agent.ledger import Segment
from agent.recorder.encryption import Recipients
from agent.recorder.rebuild import open_recovered
from agent.recorder.retention import Retention
from agent.recorder.ring import Ring
from agent.recorder.root import Root
from agent.recorder.succession import Succession
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.settings import Capture, Device, Settings, Spool
from agent.spool import Layout
from agent.units import Frames, Size
from hw.alsa import Block
from tests.clocks import FakeClock

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 8000
BLOCK_S = 0.2


def noise(seconds: float, *, seed: int = 1, rate: int = RATE, channels: int = 1) -> NDArray[np.int16]:
    """Sound that FLAC can't shrink much, shape (frames, channels)."""
    generator = np.random.default_rng(seed)
    return generator.normal(0, 1000, (round(seconds * rate), channels)).astype(np.int16)


def settings(root: Path, *, capture: Capture | None = None, **spool: object) -> Settings:
    """Settings for a quick test: 8 kHz mono, short segments, nothing kept free."""
    limits: dict[str, object] = {"path": root, "segment_seconds": 2, "keep_free": Size(0)} | spool
    return Settings(
        device=Device(site="north", id="room-1"),
        capture=capture or Capture(rate=RATE),
        spool=Spool(**limits),  # type: ignore[arg-type]
    )


class WriterRoom:
    """One life of a writer, from recovery to its end; make another one on the same directory for the next life."""

    def __init__(
        self, chosen: Settings, clock: FakeClock, ring: Ring | None = None, succession: Succession | None = None
    ) -> None:
        """With a `ring` and a `succession` it goes on for another writer."""
        self.settings = chosen
        self.clock = clock
        self.layout = Layout(chosen.spool.path)
        self.layout.create()
        self.ledger, self.recovered = open_recovered(self.layout, clock)
        self.ledger.begin_boot(clock.wall_ns() - clock.monotonic_ns(), "synchronised")
        self.vitals = Vitals()
        self.ring = ring or Ring(30 * chosen.capture.rate)
        self.heard_frames = 0
        """Put into the ring so far."""
        self.retention = Retention(self.layout, chosen, self.ledger, clock)
        self.recipients = Recipients(chosen.seal.recipients)
        root = Root(chosen, self.layout, self.ledger, self.retention)
        self.writer = Writer(root, self.ring, clock, self.vitals, self.recipients, succession)

    def hear(self, samples: NDArray[np.int16]) -> None:
        """Play `samples` in the fake clock's time, a writer's turn after each whole second.

        What is left over waits in the ring, for the next call or the end.
        """
        rate = self.settings.capture.rate
        for batch in _batches(_blocks(samples, rate)):
            for pcm in batch:
                frames = len(pcm)
                self.clock.advance(frames / rate)
                self.heard_frames += frames
                self.ring.put(Block(pcm.tobytes(), Frames(frames), self.clock.monotonic_ns()))
            if self.ring.frames >= rate:
                self.writer.step()

    def end(self) -> None:
        """Stop in good order."""
        self.seal()
        self.ledger.close()

    def seal(self) -> None:
        """The writer's end; the ledger can still be read."""
        self.ring.close()
        while self.writer.step():
            pass

    def sealed(self) -> list[Segment]:
        """Every segment the ledger knows, oldest first."""
        return list(self.ledger.segments())

    def audio(self, segment: Segment) -> NDArray[np.int16]:
        """A sealed segment, decoded; shape (frames, channels)."""
        samples, _ = soundfile.read(self.layout.audio(segment.name), dtype="int16", always_2d=True)
        return np.asarray(samples, np.int16)


def _blocks(samples: NDArray[np.int16], rate: int) -> Iterator[NDArray[np.int16]]:
    length = round(BLOCK_S * rate)
    for start in range(0, len(samples), length):
        yield samples[start : start + length]


def _batches(blocks: Iterator[NDArray[np.int16]]) -> Iterator[list[NDArray[np.int16]]]:
    while batch := list(itertools.islice(blocks, 5)):
        yield batch
