"""A fleet in one process: each kiosk with its own connection to the broker and the courier's own code behind it.

Real are the line to the broker, presence, alerts, telemetry as it is told, and the flag desk with its memory on disk:
what decides who has which variant, and what the fleet hears of it. Played are the recorder and the store: counters grow
when a test says so. One thread goes through the kiosks that have something to do, as each courier's own threads would.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import agent
from agent.contract import messages
from agent.contract.alerts import Raised
from agent.contract.evaluation import Target
from agent.contract.messages import Heard, Topics, Value
from agent.contract.metrics import METRICS
from agent.courier.broker import Broker as KioskLine
from agent.courier.conversation import Conversation, Subject
from agent.courier.flags import FlagDesk
from agent.courier.monitor import Monitor, Picture
from agent.courier.openings import Openings
from agent.courier.presence import Presence
from agent.courier.telling import Alerts, Telemetry
from agent.settings import Device, Mqtt, Settings
from agent.spool import Layout
from hw.board import Identity
from hw.clock import SystemClock
from tests.soundcard import eventually

FLAG = "offline_recording"
_PATIENCE_S = 60
"""For two hundred kiosks on a busy machine."""
_RAM = Path("/dev/shm")  # noqa: S108 (a directory of our own in it)

QUIET: Mapping[str, Value] = {
    metric.name: None if metric.null else metric.choices[0] if metric.choices else "x" if metric.kind == "text" else 0
    for metric in METRICS
}
"""What a kiosk tells that knows next to nothing."""


@dataclass(slots=True)
class Counted:
    """What a recorder and a store would have counted."""

    epoch: str = "0123456789ab"
    attempts: int = 1000
    failures: int = 10
    segments: int = 990
    errors: int = 0

    def values(self) -> dict[str, Value]:
        return {
            "upload_attempts_total": self.attempts,
            "upload_failures_total": self.failures,
            "segments_total": self.segments,
            "segment_errors_total": self.errors,
            "custody_head": f"{self.epoch}-{self.segments}-{'0' * 16}",
        }


@dataclass
class Sight:
    """In place of the monitor."""

    picture: Picture | None = None
    raised: Mapping[str, Raised] = field(default_factory=dict)


class Kiosk:
    """One of them. `step` belongs to the fleet's thread; the others only leave word."""

    def __init__(
        self, root: Path, device: Device, url: str, keys: tuple[str, ...], environ: Mapping[str, str], wake: Wake
    ) -> None:
        self.device = device
        self.counted = Counted()
        self._layout = Layout(root)
        self._layout.create()
        self._url, self._keys, self._environ, self._wake = url, keys, environ, wake
        self._line: KioskLine | None = None
        self._sight = Sight()
        self._seq = 0
        self._unbegun = True
        self._desk: FlagDesk
        self._telemetry: Telemetry
        self._conversation: Conversation
        self.changed_at_s: list[tuple[str, int | None, float]] = []
        """Variant, version, and the monotonic time since when."""

    def __str__(self) -> str:
        return f"{self.device.site}/{self.device.id}"

    @property
    def variant(self) -> str | None:
        """What it would record by."""
        return self.changed_at_s[-1][0] if self.changed_at_s else None

    @property
    def version(self) -> int | None:
        return self.changed_at_s[-1][1] if self.changed_at_s else None

    @property
    def on(self) -> bool:
        return self._line is not None

    @property
    def told(self) -> bool:
        """Whether the fleet has its newest picture."""
        return self._telemetry.told == self._seq and self._seq > 0

    def switch_on(self) -> None:
        """As a courier starts: nothing is known but what is on the card."""
        settings, clock, stop = Settings(device=self.device), SystemClock(), threading.Event()
        topics = Topics(self.device.site, self.device.id)
        target = Target(
            device=self.device.id, site=self.device.site, groups=self.device.groups, version=agent.__version__
        )
        self._desk = FlagDesk(
            self._keys, target, self._layout, self._layout.state.parent / "run", clock, stop, self._environ
        )
        self._sight = Sight()
        monitor = cast("Monitor", self._sight)
        openings, board = Openings(settings), Identity(None, None)
        presence = Presence(settings, topics, board, openings, clock, self._desk.overridden)
        self._telemetry = Telemetry(topics, monitor)
        subjects: list[Subject] = [presence, self._telemetry, Alerts(topics, monitor), self._desk]
        self._conversation = Conversation(subjects, clock, stop)
        self._unbegun = True
        line = KioskLine(Mqtt(url=self._url), self.device.id, messages.status(topics, online=False), self.wake)
        for topic, hear in self._desk.listens_to.items():
            line.listen(topic, self._hears(hear))
        self._line = line
        line.start()

    def switch_off(self) -> None:
        """As a courier ends."""
        if self._line is not None:
            topics = Topics(self.device.site, self.device.id)
            line, self._line = self._line, None
            line.stop(messages.status(topics, online=False), 5)

    @property
    def looks(self) -> int:
        return self._seq

    def wake(self) -> None:
        self._wake(self)

    def alarm(self, **raised: Raised) -> None:
        """Have alerts raised, these alone."""
        self._sight.raised = raised
        self.wake()

    def look(self) -> None:
        """Take a new picture, as the monitor does every 30 s."""
        self._seq += 1
        in_force = self._desk.in_force
        told: dict[str, Any] = {"flags": None, "flags_version": None}
        if in_force is not None:
            told["flags"] = ",".join(f"{name}={each.name}" for name, each in in_force.variants.items())
            told["flags_version"] = in_force.version
            now = (in_force.variants[FLAG].name, in_force.version)
            if not self.changed_at_s or self.changed_at_s[-1][:2] != now:
                self.changed_at_s.append((*now, time.monotonic()))
        values = {**QUIET, **self.counted.values(), **told, "version": agent.__version__}
        self._sight.picture = Picture(values, time.time_ns(), self._seq)

    def step(self) -> None:
        """What its threads would do."""
        line = self._line
        if line is None:
            return
        if self._unbegun:
            self._unbegun = False
            self._desk.begin()
        self._desk.work()
        self.look()
        self._conversation.step(line)

    def _hears(self, hear: Callable[[Heard], None]) -> Callable[[Heard], None]:
        def heard(message: Heard) -> None:
            hear(message)
            self.wake()

        return heard


