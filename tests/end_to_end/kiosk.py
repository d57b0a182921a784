"""A whole kiosk for tests: real recorder and courier processes around one directory."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import soundfile

from agent.contract import age
from agent.errors import KioskError
from agent.handover import hand_over
from agent.inspection import Finding, Inspection
from agent.ledger import Gap, Ledger, Segment
from agent.mending import readable_in_memory
from agent.settings import Settings
from agent.spool import Layout
from agent.status import RecorderStatus, read_status
from agent.timeline import Fault, read
from hw.clock import SystemClock
from hw.simulated import SimulatedRoom
from tests.end_to_end.plan import Plan
from tests.keys import identity
from tests.soundcard import eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class Kiosk:
    """Starts and ends the two processes; reads what they left. Use as a context manager: no process outlives it."""

    settings: Settings
    environment: Mapping[str, str] = field(default_factory=dict)
    beside: Path | None = None
    """Where the runtime directory and the log are; None is in the spool's root."""
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def layout(self) -> Layout:
        return Layout(self.settings.spool.path)

    @property
    def log(self) -> Path:
        return self._beside / "processes.log"

    @property
    def runtime(self) -> Path:
        return self._beside / "run"

    @property
    def _beside(self) -> Path:
        return self.beside or self.settings.spool.path

    def record(
        self, room: SimulatedRoom, *, room_time: bool = False, plan: Plan | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the recorder in `room`; with `room_time` it lives by the room's clock, with a `plan` by that too."""
        if plan is not None:
            command = _planned("recorder", plan, room)
        elif room_time:
            command = ["tests.end_to_end.room_recorder", "{}", str(room.directory / "state"), str(room.speed)]
        else:
            command = ["agent.recorder", "--settings-fd", "{}"]
        return self._start(command, room.environment)

    def record_by(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a recorder by a module of the test's own; "{}" in its arguments is where the settings are."""
        return self._start(command, environment)

    def upload(self, *options: str, room: SimulatedRoom | None = None) -> subprocess.Popen[bytes]:
        """Start the courier; with a `room` it lives by the room's clock."""
        if room is None:
            return self._start(["agent.courier", "--settings-fd", "{}", *options], {})
        command = ["tests.end_to_end.room_courier", "{}", str(room.directory / "state"), str(room.speed)]
        return self._start(command, {})

    def upload_by(self, plan: Plan, room: SimulatedRoom | None, **environment: str) -> subprocess.Popen[bytes]:
        """Start the courier with a clock that goes wrong by `plan`, in the time of `room` or of this machine."""
        return self._start(_planned("courier", plan, room), environment)

    def process(self, pid: int) -> subprocess.Popen[bytes]:
        """That of the processes started here."""
        return next(process for process in self._processes if process.pid == pid)

    def status(self) -> RecorderStatus | None:
        return read_status(self.runtime)

    def ledger(self) -> Ledger:
        return Ledger(self.layout.ledger, SystemClock(), read_only=True)

    def segments(self) -> list[Segment]:
        try:
            with self.ledger() as ledger:
                return list(ledger.segments())
        except KioskError as error:
            if error.retryable:
                return []
            raise

    def gaps(self) -> list[Gap]:
        with self.ledger() as ledger:
            return ledger.gaps()

    def found_wrong(self) -> list[Finding | Fault]:
        """What `verify` and `timeline` have to say, once no recorder runs."""
        with self.ledger() as ledger:
            inspection = Inspection(self.layout, ledger, SystemClock(), lambda: False, hashing=True)
            findings = inspection.segments(inspection.expected(), lambda _: None) + inspection.strangers()
            assert ledger.broken_link() is None
            return [*findings, *read(ledger).faults]

    def captured_s(self) -> float:
        return sum(segment.seconds for segment in self.segments())

    def wait_for_recording(self) -> None:
        eventually(
            lambda: (status := self.status()) is not None and status.state == "recording", "the recorder records"
        )

    def __enter__(self) -> Self:
        self.settings.spool.path.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _start(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        descriptor = hand_over(self.settings)
        runtime = {"RUNTIME_DIRECTORY": str(self.runtime), "PYTHONPATH": str(ROOT)}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(descriptor) for part in command)],
                env={**os.environ, **self.environment, **runtime, **environment},
                pass_fds=[descriptor],
                stdout=log,
                stderr=log,
            )
        os.close(descriptor)
        self._processes.append(process)
        return process


def _planned(who: str, plan: Plan, room: SimulatedRoom | None) -> list[str]:
    place = [] if room is None or room.speed == 1 else [str(room.directory / "state"), str(room.speed)]
    # The only braces that mean something to `_start` are those of the descriptor.
    text = plan.written().replace("{", "{{").replace("}", "}}")
    return ["tests.end_to_end.planned_kiosk", who, "{}", text, *place]


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to end in good order; its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(30)


def decoded(flac: bytes) -> NDArray[np.int16]:
    """A FLAC file's samples, shape (frames, channels); it may be encrypted to tests.keys.PUBLIC."""
    encrypted = flac.startswith(age.MAGIC)
    stream = readable_in_memory(flac, "", [identity()]).stream if encrypted else io.BytesIO(flac)
    samples, _ = soundfile.read(stream, dtype="int16", always_2d=True)
    return np.asarray(samples, np.int16)


def heard(room: SimulatedRoom, source: NDArray[np.int16], begin: int, frames: int) -> NDArray[np.int16]:
    """What the microphone gave from frame `begin` of the room's time on; the source loops."""
    assert room.channels == source.shape[1]
    return np.take(source, np.arange(begin, begin + frames) % len(source), axis=0)


def runs(segments: list[Segment]) -> Iterator[list[Segment]]:
    """Segments by run, in order of time."""
    by_run: dict[str, list[Segment]] = {}
    for segment in segments:
        by_run.setdefault(segment.run, []).append(segment)
    yield from by_run.values()
