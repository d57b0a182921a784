"""Weather for a kiosk: its processes are killed with SIGKILL, again and again, and started again at once.

Moments are drawn from a process's whole life: from its start, from the taking of its lock (recovery and the first
uploads come right after), and from its working time. However busy the machine, each part of a life gets its share.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from agent.spool import Layout, files_below
from hw.simulated import SimulatedRoom
from tests.end_to_end.kiosk import Kiosk, stop
from tests.soundcard import eventually

Role = Literal["recorder", "courier"]

Mark = Literal["start", "lock", "work"]

SPANS_S: Mapping[Mark, float] = {"start": 0.8, "lock": 0.25, "work": 6.0}
"""From its start a process takes most of a second to its lock. Then a recorder opens the ledger and recovers, a courier
looks for what is due. At work, some segments are finished in the longest life."""

WEIGHTS: Mapping[Mark, float] = {"start": 0.2, "lock": 0.3, "work": 0.5}


@dataclass(frozen=True, slots=True)
class Blow:
    """The end of one life: so many seconds after the process was started, took its lock, or had begun its work."""

    since: Mark
    seconds: float


def blows(count: int, seed: int) -> Iterator[Blow]:
    """A schedule, the same for the same seed."""
    chance = random.Random(seed)
    for mark in chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count):
        yield Blow(mark, chance.uniform(0, SPANS_S[mark]))


@dataclass(frozen=True, slots=True)
class Life:
    """One process from its start to its SIGKILL, in nanoseconds of the machine's monotonic clock."""

    role: Role
    started_ns: int
    killed_ns: int
    phase: str
    """Where it was: "starting" (before its lock), then "recovering" and "writing", or "idle" and "uploading"."""


@dataclass(slots=True)
class Storm:
    """One kiosk in one room, and what was done to it."""

    kiosk: Kiosk
    room: SimulatedRoom
    lives: list[Life] = field(default_factory=list)

    def rage(self, kills: int, seed: int) -> None:
        """Kill recorder and courier `kills` times in all, each on a schedule of its own; both are gone afterwards."""
        half = kills // 2
        with ThreadPoolExecutor(2) as pool:
            tormented = [
                pool.submit(self._torment, "recorder", self._record, blows(kills - half, seed)),
                pool.submit(self._torment, "courier", self.kiosk.upload, blows(half, seed + 1)),
            ]
            for each in tormented:
                each.result()

    def calm(self, segments: int = 0) -> None:
        """The last life of each: the recorder goes on until there are so many segments, the courier uploads all."""
        recorder = self._record()
        eventually(lambda: self._works("recorder", recorder.pid), "the recorder records")
        eventually(lambda: len(self.kiosk.segments()) >= segments, f"{segments} segments are sealed")
        assert stop(recorder) == 0
        assert self.kiosk.upload("--once").wait(60) == 0

    def lives_of(self, role: Role) -> list[Life]:
        return [life for life in self.lives if life.role == role]

    def phases(self) -> Counter[tuple[Role, str]]:
        """How many of whom were killed where."""
        return Counter((life.role, life.phase) for life in self.lives)

    def _record(self) -> subprocess.Popen[bytes]:
        return self.kiosk.record(self.room)

    def _torment(self, role: Role, start: Callable[[], subprocess.Popen[bytes]], schedule: Iterator[Blow]) -> None:
        for blow in schedule:
            started_ns = time.monotonic_ns()
            process = start()
            reached = {"start": lambda *_: True, "lock": self._holds_lock, "work": self._works}[blow.since]
            eventually(lambda: reached(role, process.pid) or process.poll() is not None, f"{role}: {blow.since}")  # noqa: B023
            time.sleep(blow.seconds)
            assert process.poll() is None, f"the {role} ended by itself with {process.returncode}: {self.kiosk.log}"
            killed_ns = time.monotonic_ns()
            process.kill()
            process.wait()
            self.lives.append(Life(role, started_ns, killed_ns, self._phase(role, process.pid)))

    def _holds_lock(self, role: Role, pid: int) -> bool:
        with suppress(FileNotFoundError):
            return (self.kiosk.layout.state / f"{role}.lock").read_text() == str(pid)
        return False

    def _works(self, role: Role, pid: int) -> bool:
        if role == "courier":
            return self._holds_lock(role, pid)
        status = self.kiosk.status()
        return status is not None and status.pid == pid and status.run is not None

    def _phase(self, role: Role, pid: int) -> str:
        """Where the process was, by what it left."""
        if not self._holds_lock(role, pid):
            return "starting"
        if role == "recorder":
            return "writing" if self._works(role, pid) else "recovering"
        handed_out = any(segment.key and segment.state == "pending" for segment in self.kiosk.segments())
        return "uploading" if handed_out else "idle"


class Scales:
    """Weighs everything below `spool/` all the time, in a thread; keeps the most it ever saw."""

    def __init__(self, layout: Layout) -> None:
        self._directories = (layout.open, layout.quarantine, layout.sealed)
        self.peak_bytes = 0
        self.weighings = 0

    @contextmanager
    def watching(self, pause_s: float = 0.01) -> Iterator[None]:
        """Weigh until the block is left."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(pause_s):
                self.peak_bytes = max(self.peak_bytes, self._weigh())
                self.weighings += 1

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _weigh(self) -> int:
        # A file that moves from open/ to sealed/ meanwhile must not be counted twice, nor one that took the place of
        # a removed one besides it: each inode once, open/ first.
        sizes: dict[int, int] = {}
        for directory in self._directories:
            for entry in files_below(directory):
                with suppress(FileNotFoundError):
                    stat = Path(entry.path).stat()
                    sizes[stat.st_ino] = stat.st_size
        return sum(sizes.values())
