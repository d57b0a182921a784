"""The numbers that alerts watch, from everything that the courier can find out about this kiosk.

None is what nobody can tell just now. Cheap, and without touching the card: this is looked at every few seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.contract.messages import Value
from agent.contract.metrics import RecorderState
from agent.courier.activity import SlidingWindow
from agent.courier.chain import Custody
from agent.courier.stock import Stock
from agent.status import RecorderStatus
from agent.units import NS_PER_S
from hw.clock import Clock

_NOT_STALLED: Final = frozenset[RecorderState](
    {"recording", "listening", "idle", "paused", "muted", "waiting_for_microphone"}
)
"""What the recorder does when it does what it can, and what it was asked to."""

_CLIPPING_S: Final = 60.0
_ENOUGH_FILES: Final = 1000
"""Eight hours of recordings and their sidecars."""
_MOST_PCT: Final = 999.0
_DAY_NS: Final = 86400 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Sign:
    """What one alert watches."""

    value: float | None
    detail: str = ""
    """What is wrong in the words of whoever noticed, with the way out; empty for those of the table."""


class Signs:
    """Belongs to one thread."""

    def __init__(self, keep_free_bytes: int, needs_person: Callable[[], str], clock: Clock) -> None:
        """`needs_person` tells what the store refuses for ever, with the way out, or nothing."""
        self._keep_free_bytes = keep_free_bytes
        self._needs_person = needs_person
        self._clock = clock
        self._stalled, self._unsynchronised, self._direct, self._refused = _Held(), _Held(), _Held(), _Held()
        self._seen_ns = int(clock.monotonic_ns())
        """When the recorder last gave a sign of life."""
        self._clipped: deque[tuple[int, float]] = deque()
        self._grown = _Grown(("evicted_unsent_total", "segment_errors_total"))
        self._epoch = _Epoch()

    def read(
        self, recorder: RecorderStatus | None, values: Mapping[str, Value], card: Stock | None
    ) -> Mapping[str, Sign]:
        """One for each alert. `values` are those of the metrics table, `card` is that of the spool on the card."""
        now_ns = self._clock.monotonic_ns()
        grown = self._grown.in_the_last_hour(now_ns, values)
        return {
            "upload_success_rate": Sign(_number(values, "upload_success_rate_pct")),
            "error_rate": Sign(_number(values, "error_rate_pct")),
            "queue_length": Sign(_number(values, "queue_length")),
            "storage": Sign(_number(values, "spool_bytes_due")),
            "capture_stalled": self._capture_stalled(recorder, now_ns),
            "microphone_missing": _microphone_missing(recorder, now_ns),
            "no_signal": Sign(recorder.level_rms_dbfs if recorder else None),
            "clipping": Sign(self._clipping(recorder, now_ns)),
            "clock_unsynchronised": Sign(self._clock_unsynchronised(values, now_ns)),
            "undervoltage": Sign(_number(values, "undervoltage")),
            "temperature": Sign(_number(values, "cpu_temp_c")),
            "disk": Sign(left_pct(card, self._keep_free_bytes)),
            "disk_error": Sign(_disk_errors(card, grown.get("segment_errors_total"))),
            "direct_path": self._direct_path(recorder, now_ns),
            "evicted_unsent": Sign(grown.get("evicted_unsent_total")),
            "credentials": self._credentials(now_ns),
            "custody": Sign(self._custody(card, now_ns)),
        }

    def _capture_stalled(self, recorder: RecorderStatus | None, now_ns: int) -> Sign:
        if recorder is None:
            text = "the recorder gives no sign of life: nothing is recorded"
            return Sign(self._stalled.seconds(now_ns, holds=True, since_ns=self._seen_ns), text)
        self._seen_ns = recorder.updated_ns
        stalled = recorder.state not in _NOT_STALLED
        return Sign(self._stalled.seconds(now_ns, holds=stalled, since_ns=recorder.since_ns), recorder.trouble)

    def _clipping(self, recorder: RecorderStatus | None, now_ns: int) -> float | None:
        while self._clipped and now_ns - self._clipped[0][0] >= _CLIPPING_S * NS_PER_S:
            self._clipped.popleft()
        if recorder is not None and recorder.clipped_pct is not None:
            self._clipped.append((now_ns, recorder.clipped_pct))
        if not self._clipped:
            return None
        return round(sum(share for _, share in self._clipped) / len(self._clipped), 3)

    def _clock_unsynchronised(self, values: Mapping[str, Value], now_ns: int) -> float | None:
        synchronised = values.get("clock_synchronised")
        return self._unsynchronised.seconds(now_ns, holds=None if synchronised is None else not synchronised)

    def _direct_path(self, recorder: RecorderStatus | None, now_ns: int) -> Sign:
        if recorder is None:
            return Sign(None)
        detour = recorder.detour if recorder.path == "direct" else ""
        return Sign(self._direct.seconds(now_ns, holds=bool(detour)), detour)

    def _credentials(self, now_ns: int) -> Sign:
        refusal = self._needs_person()
        return Sign(self._refused.seconds(now_ns, holds=bool(refusal)), refusal)

    def _custody(self, card: Stock | None, now_ns: int) -> float | None:
        custody = card.custody if card is not None else None
        if custody is None:
            return None
        began_anew = self._epoch.changed_lately(now_ns, custody)
        return 2 if custody.broken_link is not None else int(custody.set_aside or began_anew)


class _Held:
    """For how long something has been so."""

    def __init__(self) -> None:
        self._since_ns: int | None = None

    def seconds(self, now_ns: int, *, holds: bool | None, since_ns: int | None = None) -> float | None:
        """0 while it isn't so; None while nobody knows. `since_ns` is when it began, if that is known."""
        if holds is None:
            return None
        if not holds:
            self._since_ns = None
            return 0.0
        if self._since_ns is None:
            self._since_ns = now_ns if since_ns is None else since_ns
        return round((now_ns - self._since_ns) / NS_PER_S, 1)


