"""A kiosk's spool and ledger as the recorder leaves them, without a recorder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import soundfile

from agent.ledger import Ledger, Segment
from agent.settings import Device, Mqtt, Settings, Spool, Upload
from agent.spool import Layout, SegmentName
from agent.units import NS_PER_S
from hw.clock import Clock

RUN = "0123456789ab"
RATE = 16000


class Kiosk:
    """Room 12 of the clinic "north"."""

    def __init__(self, root: Path, clock: Clock, *, clock_state: str = "synchronised") -> None:
        self.root = root
        self.clock = clock
        self.layout = Layout(root)
        self.layout.create()
        self.ledger = Ledger(self.layout.ledger, clock, create=True)
        self.ledger.begin_boot(clock.wall_ns() - clock.monotonic_ns(), clock_state)  # type: ignore[arg-type]

    def settings(self, target: str = "", *, mqtt: str = "", endpoint_url: str = "", **upload: object) -> Settings:
        """Settings of this kiosk."""
        return self.settings_of(self.root, target, mqtt=mqtt, endpoint_url=endpoint_url, **upload)

    @staticmethod
    def settings_of(
        root: Path, target: str = "", *, mqtt: str = "", endpoint_url: str = "", **upload: object
    ) -> Settings:
        """Settings of a kiosk that need not have been begun."""
        return Settings(
            device=Device(site="north", id="room-12"),
            spool=Spool(path=root),
            upload=Upload(target=target, endpoint_url=endpoint_url, **upload),  # type: ignore[arg-type]
            mqtt=Mqtt(url=mqtt),
        )

    def record(self, count: int = 1, *, seconds: float = 0.5, run: str = RUN, first: int = 0) -> list[Segment]:
        """Seal `count` segments of noise, numbered from `first`."""
        return [self._seal(SegmentName(run, first + number), seconds) for number in range(count)]

    def state(self, segment: Segment) -> str:
        """What became of a segment."""
        known = self.ledger.segment(segment.name)
        assert known is not None
        return known.state

    def states(self) -> list[str]:
        """What became of every segment, oldest first."""
        return [segment.state for segment in self.ledger.segments()]

    def content(self, segment: Segment) -> bytes:
        """The file of a segment."""
        return self.layout.audio(segment.name).read_bytes()

    def damage(self, segment: Segment) -> None:
        """Flip one bit of a sealed file."""
        path = self.layout.audio(segment.name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def evict(self, segment: Segment) -> None:
        """Give a segment up, as the recorder does: the ledger first, then the files."""
        self.ledger.settle(segment.name, "evicted", "cap")
        self.layout.audio(segment.name).unlink()
        self.ledger.forget_files([segment.name])

    def _seal(self, name: SegmentName, seconds: float) -> Segment:
        frames = round(seconds * RATE)
        generator = np.random.default_rng(name.seq)
        path = self.layout.audio(name)
        soundfile.write(path, generator.normal(0, 0.1, frames), RATE, format="FLAC", subtype="PCM_16")
        content = path.read_bytes()
        length_ns = round(seconds * NS_PER_S)
        begin_ns = self.clock.monotonic_ns() + name.seq * length_ns
        segment = Segment(
            run=name.run,
            seq=name.seq,
            boot=self.clock.boot,
            begin_ns=begin_ns,
            end_ns=begin_ns + length_ns,
            frames=frames,
            rate=RATE,
            channels=1,
            bytes=len(content),
            meta_bytes=100,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self.ledger.seal(segment)
        return segment
