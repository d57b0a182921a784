"""A kiosk's configuration and spool, and `kiosk-recorder` run on them as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings
from tests.soundcard import eventually

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-P", "-m", "agent.cli"]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    def json(self) -> Any:  # noqa: ANN401 (whatever the command says)
        assert self.out, self.err
        return json.loads(self.out)


@dataclass(slots=True)
class Kiosk:
    """Room 1 of the clinic "north", below `root`. Use as a context manager: no process outlives it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def spool(self) -> Path:
        """The directory that `spool.path` names."""
        return self.root / "kiosk"

    def configure(self, *, capture: str = "", spool: str = "", rest: str = "") -> None:
        """Write a configuration for quick tests; keys of [capture] and [spool], and whole sections, are added."""
        self.config.write_text(
            f'[device]\nsite = "north"\nid = "room-1"\n'
            f"[capture]\nrate = {RATE}\n{capture}\n"
            f'[spool]\npath = "{self.spool}"\nsegment_seconds = 2\nkeep_free = "0B"\n{spool}\n{rest}\n'
        )

    def recorded(self, seconds: float, clock: FakeClock | None = None) -> WriterRoom:
        """A recorder's whole life of so many seconds, ended in good order."""
        room = WriterRoom(settings(self.spool), clock or FakeClock())
        room.hear(noise(seconds))
        room.end()
        return room

    def run(self, *arguments: str | Path, config: bool = True, **environment: str) -> Answer:
        """Run a command to its end."""
        command = [*PROGRAM, *map(str, arguments), *(["--config", str(self.config)] if config else [])]
        done = subprocess.run(
            command, env=self._environment(environment), capture_output=True, text=True, timeout=60, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command that goes on; what it says goes to `log`."""
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [*PROGRAM, *arguments, "--config", str(self.config)],
                env=self._environment(environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    @property
    def log(self) -> Path:
        return self.root / "log"

    def logged(self, text: str) -> None:
        """Wait until a started command has said `text`."""
        eventually(lambda: text in self.log.read_text(), f"the log says {text!r}")

    def recording(self) -> int:
        """Wait until a recorder records; its process id."""

        def records() -> bool:
            return bool(self.run("status", "--json").json()["recorder"].get("state") == "recording")

        eventually(records, "the recorder records")
        return int(self.run("status", "--json").json()["recorder"]["pid"])

    def __enter__(self) -> Self:
        self.configure()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        own = {"RUNTIME_DIRECTORY": str(self.root / "runtime"), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
        return {**os.environ, **own, **self.environment, **more}
