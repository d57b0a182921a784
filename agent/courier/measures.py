"""What telemetry says: everything the courier can find out about this kiosk, under the names of the metrics table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import agent
from agent.contract.custody import Head
from agent.contract.messages import Value
from agent.contract.metrics import LEDGER_COUNTERS
from agent.courier.activity import Activity, SlidingWindow
from agent.courier.openings import Openings
from agent.courier.stock import Stock
from agent.flags import InForce
from agent.settings import Settings
from agent.status import RecorderStatus, read_status
from agent.units import NS_PER_S, plain_number
from hw.board import Sensors
from hw.clock import Clock
from hw.memory import read_memory, resident_bytes

STALE_S = 10.0
"""A recorder that hasn't renewed its status picture for so long counts as absent."""

_RATED: Final = ("segments_total", "segment_errors_total")
"""Whose growth makes the error rate."""


class Measures:
    """Reads everything at once. Belongs to one thread."""

    def __init__(
        self,
        settings: Settings,
        activity: Activity,
        clock: Clock,
        runtime: Path,
        openings: Openings | None = None,
        flags: Callable[[], InForce | None] = lambda: None,
        root: Path = Path("/"),
        sign: Callable[[Head], Head] = lambda head: head,
    ) -> None:
        """`runtime` is the directory in which the recorder keeps its status picture, `root` that of the machine.

        `flags` tells which hold, None before that is known; `sign` puts the device's name to the journal's head.
        """
        self._sign = sign
        self._settings = settings
        self._activity = activity
        self._clock = clock
        self._runtime = runtime
        self._root = root
        self._sensors = Sensors(root)
        self._flags = flags
        self._openings = openings or Openings(settings)
        self._window = SlidingWindow()
        self._epoch = ""
        self._counted: Counter[str] = Counter()

    def read(self, card: Stock | None, direct: Stock | None) -> dict[str, Value]:
        """A value, or None where nothing can tell, for every metric.

        `card` and `direct` are the stocks of the two paths; None where there is none, or none could be taken.
        """
        recorder = self.recorder()
        return (
            self._from_ledgers(card, direct)
            | self._from_stocks([stock for stock in (card, direct) if stock is not None])
            | _of_card(card)
            | self._from_uploads()
            | _from_recorder(recorder)
            | self._from_machine(recorder)
            | _of_flags(self._flags())
            | {"spool_cap_bytes": self._cap(recorder), "version": agent.__version__}
        )

    def recorder(self) -> RecorderStatus | None:
        """The recorder's picture, if it is of this boot and fresh."""
        status = read_status(self._runtime)
        if status is None or status.boot != self._clock.boot:
            return None
        age_s = (self._clock.monotonic_ns() - status.updated_ns) / NS_PER_S
        return status if age_s < STALE_S else None

    def _cap(self, recorder: RecorderStatus | None) -> int:
        spool = self._settings.spool
        return int(spool.direct_cap if recorder is not None and recorder.path == "direct" else spool.cap)

    def _from_ledgers(self, card: Stock | None, direct: Stock | None) -> dict[str, Value]:
        """What was counted on both paths: null while nobody knows what the card's ledger has counted."""
        if card is None:
            names = (*LEDGER_COUNTERS, "recording_duration_avg_s", "custody_head")
            return {**dict.fromkeys(names), "error_rate_pct": self._error_rate()}
        self._count(card, direct)
        counted = self._counted
        seconds, runs = counted["captured_seconds_total"], counted["recordings_total"]
        return {
            **{name: plain_number(round(counted[name], 3)) for name in LEDGER_COUNTERS},
            "recording_duration_avg_s": round(seconds / runs, 3) if seconds and runs else None,
            "error_rate_pct": self._error_rate(),
            "custody_head": str(self._sign(card.head)),
        }

    def _count(self, card: Stock, direct: Stock | None) -> None:
        counted = Counter(card.counters)
        counted.update(direct.counters if direct is not None else {})
        if self._epoch != card.epoch:
            # Seen for the first time: when this was counted nobody can tell.
            self._epoch, self._counted = card.epoch, counted
            return
        # The two are read one after the other. What goes from memory to the card in between is missing in both, once.
        counted |= self._counted
        self._window.add(self._now_s(), {name: counted[name] - self._counted[name] for name in _RATED})
        self._counted = counted

    def _error_rate(self) -> Value:
        sums = self._window.sums(self._now_s())
        segments, errors = (sums.get(name, 0) for name in _RATED)
        return round(100 * errors / max(segments, errors), 2) if segments or errors else None

    def _from_stocks(self, stocks: list[Stock]) -> dict[str, Value]:
        """What lies in both spools, as far as they could be read."""
        if not stocks:
            return dict.fromkeys(
                (
                    "queue_length",
                    "oldest_pending_s",
                    "spool_bytes_pending",
                    "spool_bytes_due",
                    "spool_bytes_acknowledged",
                    "spool_bytes_quarantine",
                )
            )
        ages = [stock.oldest_pending_s for stock in stocks if stock.oldest_pending_s is not None]
        due = stocks if self._uploads_are_due(stocks[0]) else []
        return {
            "queue_length": sum(stock.pending.count for stock in due),
            "oldest_pending_s": max(ages, default=None),
            "spool_bytes_pending": sum(stock.pending.bytes for stock in stocks),
            "spool_bytes_due": sum(stock.pending.bytes for stock in due),
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
        board = self._sensors.read()
        return {
            "cpu_temp_c": None if board.temperature_c is None else round(board.temperature_c, 1),
            "undervoltage": None if board.undervoltage is None else int(board.undervoltage),
            "throttled": board.throttled,
            "memory_available_bytes": read_memory(self._root).available_bytes,
            "memory_rss_bytes": sum(each for each in resident if each),
            "clock_synchronised": int(self._clock.synchronised()),
            "uptime_s": round(self._clock.monotonic_ns() / NS_PER_S),
        }

    def _uploads_are_due(self, stock: Stock) -> bool:
        # By what a ledger knows of this boot: the machine's own clock may be wrong where the store's was right.
        now_ns = stock.offset_ns + self._clock.monotonic_ns()
        wanted = self._openings.hurry is not None or self._openings.regular(now_ns)
        return bool(self._settings.upload.target) and wanted

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / NS_PER_S


def _of_card(card: Stock | None) -> dict[str, Value]:
    """Null in all when the card can't be read, or doesn't answer."""
    storage = card.storage if card is not None else None
    return {
        "disk_free_bytes": storage.free_bytes if storage else None,
        "disk_written_bytes_total": storage.written_bytes if storage else None,
        "disk_errors_total": storage.errors if storage else None,
        "card_life_used_pct": storage.card.life_used_pct if storage and storage.card else None,
    }


def _of_flags(flags: InForce | None) -> dict[str, Value]:
    if flags is None:
        return {"flags": None, "flags_version": None}
    named = sorted(f"{name}={variant.name}" for name, variant in flags.variants.items())
    return {"flags": ",".join(named), "flags_version": flags.version}


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


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
