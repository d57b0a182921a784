"""What the uploads of the last hour did, and what they counted since the ledger last heard of it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.units import NS_PER_S
from hw.clock import Clock

WINDOW_S = 3600
_SLICE_S = 60


class SlidingWindow:
    """Sums over the last hour, in slices of a minute: its memory doesn't grow with what happens."""

    def __init__(self) -> None:
        self._slices: deque[tuple[int, Counter[str]]] = deque()

    def add(self, now_s: float, amounts: Mapping[str, float]) -> None:
        """Count `amounts` at `now_s`, which never goes back."""
        number = int(now_s // _SLICE_S)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append((number, Counter()))
        self._slices[-1][1].update(amounts)
        self._forget(number)

    def sums(self, now_s: float) -> Mapping[str, float]:
        """Everything counted in the last hour, by name; what wasn't counted is 0."""
        self._forget(int(now_s // _SLICE_S))
        total: Counter[str] = Counter()
        for _, amounts in self._slices:
            total.update(amounts)
        return total

    def _forget(self, number: int) -> None:
        while self._slices and self._slices[0][0] <= number - WINDOW_S // _SLICE_S:
            self._slices.popleft()


@dataclass(frozen=True, slots=True)
class Rates:
    """Over the last hour; None where nothing happened that could tell."""

    success_pct: float | None
    speed_bytes_per_s: float | None
    retries_avg: float | None


class Activity:
    """Shared by the upload workers (who tell), the dispatcher (who counts) and the reporter (who asks)."""

    def __init__(self, clock: Clock, shown: Callable[[], None] = lambda: None) -> None:
        """`shown` is called when an upload begins, and by `show` while it lasts."""
        self._clock = clock
        self._shown = shown
        self._lock = threading.Lock()
        self._window = SlidingWindow()
        self._active = 0
        self._uncounted: Counter[str] = Counter()

    @property
    def active(self) -> int:
        """Uploads that are on the line right now."""
        return self._active

    def began(self) -> None:
        """One attempt goes out."""
        with self._lock:
            self._active += 1
        self._shown()

    def show(self) -> None:
        """Say again that uploads are on the line, if there are any."""
        if self._active:
            self._shown()

    def abandoned(self) -> None:
        """That attempt says nothing about the store: the process is ending, or the file went."""
        with self._lock:
            self._active -= 1

    def failed(self) -> None:
        """That attempt was refused or broke."""
        self._finish({"attempts": 1}, {"upload_attempts_total": 1, "upload_failures_total": 1})

    def succeeded(self, size: int, seconds: float) -> None:
        """That attempt brought `size` bytes there in `seconds`."""
        amounts = {"attempts": 1, "verified": 1, "bytes": size, "seconds": seconds}
        self._finish(amounts, {"upload_attempts_total": 1})

    def found(self) -> None:
        """That attempt found it there already: a success that says nothing about speed."""
        self._finish({"attempts": 1, "verified": 1}, {"upload_attempts_total": 1})

    def take_uncounted(self) -> dict[str, float]:
        """Increments for the ledger's counters since the last call."""
        with self._lock:
            taken = dict(self._uncounted)
            self._uncounted.clear()
        return {name: float(value) for name, value in taken.items()}

    def rates(self) -> Rates:
        """How it went in the last hour."""
        with self._lock:
            sums = self._window.sums(self._now_s())
        return Rates(
            success_pct=_share(100 * sums["verified"], sums["attempts"]),
            speed_bytes_per_s=_share(sums["bytes"], sums["seconds"]),
            retries_avg=_share(sums["attempts"] - sums["verified"], sums["verified"]),
        )

    def _finish(self, amounts: Mapping[str, float], counts: Mapping[str, int]) -> None:
        with self._lock:
            self._active -= 1
            self._window.add(self._now_s(), amounts)
            self._uncounted.update(counts)

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / NS_PER_S


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
