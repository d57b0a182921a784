"""A room that is recorded and uploaded over lines on which things go wrong, from beginning to end.

Recorder and courier are the real processes, before a real SeaweedFS and a real mosquitto. Both live in the room's time,
which passes `speed` times faster than real time: so do back-off, holds and the audio itself. Sockets and paho know
nothing of that. A fault that ends by a time limit of theirs is played at speed 1.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.ledger import Gap, Segment
from agent.settings import Capture, Device, Mqtt, Settings, Spool, Upload
from agent.units import Duration, Size
from hw.clock import SystemClock
from hw.simulated import SimulatedRoom
from tests.end_to_end.kiosk import Kiosk, stop
from tests.faults.stage import Ground
from tests.faults.store_line import StoreLine
from tests.servers import Bucket
from tests.soundcard import RATE, eventually

_starting = threading.BoundedSemaphore(3)
"""A small machine can look after many kiosks, but not start them all at once."""

PATIENCE_S = 100.0
"""Real seconds for anything at all: more than the longest promise."""


@dataclass
class Scene:
    """Everything a fault can be done to."""

    ground: Ground
    bucket: Bucket
    store_line: StoreLine
    broker_url: str
    speed: float = 1.0
    mqtt: Mqtt | None = None
    """How to speak to the broker, if not like everybody."""
    environment: dict[str, str] = field(default_factory=dict)
    """Of both processes; to be changed before they start."""
    courier_environment: dict[str, str] = field(default_factory=dict)
    """Of the courier besides."""
    endpoint_url: str = ""
    """"" is the store's line."""
    parallel: int = 2
    segment_s: int = 3
    room_time: bool = True
    """Whether the processes live by the room's clock, and not by the machine's."""
    directory: Path = field(init=False)
    room: SimulatedRoom = field(init=False)
    kiosk: Kiosk = field(init=False)

    def __post_init__(self) -> None:
        self.directory = self.ground.directory
        # A room in a hurry waits for its reader: what a busy machine can't keep up with is no fault of the network's.
        patient = self.speed > 1
        self.room = SimulatedRoom(
            self.directory / "room", self.ground.source, RATE, 1, speed=self.speed, patient=patient
        )
        self.environment = self.bucket.store.kiosk.environment
        self.kiosk = Kiosk(
            Settings(
                device=Device(site="north", id=self.directory.name),
                capture=Capture(pcm=self.room.pcm),
                spool=Spool(path=self.directory / "kiosk", segment_seconds=self.segment_s, keep_free=Size(0)),
                upload=Upload(
                    target=f"s3://{self.bucket.name}/clinics", parallel=self.parallel, clock_wait=Duration(0)
                ),
                mqtt=self.mqtt or Mqtt(url=self.broker_url),
            )
        )

    @property
    def log(self) -> str:
        return self.kiosk.log.read_text() if self.kiosk.log.exists() else ""

    def begin(self) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
        """Start recorder and courier."""
        settings = self.kiosk.settings
        url = self.endpoint_url or f"http://127.0.0.1:{self.store_line.port}"
        self.kiosk.settings = replace(settings, upload=replace(settings.upload, endpoint_url=url))
        self.kiosk.environment = self.environment
        recorder = self.kiosk.record(self.room, room_time=self.room_time)
        self.kiosk.environment = self.environment | self.courier_environment
        return recorder, self.kiosk.upload(room=self.room if self.room_time else None)

    def wall_ns(self) -> int:
        """What time it really is where the kiosk stands."""
        return (self.room.clock() if self.room_time else SystemClock()).wall_ns()

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` of the room pass."""
        time.sleep(seconds / self.speed)

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        eventually(condition, f"{what}\n{self.log}", PATIENCE_S)


Strike = Callable[[Scene], AbstractContextManager[object]]
"""Is in force while the block runs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was left when a fault was over. Times are seconds of the room."""

    recovery_s: float
    """From the end of the fault to the first sign after it that all is well."""
    trouble_s: float
    """From the beginning of the fault to that sign."""
    failures: int
    """Attempts that failed, as the courier counted them."""
    arrived_meanwhile: int
    """Objects that reached the store during the fault."""
    missing: list[str]
    """Recordings that were pending at the end of the fault without a file."""
    peak_bytes: int
    """The most memory that the courier ever had."""
    statuses: tuple[int, int]
    """With which recorder and courier ended when they were asked to."""
    segments: list[Segment]
    gaps: list[Gap]
    objects: dict[str, bytes]
    from_ns: int
    until_ns: int
    """Wall time at which it all began and was over."""
    log: str


Sign = Callable[[Scene, float], float | None]
"""When it was first seen, after a time, that all is well; None if it wasn't. On the real monotonic clock."""


def arrival(scene: Scene, after_s: float) -> float | None:
    """That the store took a recording."""
    return next((arrival_s for arrival_s in scene.store_line.arrivals() if arrival_s > after_s), None)


def play(scene: Scene, strike: Strike, lasts_s: float, *, from_start: bool, sign: Sign = arrival) -> Outcome:
    """Live through one fault of `lasts_s` seconds of the room, `from_start` or out of the blue.

    `sign` tells when all is well: before, and again after.
    """
    with ExitStack() as stack:
        stack.enter_context(scene.kiosk)
        trouble = stack.enter_context(ExitStack())
        from_ns = scene.wall_ns()
        if from_start:
            trouble.enter_context(strike(scene))
        with _starting:
            recorder, courier = scene.begin()
            scene.eventually(lambda: "uploads go to" in scene.log, "the courier has begun")
        if not from_start:
            scene.eventually(lambda: None not in (arrival(scene, 0), sign(scene, 0)), "all is well at first")
            trouble.enter_context(strike(scene))
        began_s = time.monotonic()
        scene.pass_time(lasts_s)
        missing = _missing(scene.kiosk)
        trouble.close()
        ended_s = time.monotonic()
        scene.eventually(lambda: sign(scene, ended_s) is not None, "all is well again")
        recovered_s = sign(scene, ended_s) or ended_s
        # One more that was recorded when all was well again.
        count = len(scene.kiosk.segments())
        scene.eventually(lambda: len(scene.kiosk.segments()) > count, "recording goes on")
        recorder_status = stop(recorder)
        scene.eventually(lambda: _all_settled(scene.kiosk), "everything is acknowledged")
        peak = peak_bytes(courier.pid)
        statuses = recorder_status, stop(courier)
        with scene.kiosk.ledger() as ledger:
            failures = int(ledger.counters().get("upload_failures_total", 0))
        return Outcome(
            recovery_s=(recovered_s - ended_s) * scene.speed,
            trouble_s=(recovered_s - began_s) * scene.speed,
            failures=failures,
            arrived_meanwhile=sum(began_s < arrival_s < ended_s for arrival_s in scene.store_line.arrivals()),
            missing=missing,
            peak_bytes=peak,
            statuses=statuses,
            segments=scene.kiosk.segments(),
            gaps=scene.kiosk.gaps(),
            objects=scene.bucket.contents(),
            from_ns=from_ns,
            until_ns=scene.wall_ns(),
            log=scene.log,
        )


def advice(log: str, told: str) -> list[str]:
    """What the courier told about `told`, each with the way out below it."""
    return re.findall(rf"uploads wait, recordings are kept: .*{told}.*\n  → .+", log)


def _all_settled(kiosk: Kiosk) -> bool:
    return all(segment.state == "acknowledged" for segment in kiosk.segments())


def _missing(kiosk: Kiosk) -> list[str]:
    """Names of recordings that nobody has although they aren't acknowledged."""
    pending = [segment.name for segment in kiosk.segments() if segment.state == "pending"]
    gone = [name for name in pending if not kiosk.layout.audio(name).exists()]
    # Acknowledged while we looked?
    states = {segment.name: segment.state for segment in kiosk.segments()}
    return [str(name) for name in gone if states[name] == "pending"]


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had."""
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(peak) * 1024
