"""Days of a kiosk in a moment: its real ledger, its real manifests, its objects in a store, by a planned clock."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent.contract import seeds
from agent.contract.custody import Enrolment, Head, Tombstone
from agent.contract.keys import Recording, device_prefix, timestamp
from agent.contract.signed import public_key
from agent.courier.activity import Activity
from agent.courier.custodian import Custodian
from agent.courier.pace import Pace
from agent.courier.pen import Pen
from agent.courier.standing import Standing
from agent.courier.targets import Target
from agent.courier.targets.directory import DirectoryTarget
from agent.courier.worker import Lines, Worker
from agent.ledger import Gap, Ledger, Segment
from agent.settings import Custody, Device, Settings, Spool
from agent.spool import Layout, SegmentName
from agent.units import NS_PER_S, Duration
from tests.clocks import FakeClock

SITE, DEVICE = "north", "room-12"
RATE = 16000


class Room:
    """Room 12, which records `length_s` a segment and uploads each at once."""

    def __init__(
        self,
        place: Path,
        *,
        target: Target | None = None,
        put: Callable[[str, bytes], None] | None = None,
        length_s: int = 600,
        sign_every_s: int = 3600,
        seed: int = 1,
        device: str = DEVICE,
    ) -> None:
        """Objects go below `place`/store, unless a `target` for manifests and a `put` for recordings are given."""
        self.place, self.device = place, device
        self.clock = FakeClock(wall_s=1_790_000_000.0)
        self.store = place / "store"
        self.store.mkdir(parents=True, exist_ok=True)
        self.layout = Layout(place / "kiosk")
        self.layout.create()
        self.key = place / "device.key"
        seeds.make(self.key)
        self.suffix = ".flac"
        self.contents: dict[SegmentName, bytes] = {}
        self._length_s, self._sign_every_ns = length_s, sign_every_s * NS_PER_S
        self._random = random.Random(seed)
        self._target = target or DirectoryTarget(self.store)
        self._put = put or self._write
        self._numbers = 0
        self._run = ""
        self._kept: list[Segment] = []
        self.ledger = self._begin_ledger()
        self._begin_run()
        self._begin_courier()

    @property
    def public(self) -> str:
        return public_key(seeds.load(self.key, ""))

    @property
    def enrolment(self) -> Path:
        """The file that the admin keeps."""
        path = self.place / f"{self.device}.json"
        path.write_text(Enrolment(SITE, self.device, self.public, "2026-03-01T08:00:00.000Z").text())
        return path

    def head(self) -> str:
        """What telemetry says now."""
        seq, digest = self.ledger.head()
        return str(self.pen.head(Head(self.ledger.epoch(), seq, digest.hex())))

    def head_line(self, head: str | None = None) -> str:
        """The same as a line of a file of heads."""
        told = head or self.head()
        ts = timestamp(self.clock.wall_ns())
        return f'kiosk/v1/{SITE}/{self.device}/telemetry {{"ts": "{ts}", "custody_head": "{told}"}}\n'

    def live(self, hours: float) -> None:
        """Record, upload, and sign when it is time."""
        for _ in range(round(hours * 3600 / self._length_s)):
            self.upload(self.record())
            if self.clock.monotonic_ns() >= self._sign_ns:
                self.sign()

    def record(self) -> Segment:
        """Seal one segment."""
        begin_ns = self.clock.monotonic_ns()
        self.clock.advance(self._length_s)
        content = self._random.randbytes(self._random.randrange(40, 80))
        segment = Segment(
            run=self._run,
            seq=self._numbers,
            boot=self.clock.boot,
            begin_ns=begin_ns,
            end_ns=self.clock.monotonic_ns(),
            frames=self._length_s * RATE,
            rate=RATE,
            channels=1,
            bytes=len(content),
            meta_bytes=192,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        self._numbers += 1
        self.contents[segment.name] = content
        self.ledger.seal(segment)
        self._kept = [*self._kept[-5:], segment]
        return segment

    def evict(self, count: int = 1) -> None:
        """Segments that are given up before they're uploaded."""
        for _ in range(count):
            self.ledger.settle(self.record().name, "evicted", "cap")
            self._kept.pop()

    def restart(self, seconds: float = 3) -> None:
        """The recorder's process ends and another begins."""
        begin_ns = self.clock.monotonic_ns()
        self.clock.advance(seconds)
        self.ledger.gap(Gap(self.clock.boot, begin_ns, self.clock.monotonic_ns(), "restart"))
        self._begin_run()

    def reboot(self, off_s: float = 120) -> None:
        """The power fails and comes back."""
        before, end_ns = self.clock.boot, self.clock.monotonic_ns()
        self.clock.reboot(f"{self._random.getrandbits(128):032x}", off_s=off_s)
        self.ledger.begin_boot(self.clock.wall_ns() - self.clock.monotonic_ns(), "synchronised")
        self.ledger.gap(Gap(self.clock.boot, end_ns, self.clock.monotonic_ns(), "power_off", before))
        self._begin_run()
        self._begin_courier()

    def lose_ledger(self) -> None:
        """A new epoch, rebuilt from what is in the spool: the newest segments, uploaded and not."""
        boots = self.ledger.boots()
        self.ledger.close()
        for path in self.layout.state.glob("ledger.db*"):
            path.rename(path.with_name(f"damaged-{self.clock.wall_ns()}-{path.name}"))
        self.ledger = self._begin_ledger()
        for boot in boots[:-1]:
            self.ledger.add_boot(boot)
        for segment in self._kept:
            self.ledger.seal(segment)
            self.upload(segment)
        self._begin_run()
        self._begin_courier()

    def sign(self) -> None:
        """Everything new, now."""
        self._sign_ns = self.clock.monotonic_ns() + self._sign_every_ns
        while self.custodian.step():
            pass
        if self._put == self._write:
            for path in (self.store / SITE / self.device / "custody").iterdir():
                if path.stat().st_mtime_ns > self.clock.wall_ns() or path.name not in self._dated:
                    self._dated.add(path.name)
                    os.utime(path, ns=(self.clock.wall_ns(),) * 2)

    def erase(self, segment: Segment, order: str = "0123456789abcdef") -> None:
        """Erase an uploaded segment: the journal says so, and a tombstone."""
        known = self.ledger.segment(segment.name)
        assert known is not None
        self.ledger.erase(order, [segment.name], "asked for")
        at = timestamp(self.clock.wall_ns())
        stone = Tombstone(SITE, self.device, order, at, "asked for", [(segment.run, segment.seq, known.key)])
        self._put(
            f"{device_prefix(self._target.prefix, SITE, self.device)}/custody/{stone.name}",
            self.pen.written("tombstone", stone.document()),
        )

    def key_of(self, segment: Segment) -> str:
        known = self.ledger.segment(segment.name)
        assert known is not None
        assert known.key is not None
        return known.key

    def upload(self, segment: Segment) -> None:
        """Its object goes to the store under its key, and the ledger says so."""
        boot = next(boot for boot in self.ledger.boots() if boot.boot == segment.boot)
        recording = Recording(
            run=segment.run,
            seq=segment.seq,
            start_ns=boot.offset_ns + segment.begin_ns,
            frames=segment.frames,
            rate=RATE,
            channels=1,
            boot=segment.boot,
            clock=boot.clock,
            truncated=False,
            sha256=segment.sha256,
            suffix=self.suffix,
        )
        key = recording.key(self._target.prefix, SITE, self.device)
        self.ledger.fix_key(segment.name, key, boot.clock)
        self._put(key, self.contents[segment.name])
        self.ledger.acknowledge(segment.name, "stored")
        self.ledger.forget_files([segment.name])

    def _write(self, key: str, content: bytes) -> None:
        path = self.store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(self.clock.wall_ns(),) * 2)

    def _begin_ledger(self) -> Ledger:
        ledger = Ledger(self.layout.ledger, self.clock, create=True)
        # What is tested here survives no power cut.
        ledger._db.execute("PRAGMA synchronous = OFF")  # noqa: SLF001
        ledger.begin_boot(self.clock.wall_ns() - self.clock.monotonic_ns(), "synchronised")
        return ledger

    def _begin_run(self) -> None:
        self._run, self._numbers = f"{self._random.getrandbits(48):012x}", 0
        self.contents = {segment.name: self.contents[segment.name] for segment in self._kept}

    def _begin_courier(self) -> None:
        self._dated: set[str] = set()
        self._sign_ns = self.clock.monotonic_ns() + self._sign_every_ns
        lines = Lines()
        settings = Settings(
            device=Device(site=SITE, id=self.device),
            spool=Spool(path=self.layout.root),
            custody=Custody(key=self.key, manifest_every=Duration(3600), history=Duration(7 * 86400)),
        )
        pace = Pace(0, self.clock, lines.stop)
        worker = Worker(self._target, pace, lines, Activity(self.clock), Standing(self.clock), self.clock, attempts=1)
        self.pen = Pen(settings)
        self.custodian = Custodian(
            replace(settings, custody=replace(settings.custody, manifest_every=Duration(0))),
            self.layout,
            self._target.prefix,
            worker,
            self.pen,
            self.clock,
        )
