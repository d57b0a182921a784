"""What telemetry says: everything the courier can find out about this kiosk, under the names of the metrics table."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import agent
from agent.contract.messages import Value
from agent.contract.metrics import LEDGER_COUNTERS
from agent.courier.activity import Activity, SlidingWindow
from agent.courier.machine import resident_bytes
from agent.courier.openings import Openings
from agent.courier.stock import Stock
from agent.settings import Settings
from agent.status import RecorderStatus, read_status
from agent.units import NS_PER_S
from hw.clock import Clock

STALE_S = 10.0
"""A recorder that hasn't renewed its status picture for so long counts as absent."""


class Measures:
    """Reads everything at once. Belongs to one thread."""

    def __init__(
        self, settings: Settings, activity: Activity, clock: Clock, runtime: Path, openings: Openings | None = None
    ) -> None:
        """`runtime` is the directory in which the recorder keeps its status picture."""
        self._settings = settings
        self._activity = activity
        self._clock = clock
        self._runtime = runtime
        self._openings = openings or Openings(settings)
        self._window = SlidingWindow()
        self._counted: Counter[str] | None = None

    def read(self, card: Stock | None, direct: Stock | None) -> dict[str, Value]:
        """A value, or None where nothing can tell, for every metric.

        `card` and `direct` are the stocks of the two paths; None where there is none, or none could be taken.
        """
        recorder = self.recorder()
        stocks = [stock for stock in (card, direct) if stock is not None]
        return (
            self._from_stocks(stocks)
            | _of_card(card)
            | self._from_uploads()
            | _from_recorder(recorder)
            | self._from_machine(recorder)
            | {"spool_cap_bytes": int(self._settings.spool.cap), "version": agent.__version__}
        )

    def recorder(self) -> RecorderStatus | None:
        """The recorder's picture, if it is of this boot and fresh."""
        status = read_status(self._runtime)
        if status is None or status.boot != self._clock.boot:
            return None
        age_s = (self._clock.monotonic_ns() - status.updated_ns) / NS_PER_S
        return status if age_s < STALE_S else None

    def _from_stocks(self, stocks: list[Stock]) -> dict[str, Value]:
        counters: Counter[str] = Counter()
        for stock in stocks:
            counters.update(stock.counters)
        recordings = counters["recordings_total"]
        ages = [stock.oldest_pending_s for stock in stocks if stock.oldest_pending_s is not None]
        due = self._uploads_are_due(stocks)
        values: dict[str, Value] = {name: _number(counters[name]) if stocks else None for name in LEDGER_COUNTERS}
        return values | {
            "recording_duration_avg_s": round(counters["captured_seconds_total"] / recordings, 3)
            if recordings
            else None,
            "error_rate_pct": self._error_rate(counters),
            "queue_length": sum(stock.pending.count for stock in stocks) if due else 0,
            "oldest_pending_s": max(ages, default=None),
            "spool_bytes_pending": sum(stock.pending.bytes for stock in stocks),
            "spool_bytes_acknowledged": sum(stock.acknowledged.bytes for stock in stocks),
            "spool_bytes_quarantine": sum(stock.quarantine_bytes for stock in stocks),
        }

    def _from_uploads(self) -> dict[str, Value]:
        rates = self._activity.rates()
        return {
            "upload_success_rate_pct": _rounded(rates.success_pct),
            "upload_speed_bytes_per_s": _rounded(rates.speed_bytes_per_s),
            "upload_retries_avg": _rounded(rates.retries_avg),
            "active_uploads": self._activity.active,
        }

    def _from_machine(self, recorder: RecorderStatus | None) -> dict[str, Value]:
        resident = [resident_bytes(pid) for pid in (os.getpid(), recorder.pid if recorder else None) if pid]
        return {
            "memory_rss_bytes": sum(each for each in resident if each),
            "clock_synchronised": int(self._clock.synchronised()),
            "uptime_s": round(self._clock.monotonic_ns() / NS_PER_S),
        }

    def _uploads_are_due(self, stocks: list[Stock]) -> bool:
        now_ns = self._clock.wall_ns()
        if stocks:
            # By what a ledger knows of this boot: the machine's own clock may be wrong where the store's was right.
            now_ns = stocks[0].offset_ns + self._clock.monotonic_ns()
        return self._openings.hurry is not None or self._openings.regular(now_ns)

    def _error_rate(self, counters: Counter[str]) -> Value:
        names = ("segments_total", "segment_errors_total")
        now_s = self._clock.monotonic_ns() / NS_PER_S
        if self._counted is not None:
            previous = self._counted
            # A ledger that was lost starts its counters over.
            self._window.add(now_s, {name: max(0, counters[name] - previous[name]) for name in names})
        self._counted = counters
        sums = self._window.sums(now_s)
        segments, errors = (sums.get(name, 0) for name in names)
        return round(100 * errors / max(segments, errors), 2) if segments or errors else None


def _of_card(card: Stock | None) -> dict[str, Value]:
    if card is None:
        return {"disk_free_bytes": None, "disk_written_bytes_total": None}
    return {"disk_free_bytes": card.free_bytes, "disk_written_bytes_total": card.written_bytes}


def _from_recorder(status: RecorderStatus | None) -> dict[str, Value]:
    if status is None:
        return dict.fromkeys(
            (
                "spool_bytes",
                "spool_bytes_open",
                "level_rms_dbfs",
                "level_peak_dbfs",
                "clipped_pct",
                "fsync_p99_ms",
                "clock_drift_ppm",
            )
        ) | {"recorder_state": "absent", "path": "unknown"}
    return {
        "spool_bytes": status.spool_bytes,
        "spool_bytes_open": status.spool_bytes_open,
        "level_rms_dbfs": status.level_rms_dbfs,
        "level_peak_dbfs": status.level_peak_dbfs,
        "clipped_pct": status.clipped_pct,
        "fsync_p99_ms": status.fsync_p99_ms,
        "clock_drift_ppm": status.drift_ppm,
        "recorder_state": status.state,
        "path": status.path,
    }


def _number(value: float) -> float | int:
    """Whole numbers without a fraction, so that counts read as counts."""
    return int(value) if value == int(value) else round(value, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