Wake = Callable[[Kiosk], None]


class Kiosks:
    """All of them, and the thread that they share."""

    def __init__(self) -> None:
        self._due: dict[Kiosk, None] = {}
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._stop = False
        self.all: list[Kiosk] = []
        self._thread = threading.Thread(target=self._run)

    def wake(self, kiosk: Kiosk) -> None:
        with self._lock:
            self._due[kiosk] = None
        self._awake.set()

    def names(self, wanted: Callable[[Kiosk], bool]) -> set[str]:
        return {str(kiosk) for kiosk in self.all if wanted(kiosk)}

    def having(self, variant: str) -> set[str]:
        """Those that are on and have it."""
        return self.names(lambda kiosk: kiosk.on and kiosk.variant == variant)

    def settle(self, version: int | None) -> None:
        """Wait until every kiosk that is on goes by a document, and has told so."""
        eventually(
            lambda: all(kiosk.version == version and kiosk.told for kiosk in self.all if kiosk.on),
            f"all go by version {version}: {[str(each) for each in self.all if each.on and each.version != version]}",
            _PATIENCE_S,
        )

    def record(self, segments: int, failing: Iterable[str] = (), damaged: Iterable[str] = ()) -> None:
        """Have each record so many segments and upload them, and wait until the fleet was told.

        A tenth of the attempts fail where it's `failing`, a twentieth of the segments go wrong where it's `damaged`.
        """
        failing, damaged = set(failing), set(damaged)
        for kiosk in self.all:
            if kiosk.on:
                counted = kiosk.counted
                counted.segments += segments
                counted.attempts += segments
                counted.failures += segments // 10 if str(kiosk) in failing else 0
                counted.errors += segments // 20 if str(kiosk) in damaged else 0
        self.look()

    def look(self) -> None:
        """Have each take a new picture, and wait until the fleet was told."""
        before = {kiosk: kiosk.looks for kiosk in self.all if kiosk.on}
        for kiosk in before:
            kiosk.wake()
        eventually(
            lambda: all(kiosk.looks > looks and kiosk.told for kiosk, looks in before.items()),
            "all have told",
            _PATIENCE_S,
        )

    def begin(self) -> None:
        self._thread.start()
        for kiosk in self.all:
            kiosk.switch_on()

    def end(self) -> None:
        for kiosk in self.all:
            kiosk.switch_off()
        self._stop = True
        self._awake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            self._awake.wait()
            self._awake.clear()
            with self._lock:
                due, self._due = self._due, {}
            for kiosk in due:
                kiosk.step()


@contextmanager
def living(
    url: str,
    devices: Iterable[Device],
    keys: tuple[str, ...],
    environs: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Kiosks]:
    """Kiosks that are all on, while the block runs. `environs` by device id.

    Their cards are in memory: two hundred of them on one disk would wait for each other, which no kiosks do.
    """
    kiosks = Kiosks()
    with tempfile.TemporaryDirectory(prefix="kiosks-", dir=_RAM if _RAM.is_dir() else None) as root:
        for device in devices:
            environ = (environs or {}).get(device.id, {})
            kiosks.all.append(Kiosk(Path(root) / device.id, device, url, keys, environ, kiosks.wake))
        kiosks.begin()
        try:
            eventually(lambda: all(kiosk.told for kiosk in kiosks.all), "all kiosks are there", _PATIENCE_S)
            yield kiosks
        finally:
            kiosks.end()
