"""What a kiosk measures: the one table that telemetry, alerts, dashboards and documentation are made from (DESIGN §8).

Names end in their unit or, for counters, in `_total`. A value that nothing could tell is null, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "text"]
Source = Literal["ledger", "uploads", "recorder", "machine", "courier"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One name in the telemetry message."""

    name: str
    unit: str
    """UCUM-like: "s", "By", "%", "dBFS", "ms", "ppm", "By/s"; "1" counts things; "" for text."""
    kind: Kind
    """Counters only grow and survive restarts."""
    source: Source
    """Who knows it; `uploads` are those of the last hour, `recorder` is its status picture."""
    description: str


METRICS: Final = (
    Metric("captured_seconds_total", "s", "counter", "ledger", "audio that was sealed, by its frames"),
    Metric("gap_seconds_total", "s", "counter", "ledger", "time that was not recorded while the machine was on"),
    Metric("gap_count", "1", "counter", "ledger", "intervals that were not recorded"),
    Metric("overruns_total", "1", "counter", "ledger", "times the sound card overran its buffer"),
    Metric("recordings_total", "1", "counter", "ledger", "runs: stretches of audio without a gap"),
    Metric("recording_duration_avg_s", "s", "gauge", "ledger", "mean length of a run since the ledger began"),
    Metric("segments_total", "1", "counter", "ledger", "segments that were sealed"),
    Metric("segment_errors_total", "1", "counter", "ledger", "segments that were quarantined, lost or aborted"),
    Metric("upload_attempts_total", "1", "counter", "ledger", "finished attempts to upload a segment"),
    Metric("upload_failures_total", "1", "counter", "ledger", "attempts that failed"),
    Metric("uploaded_total", "1", "counter", "ledger", "segments that the store verifiably holds"),
    Metric("verified_seconds_total", "s", "counter", "ledger", "audio in those segments"),
    Metric("upload_success_rate_pct", "%", "gauge", "uploads", "verified of finished attempts, last hour"),
    Metric("error_rate_pct", "%", "gauge", "ledger", "segments with errors of all segments, last hour"),
    Metric("upload_speed_bytes_per_s", "By/s", "gauge", "uploads", "mean speed of one upload, last hour"),
    Metric("upload_retries_avg", "1", "gauge", "uploads", "attempts beyond the first per upload, last hour"),
    Metric("queue_length", "1", "gauge", "ledger", "segments due for upload; 0 outside of the upload hours"),
    Metric("active_uploads", "1", "gauge", "uploads", "uploads on the line right now"),
    Metric("oldest_pending_s", "s", "gauge", "ledger", "age of the oldest segment not uploaded yet"),
    Metric("spool_bytes", "By", "gauge", "recorder", "everything in the spool, as counted against its cap"),
    Metric("spool_bytes_open", "By", "gauge", "recorder", "what is being written"),
    Metric("spool_bytes_pending", "By", "gauge", "ledger", "what is not uploaded yet"),
    Metric("spool_bytes_acknowledged", "By", "gauge", "ledger", "what is uploaded and still here"),
    Metric("spool_bytes_quarantine", "By", "gauge", "machine", "what was damaged or nobody understood"),
    Metric("spool_cap_bytes", "By", "gauge", "courier", "the spool's hard limit"),
    Metric("disk_free_bytes", "By", "gauge", "machine", "free on the spool's file system, for ordinary users"),
    Metric("evicted_unsent_total", "1", "counter", "ledger", "segments that were given up before they were uploaded"),
    Metric("level_rms_dbfs", "dBFS", "gauge", "recorder", "loudness of the last second; digital silence is -120"),
    Metric("level_peak_dbfs", "dBFS", "gauge", "recorder", "peak of the last second"),
    Metric("clipped_pct", "%", "gauge", "recorder", "clipped samples of the last second"),
    Metric("recorder_state", "", "text", "recorder", "what the recorder does; `absent` without a sign of life in 10 s"),
    Metric("path", "", "text", "recorder", "where recordings go: `spool` on the card, `direct` in memory"),
    Metric("fsync_p99_ms", "ms", "gauge", "recorder", "how long the card takes to make data durable"),
    Metric("memory_rss_bytes", "By", "gauge", "machine", "resident memory of recorder and courier together"),
    Metric("disk_written_bytes_total", "By", "counter", "machine", "written to the spool's file system in its life"),
    Metric("clock_synchronised", "1", "gauge", "machine", "1 while a time source disciplines the clock, else 0"),
    Metric("clock_drift_ppm", "ppm", "gauge", "recorder", "the sound card's crystal against the clock"),
    Metric("uptime_s", "s", "gauge", "machine", "since the machine was started"),
    Metric("version", "", "text", "courier", "release of this software"),
    Metric("flags", "", "text", "courier", "the variant in force of each feature flag: `name=variant`, by comma"),
    Metric("flags_version", "1", "gauge", "courier", "version of the flag document that counts; null without one"),
)

NAMES: Final = tuple(metric.name for metric in METRICS)

LEDGER_COUNTERS: Final = tuple(
    metric.name for metric in METRICS if metric.source == "ledger" and metric.kind == "counter"
)
"""Those that the ledger keeps under the same name."""
