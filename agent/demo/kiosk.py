"""The kiosk of the demonstration: a real configuration file, a real recorder, a real courier, seen from outside."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.commands.starting import lean_environment
from agent.demo.children import Child, environment
from agent.demo.hearing import CHANNELS, RATE, Hearing
from agent.errors import KioskError
from agent.ledger import Entry, Ledger
from agent.spool import Layout, SegmentName
from agent.status import RecorderStatus, read_status
from agent.units import NS_PER_S, Size, human_bytes

if TYPE_CHECKING:
    from agent.demo.servers import Broker, Store
    from hw.clock import Clock

SITE, DEVICE = "demo", "room-1"
CAP = Size(20 * 2**20)
SEGMENT_SECONDS = 5

_NEWS_KEPT = 40


@dataclass(frozen=True, slots=True)
class News:
    """Something that happened, in one line."""

    wall_ns: int
    text: str
    bad: bool = False


@dataclass(slots=True)
class Books:
    """What the ledger has told so far."""

    sealed: int = 0
    verified: int = 0
    gaps: int = 0
    news: deque[News] = field(default_factory=lambda: deque(maxlen=_NEWS_KEPT))


class Kiosk:
    """One kiosk below a directory: `config.toml`, the spool, the state."""

    def __init__(
        self,
        directory: Path,
        logs: Path,
        hearing: Hearing,
        store: Store,
        broker: Broker,
        clock: Clock,
        recipients: Sequence[str] = (),
    ) -> None:
        """Write the configuration; starts nothing."""
        self.directory = directory
        self.layout = Layout(directory)
        self.books = Books()
        self._logs = logs
        self._hearing = hearing
        self._store = store
        self._clock = clock
        self._runtime = directory / "run"
        self._ledger: Ledger | None = None
        self._seen = 0
        directory.mkdir()
        self._runtime.mkdir()
        self.config = directory / "config.toml"
        self.config.write_text(_configuration(directory, hearing, store, broker, recipients))

    @property
    def listing(self) -> str:
        """The command with which a person lists what it recorded."""
        installed = Path(sys.executable).with_name("kiosk-recorder")
        words = [sys.executable, "-m", "agent.cli"]
        if shutil.which("kiosk-recorder"):
            words = ["kiosk-recorder"]
        elif installed.exists():
            words = [os.path.relpath(installed)]
        return shlex.join([*words, "list", "--config", str(self.config)])

    def start_recorder(self) -> Child:
        """`kiosk-recorder record`."""
        return self._start("record", self._hearing.environment)

    def start_courier(self) -> Child:
        """`kiosk-recorder courier`, with the store's keys where boto3 looks for them."""
        keys = {"AWS_ACCESS_KEY_ID": self._store.access_key, "AWS_SECRET_ACCESS_KEY": self._store.secret_key}
        # Neither the user's own AWS settings nor the cloud this machine may stand in have a say here.
        nowhere = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        return self._start("courier", {**keys, **nowhere, "AWS_EC2_METADATA_DISABLED": "true"})

    def status(self) -> RecorderStatus | None:
        """What the recorder says of itself, or None."""
        return read_status(self._runtime)

    def read_books(self) -> Books:
        """What the ledger has, with everything that is new in it."""
        if self._ledger is None:
            try:
                self._ledger = Ledger(self.layout.ledger, self._clock, read_only=True)
            except KioskError as error:
                if not error.retryable:
                    raise
                return self.books
        for entry in self._ledger.entries(self._seen):
            self._seen = entry.seq
            self.books.sealed += entry.kind == "sealed"
            self.books.verified += entry.kind == "acknowledged"
            self.books.gaps += entry.kind == "gap"
            if (news := _told(entry)) is not None:
                self.books.news.append(news)
        return self.books

    @property
    def ledger(self) -> Ledger:
        """The ledger, once `read_books` found it. Raises KioskError when there is none."""
        if self._ledger is None:
            raise KioskError("read ledger", place=str(self.layout.ledger), cause="the recorder hasn't made it")
        return self._ledger

    def close(self) -> None:
        """Let go of the ledger."""
        if self._ledger is not None:
            self._ledger.close()

    def _start(self, command: str, extra: Mapping[str, str]) -> Child:
        return Child(
            f"kiosk-recorder {command}",
            [sys.executable, "-P", "-m", "agent.cli", command, "--config", str(self.config)],
            log=self._logs / f"{command}.log",
            environment=lean_environment(environment(RUNTIME_DIRECTORY=str(self._runtime), **extra)),
        )


def _configuration(directory: Path, hearing: Hearing, store: Store, broker: Broker, recipients: Sequence[str]) -> str:
    sections: dict[str, dict[str, str | int | Sequence[str]]] = {
        "device": {"site": SITE, "id": DEVICE},
        "capture": {"pcm": hearing.pcm, "rate": RATE, "channels": CHANNELS},
        "spool": {
            "path": str(directory),
            "cap": str(CAP),
            "keep_free": "0B",
            "segment_seconds": SEGMENT_SECONDS,
            # What was uploaded stays here too, so that it can be compared with what comes back.
            "keep_uploaded": "1d",
        },
        "upload": {
            "target": f"s3://{store.bucket.name}",
            "endpoint_url": store.endpoint,
            "region": "us-east-1",
            "clock_wait": "0s",
        },
        "mqtt": {"url": broker.url},
        "seal": {"recipients": recipients},
    }
    return "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in keys.items())
        for section, keys in sections.items()
    )


def _told(entry: Entry) -> News | None:
    """A journal entry as news; None for one that only bookkeepers care about."""
    body = entry.body
    name = str(SegmentName(body["run"], body["seq"])) if "seq" in body else ""
    if entry.kind == "sealed":
        cut = ", cut short" if body["truncated"] else ""
        length_s = body["frames"] / body["rate"]
        return News(entry.at_ns, f"{name} sealed, {length_s:.1f} s, {human_bytes(body['bytes'])}{cut}")
    if entry.kind == "acknowledged":
        return News(entry.at_ns, f"{name} uploaded and verified")
    if entry.kind == "gap":
        length_s = (body["end_ns"] - body["begin_ns"]) / NS_PER_S
        reason = body["reason"].replace("_", " ")
        return News(entry.at_ns, f"not recorded: {length_s:.1f} s ({reason})", bad=reason != "restart")
    if entry.kind in ("evicted", "quarantined", "lost", "damaged"):
        return News(entry.at_ns, f"{name} {entry.kind}: {body['reason']}", bad=True)
    return None
