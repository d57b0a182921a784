"""What there is to see while it runs: gathered from outside, the way anybody on this machine could."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent.demo.bucket import Stored
from agent.demo.ear import Ear
from agent.demo.kiosk import CAP, Kiosk, News
from agent.demo.servers import Broker, Store
from agent.errors import KioskError
from agent.status import RecorderStatus
from agent.units import NS_PER_S, human_bytes

_LIST_EVERY_S = 1.0
_LOUDNESS_KEPT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything that is shown, at one moment."""

    phase: str
    """What the demonstration itself is doing when that isn't recording; else ""."""
    title: str
    """What is listened to."""
    elapsed_s: float
    left_s: float | None
    status: RecorderStatus | None = None
    loudness: Sequence[float] = ()
    """RMS in dBFS of each second heard, oldest first."""
    sealed: int = 0
    stored: int = 0
    """Recordings that the bucket lists."""
    stored_bytes: int = 0
    verified: int = 0
    broker: str = ""
    """What the broker's listener heard, in a few words."""
    news: Sequence[News] = ()
    invitations: Sequence[str] = ()
    """Commands with which anybody can look for themselves."""

    @property
    def state(self) -> str:
        """What is going on, in a few words."""
        return self.phase or (self.status.state.replace("_", " ") if self.status else "starting")

    @property
    def time(self) -> str:
        """How long it has been, and how long it will be."""
        left = "" if self.left_s is None else f", {_minutes(self.left_s)} left"
        return _minutes(self.elapsed_s) + left

    def __str__(self) -> str:
        """All of it in one line, for a log."""
        status = self.status
        level = "" if status is None or status.level_rms_dbfs is None else f" at {status.level_rms_dbfs:.0f} dBFS"
        counts = f"sealed {self.sealed}, uploaded {self.stored}, verified {self.verified}"
        used = human_bytes(status.spool_bytes if status else 0)
        text = f"{self.time}: {self.state}{level}; {counts}; spool {used} of {human_bytes(CAP)}; broker: {self.broker}"
        return f"{text}; {status.trouble.splitlines()[0]}" if status and status.trouble else text


class Observer:
    """Looks at the recorder's status, the ledger, the bucket and the broker."""

    def __init__(self, title: str, kiosk: Kiosk, store: Store, broker: Broker, ear: Ear) -> None:
        self._title = title
        self._kiosk = kiosk
        self._store = store
        self._ear = ear
        self._loudness: deque[float] = deque(maxlen=_LOUDNESS_KEPT)
        self._last_status_ns = 0
        self._stored: list[Stored] = []
        self._listed_s = 0.0
        self._invitations = (
            f"curl http://{store.address}/{store.bucket.name}",
            f"mosquitto_sub -p {broker.port} -t 'kiosk/#' -v",
            kiosk.listing,
        )

    def look(self, phase: str, elapsed_s: float, left_s: float | None) -> Picture:
        """The picture right now."""
        status = self._kiosk.status()
        if status is not None and status.updated_ns != self._last_status_ns:
            self._last_status_ns = status.updated_ns
            if status.level_rms_dbfs is not None:
                self._loudness.append(status.level_rms_dbfs)
        books = self._kiosk.read_books()
        self._list_bucket(books.verified)
        return Picture(
            phase=phase,
            title=self._title,
            elapsed_s=elapsed_s,
            left_s=left_s,
            status=status,
            loudness=tuple(self._loudness),
            sealed=books.sealed,
            stored=len(self._stored),
            stored_bytes=sum(found.bytes for found in self._stored),
            verified=books.verified,
            broker=self._ear.summary(),
            news=sorted((*books.news, *self._ear.news()), key=lambda item: item.wall_ns),
            invitations=self._invitations,
        )

    def _list_bucket(self, expected: int) -> None:
        now_s = time.monotonic()
        if now_s - self._listed_s < _LIST_EVERY_S and expected <= len(self._stored):
            return
        self._listed_s = now_s
        try:
            self._stored = [found for found in self._store.bucket.objects() if found.key.endswith(".flac")]
        except KioskError:
            return  # it is still starting, or busy: the next look will tell


def clock_time(news: News) -> str:
    """When it happened, by the clock on the wall."""
    return f"{datetime.fromtimestamp(news.wall_ns / NS_PER_S).astimezone():%H:%M:%S}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
