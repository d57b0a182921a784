"""What telemetry says: everything the courier can find out about this kiosk, under the names of the metrics table."""

from __future__ import annotations

import os
from pathlib import Path
from zoneinfo import ZoneInfo

import agent
from agent.contract.keys import utc
from agent.contract.messages import Value
from agent.contract.metrics import LEDGER_COUNTERS
from agent.courier.activity import Activity, SlidingWindow
from agent.courier.machine import directory_bytes, free_bytes, lifetime_written_bytes, resident_bytes
from agent.hours import is_open
from agent.ledger import Ledger, Tally
from agent.settings import Settings
from agent.spool import Layout
from agent.status import RecorderStatus, read_status
from agent.units import NS_PER_S
from hw.clock import Clock

STALE_S = 10.0
"""A recorder that hasn't renewed its status picture for so long counts as absent."""


class Measures:
    """Reads everything at once. Belongs to one thread."""

    def __init__(self, settings: Settings, layout: Layout, activity: Activity, clock: Clock, runtime: Path) -> None:
        """`runtime` is the directory in which the recorder keeps its status picture."""
        self._settings = settings
        self._layout = layout
        self._activity = activity
        self._clock = clock
        self._runtime = runtime
        self._zone = ZoneInfo(settings.device.timezone)
        self._window = SlidingWindow()
        self._counted: dict[str, float] | None = None

    def read(self, ledger: Ledger) -> dict[str, Value]:
        """A value, or None where nothing can tell, for every metric."""
        recorder = self._recorder()
        return (
            self._from_ledger(ledger)
            | self._from_uploads()
            | _from_recorder(recorder)
            | self._from_machine(recorder)
            | {"spool_cap_bytes": int(self._settings.spool.cap), "path": "spool", "version": agent.__version__}
        )

    def _from_ledger(self, ledger: Ledger) -> dict[str, Value]:
        counters = ledger.counters()
        tally = ledger.tally()
        pending = tally.get("pending", Tally())
        recordings = counters.get("recordings_total", 0)
        values: dict[str, Value] = {name: _number(counters.get(name, 0)) for name in LEDGER_COUNTERS}
        return values | {
            "recording_duration_avg_s": (
                round(counters.get("captured_seconds_total", 0) / recordings, 3) if recordings else None
            ),
            "error_rate_pct": self._error_rate(counters),
            "queue_length": pending.count if self._uploads_are_due(ledger) else 0,
            "oldest_pending_s": self._oldest_pending(ledger),
            "spool_bytes_pending": pending.bytes,
            "spool_bytes_acknowledged": tally.get("acknowledged", Tally()).bytes,
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
            "spool_bytes_quarantine": directory_bytes(self._layout.quarantine),
            "disk_free_bytes": free_bytes(self._layout.spool),
            "memory_rss_bytes": sum(each for each in resident if each),
            "disk_written_bytes_total": lifetime_written_bytes(self._layout.spool),
            "clock_synchronised": int(self._clock.synchronised()),
            "uptime_s": round(self._clock.monotonic_ns() / NS_PER_S),
        }

    def _recorder(self) -> RecorderStatus | None:
        """The recorder's picture, if it is of this boot and fresh."""
        status = read_status(self._runtime)
        if status is None or status.boot != self._clock.boot:
            return None
        age_s = (self._clock.monotonic_ns() - status.updated_ns) / NS_PER_S
        return status if age_s < STALE_S else None

    def _uploads_are_due(self, ledger: Ledger) -> bool:
        return is_open(self._settings.upload.week, self._zone, utc(ledger.now_ns()))

    def _oldest_pending(self, ledger: Ledger) -> Value:
        oldest = next(ledger.kept("pending", limit=1), None)
        if oldest is None:
            return None
        if oldest.boot == self._clock.boot:
            age_ns = self._clock.monotonic_ns() - oldest.end_ns
        else:
            offsets = {boot.boot: boot.offset_ns for boot in ledger.boots()}
            age_ns = ledger.now_ns() - offsets[oldest.boot] - oldest.end_ns
        return round(max(0, age_ns) / NS_PER_S, 1)

    def _error_rate(self, counters: dict[str, float]) -> Value:
        names = ("segments_total", "segment_errors_total")
        now_s = self._clock.monotonic_ns() / NS_PER_S
        if self._counted is not None:
            previous = self._counted
            # A ledger that was lost starts its counters over.
            self._window.add(now_s, {name: max(0, counters.get(name, 0) - previous.get(name, 0)) for name in names})
        self._counted = dict(counters)
        sums = self._window.sums(now_s)
        segments, errors = (sums.get(name, 0) for name in names)
        return round(100 * errors / max(segments, errors), 2) if segments or errors else None


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
        ) | {"recorder_state": "absent"}
    return {
        "spool_bytes": status.spool_bytes,
        "spool_bytes_open": status.spool_bytes_open,
        "level_rms_dbfs": status.level_rms_dbfs,
        "level_peak_dbfs": status.level_peak_dbfs,
        "clipped_pct": status.clipped_pct,
        "fsync_p99_ms": status.fsync_p99_ms,
        "clock_drift_ppm": status.drift_ppm,
        "recorder_state": status.state,
    }


def _number(value: float) -> float | int:
    """Whole numbers without a fraction, so that counts read as counts."""
    return int(value) if value == int(value) else round(value, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