class _Grown:
    """By how much counters grew in the last hour, since they were first seen."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._window = SlidingWindow()
        self._seen: dict[str, float] = {}

    def in_the_last_hour(self, now_ns: int, values: Mapping[str, Value]) -> dict[str, float]:
        """By name; without what nobody has ever told."""
        now_s = now_ns / NS_PER_S
        for name in self._names:
            value = _number(values, name)
            if value is not None:
                # A ledger that was lost starts its counters over.
                self._window.add(now_s, {name: max(0.0, value - self._seen.get(name, value))})
                self._seen[name] = value
        sums = self._window.sums(now_s)
        return {name: sums.get(name, 0) for name in self._seen}


class _Epoch:
    """Notices that another ledger took the place of the one before."""

    def __init__(self) -> None:
        self._known = ""
        self._changed_ns: int | None = None

    def changed_lately(self, now_ns: int, custody: Custody) -> bool:
        if self._known not in ("", custody.epoch):
            self._changed_ns = now_ns
        self._known = custody.epoch
        return self._changed_ns is not None and now_ns - self._changed_ns < _DAY_NS


def left_pct(card: Stock | None, keep_free_bytes: int) -> float | None:
    """How much is free of what is to stay free on a card, by bytes or files, whichever is scarcer."""
    shares = []
    if card is not None and card.storage.free_bytes is not None and keep_free_bytes:
        shares.append(100 * card.storage.free_bytes / keep_free_bytes)
    if card is not None and card.storage.free_inodes is not None:
        shares.append(100 * card.storage.free_inodes / _ENOUGH_FILES)
    return round(min(*shares, _MOST_PCT), 1) if shares else None


def _disk_errors(card: Stock | None, damaged: float | None) -> float | None:
    if card is None:
        return damaged
    return (card.storage.errors or 0) + bool(card.storage.read_only) + (damaged or 0)


def _microphone_missing(recorder: RecorderStatus | None, now_ns: int) -> Sign:
    if recorder is None:
        return Sign(None)
    if recorder.state != "waiting_for_microphone":
        return Sign(0.0)
    return Sign(round((now_ns - recorder.since_ns) / NS_PER_S, 1), recorder.trouble)


def _number(values: Mapping[str, Value], name: str) -> float | None:
    value = values.get(name)
    return value if isinstance(value, int | float) else None
