"""What a kiosk measures: the one table that telemetry, alerts, dashboards and documentation are made from (DESIGN §8).

Names end in their unit or, for counters, in `_total`. A value that nothing could tell is null, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal["counter", "gauge", "text"]
Source = Literal["ledger", "uploads", "recorder", "machine", "courier"]

SOURCES: Final[dict[Source, str]] = {
    "ledger": "`state/ledger.db`: the card's and, while there is one, that of the recordings in memory, added up",
    "uploads": "the courier's own account of what went over its lines, in memory: a restart of the courier begins anew",
    "recorder": "the recorder's picture of itself, `recorder.json` in the runtime directory, renewed every second",
    "machine": "the kernel and the file system",
    "courier": "the courier itself",
}
"""What each of them is."""


RecorderState = Literal[
    "starting",
    "recording",
    "listening",
    "idle",
    "paused",
    "muted",
    "waiting_for_microphone",
    "spool_full",
    "disk_error",
    "stopped",
]
"""What a recorder does. `listening`: voice mode with nobody speaking. `idle`: outside the schedule's hours. `paused`,
`muted`: somebody wanted quiet."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One name in the telemetry message."""

    name: str
    unit: str
    """UCUM-like: "s", "By", "%", "dBFS", "ms", "ppm", "By/s", "Cel"; "1" counts things; "" for text."""
    kind: Kind
    """Counters only grow and survive restarts."""
    source: Source
    """Who knows it."""
    description: str
    """In one line."""
    label: str
    """What a person calls it, on a dashboard."""
    definition: str = ""
    """What whoever writes a rule for it must know besides: how it is counted, when, and from what."""
    null: str = ""
    """When nobody can tell; "" is never."""
    most: float | None = None
    """Nothing is beyond."""
    choices: tuple[str, ...] = ()
    """The texts it may be, if they are few."""

    @property
    def whole(self) -> bool:
        """Whether it counts things or bytes, and so has no fraction."""
        return self.unit in ("1", "By") and not self.name.endswith("_avg")


RECORDER_STATES: Final = (*get_args(RecorderState), "absent")
"""What telemetry tells of it: the courier sees also that there is none."""

_NO_LEDGER: Final = "the card's ledger could not be read since the courier started"
_NO_SPOOL: Final = "neither path's ledger could be read since the courier started"
_NO_CARD: Final = "the card could not be read since the courier started"
_NO_RECORDER: Final = "the recorder gave no sign of life for 10 s"
_NO_SOUND: Final = f"the microphone isn't heard (`recorder_state` says why), or {_NO_RECORDER}"
_NOT_TOLD: Final = "the machine doesn't tell (HARDWARE.md)"

METRICS: Final = (
    Metric(
        "captured_seconds_total",
        "s",
        "counter",
        "ledger",
        "audio that was sealed, by its frames",
        "Time recorded",
        "Frames ÷ rate of every segment, added in the transaction that seals or recovers it; what is still being "
        "written is not in it, so it grows by a segment at a time.",
        _NO_LEDGER,
    ),
    Metric(
        "gap_seconds_total",
        "s",
        "counter",
        "ledger",
        "time that was not recorded while the machine was on",
        "Time not recorded",
        "All reasons together, also those that were wished for (`schedule`, `voice`); `power_off` is not in it. "
        "Entered when the gap ends or its reason changes, and every ten minutes meanwhile.",
        _NO_LEDGER,
    ),
    Metric(
        "gap_count",
        "1",
        "counter",
        "ledger",
        "intervals that were not recorded",
        "Interruptions",
        "Counted when recording goes on: one for each interruption, however often its reason changed, `power_off` "
        "included.",
        _NO_LEDGER,
    ),
    Metric(
        "overruns_total",
        "1",
        "counter",
        "ledger",
        "times the sound card overran its buffer",
        "Overruns",
        "ALSA's XRUN: this machine did not read in time. What did not fit into the recorder's own ring is the gap "
        "`overflow`, and not counted here.",
        _NO_LEDGER,
    ),
    Metric(
        "recordings_total",
        "1",
        "counter",
        "ledger",
        "runs: stretches of audio without a gap",
        "Recordings",
        "Counted when a run begins.",
        _NO_LEDGER,
    ),
    Metric(
        "recording_duration_avg_s",
        "s",
        "gauge",
        "ledger",
        "mean length of a run since the ledger began",
        "Mean length of a recording",
        "`captured_seconds_total` ÷ `recordings_total`.",
        f"nothing was sealed yet, or {_NO_LEDGER}",
    ),
    Metric(
        "segments_total",
        "1",
        "counter",
        "ledger",
        "segments that were sealed",
        "Segments",
        "Also those that recovery sealed after a power cut, and those it found again when the ledger was lost.",
        _NO_LEDGER,
    ),
    Metric(
        "segment_errors_total",
        "1",
        "counter",
        "ledger",
        "segments that were quarantined, lost or aborted",
        "Damaged recordings",
        "Found unlike what was sealed, gone without an entry that let them go, or not to be understood after a "
        "crash. One that recovery cut back to its last whole record is no error.",
        _NO_LEDGER,
    ),
    Metric(
        "upload_attempts_total",
        "1",
        "counter",
        "ledger",
        "finished attempts to upload a segment",
        "Upload attempts",
        "Successful or failed. One that the end of the process, or of the file, broke off is not counted. Entered "
        "with the acknowledgements, or after 30 s: so much may a kill -9 of the courier leave uncounted.",
        _NO_LEDGER,
    ),
    Metric(
        "upload_failures_total",
        "1",
        "counter",
        "ledger",
        "attempts that failed",
        "Upload failures",
        "Whatever the reason: no answer, refused, digest refused. Entered as `upload_attempts_total`.",
        _NO_LEDGER,
    ),
    Metric(
        "uploaded_total",
        "1",
        "counter",
        "ledger",
        "segments that the store verifiably holds",
        "Recordings uploaded",
        "Counted in the transaction that enters the acknowledgement. One that was there already counts, too.",
        _NO_LEDGER,
    ),
    Metric(
        "verified_seconds_total",
        "s",
        "counter",
        "ledger",
        "audio in those segments",
        "Time uploaded",
        "Frames ÷ rate of what `uploaded_total` counts.",
        _NO_LEDGER,
    ),
    Metric(
        "upload_success_rate_pct",
        "%",
        "gauge",
        "uploads",
        "verified of finished attempts, last hour",
        "Upload success rate",
        "100 × verified ÷ finished attempts, both of the last hour. Attempts as in `upload_attempts_total`.",
        "no attempt finished in the last hour",
        most=100,
    ),
    Metric(
        "error_rate_pct",
        "%",
        "gauge",
        "ledger",
        "segments with errors of all segments, last hour",
        "Error rate",
        "100 × `segment_errors_total` ÷ `segments_total`, by how much both grew in the last hour; 100 where more "
        "went wrong than was sealed. What was counted before the courier started is not of this hour.",
        "nothing was sealed and nothing went wrong in the last hour",
        most=100,
    ),
    Metric(
        "upload_speed_bytes_per_s",
        "By/s",
        "gauge",
        "uploads",
        "mean speed of one upload, last hour",
        "Upload speed",
        "Bytes ÷ seconds over the successful attempts of the last hour that brought a body there; several at the "
        "same time are several, not one fast one.",
        "nothing was stored in the last hour",
    ),
    Metric(
        "upload_retries_avg",
        "1",
        "gauge",
        "uploads",
        "failed attempts per verified upload, last hour",
        "Retries per upload",
        "`upload_failures_total` ÷ `uploaded_total`, by how much both grew in the last hour.",
        "nothing was verified in the last hour",
    ),
    Metric(
        "queue_length",
        "1",
        "gauge",
        "ledger",
        "segments due for upload; 0 outside of the upload hours",
        "Recordings waiting",
        "Sealed, here and not acknowledged; those on the line right now are among them. 0 without `upload.target`.",
        _NO_SPOOL,
    ),
    Metric(
        "active_uploads",
        "1",
        "gauge",
        "uploads",
        "uploads on the line right now",
        "Uploads running",
        "At most `upload.parallel` from the card and as many from memory.",
    ),
    Metric(
        "oldest_pending_s",
        "s",
        "gauge",
        "ledger",
        "age of the oldest segment not uploaded yet",
        "Oldest recording waiting",
        "Since its last frame, also outside of the upload hours: it is due only while `queue_length` is above 0.",
        f"everything is uploaded, or {_NO_SPOOL}",
    ),
    Metric(
        "spool_bytes",
        "By",
        "gauge",
        "recorder",
        "everything in the spool, as counted against its cap",
        "Spool used",
        "Of the path that is recorded to: on the card, or in memory.",
        _NO_RECORDER,
    ),
    Metric(
        "spool_bytes_open",
        "By",
        "gauge",
        "recorder",
        "what is being written",
        "Spool: being written",
        "The open segment with its sidecar.",
        _NO_RECORDER,
    ),
    Metric(
        "spool_bytes_pending",
        "By",
        "gauge",
        "ledger",
        "what is not uploaded yet",
        "Spool: waiting",
        "Audio and sidecars, of both paths, also outside of the upload hours.",
        _NO_SPOOL,
    ),
    Metric(
        "spool_bytes_due",
        "By",
        "gauge",
        "ledger",
        "what is due for upload; 0 outside of the upload hours",
        "Spool: due",
        "The bytes of what `queue_length` counts; 0 without `upload.target`.",
        _NO_SPOOL,
    ),
    Metric(
        "spool_bytes_acknowledged",
        "By",
        "gauge",
        "ledger",
        "what is uploaded and still here",
        "Spool: uploaded",
        "Audio and sidecars, of both paths; `spool.keep_uploaded` says how long.",
        _NO_SPOOL,
    ),
    Metric(
        "spool_bytes_quarantine",
        "By",
        "gauge",
        "machine",
        "what was damaged or nobody understood",
        "Spool: quarantine",
        "The files in `spool/quarantine/`, of both paths.",
        _NO_SPOOL,
    ),
    Metric(
        "spool_cap_bytes",
        "By",
        "gauge",
        "courier",
        "the spool's hard limit",
        "Spool limit",
        "`spool.cap`, or `spool.direct_cap` while `path` is `direct`: what `spool_bytes` is counted against.",
    ),
    Metric(
        "disk_free_bytes",
        "By",
        "gauge",
        "machine",
        "free on the spool's file system, for ordinary users",
        "Free on the card",
        "statvfs(3), `f_bavail`.",
        _NO_CARD,
    ),
    Metric(
        "evicted_unsent_total",
        "1",
        "counter",
        "ledger",
        "segments that were given up before they were uploaded",
        "Recordings given up",
        "Because of the cap, of `keep_free` or of `max_age`; also what left a full quarantine.",
        _NO_LEDGER,
    ),
    Metric(
        "level_rms_dbfs",
        "dBFS",
        "gauge",
        "recorder",
        "loudness of the last second; digital silence is -120",
        "Level",
        "Over all channels; 0 is a square wave at full scale.",
        _NO_SOUND,
    ),
    Metric(
        "level_peak_dbfs",
        "dBFS",
        "gauge",
        "recorder",
        "peak of the last second",
        "Peak level",
        "The largest sample of any channel.",
        _NO_SOUND,
    ),
    Metric(
        "clipped_pct",
        "%",
        "gauge",
        "recorder",
        "clipped samples of the last second",
        "Clipping",
        "Samples of all channels at either end of the 16 bits.",
        _NO_SOUND,
        most=100,
    ),
    Metric(
        "recorder_state",
        "",
        "text",
        "recorder",
        "what the recorder does; `absent` without a sign of life in 10 s",
        "Recorder",
        "`listening`: voice mode, nobody speaks. `idle`: outside of the schedule's hours. `paused` and `muted`: by "
        "command.",
        choices=RECORDER_STATES,
    ),
    Metric(
        "path",
        "",
        "text",
        "recorder",
        "where recordings go: `spool` on the card, `direct` in memory",
        "Recording to",
        "`unknown` while the recorder is `absent`.",
        choices=("spool", "direct", "unknown"),
    ),
    Metric(
        "fsync_p99_ms",
        "ms",
        "gauge",
        "recorder",
        "how long the card takes to make data durable",
        "Card latency (p99)",
        "99th percentile of the last 200 syncs of audio and sidecar, which are every `spool.sync_seconds`.",
        f"nothing was synced yet, or {_NO_RECORDER}",
    ),
    Metric(
        "cpu_temp_c",
        "Cel",
        "gauge",
        "machine",
        "temperature of the Pi's processor",
        "CPU temperature",
        "The thermal zone `cpu-thermal`.",
        _NOT_TOLD,
    ),
    Metric(
        "undervoltage",
        "1",
        "gauge",
        "machine",
        "1 if the Pi's supply is too low or was in the last 30 s, else 0",
        "Undervoltage",
        "The alarm of the kernel's `rpi_volt`.",
        _NOT_TOLD,
        most=1,
    ),
    Metric(
        "throttled",
        "1",
        "gauge",
        "machine",
        "the Pi's firmware's bits, as `vcgencmd get_throttled` gives them",
        "Throttling bits",
        "Bit 0 undervoltage, 1 frequency capped, 2 throttled, 3 soft temperature limit, each now; 16 to 19 the same "
        "since the start.",
        f"{_NOT_TOLD}, or the courier may not ask the firmware",
    ),
    Metric(
        "memory_available_bytes",
        "By",
        "gauge",
        "machine",
        "memory to be had without swapping",
        "Memory available",
        "`MemAvailable` of /proc/meminfo.",
        _NOT_TOLD,
    ),
    Metric(
        "memory_rss_bytes",
        "By",
        "gauge",
        "machine",
        "resident memory of recorder and courier together",
        "Memory used",
        "/proc/PID/statm; the courier's alone while the recorder is `absent`.",
    ),
    Metric(
        "disk_written_bytes_total",
        "By",
        "counter",
        "machine",
        "written to the spool's file system in its life",
        "Written to the card",
        "By everybody; ext4's `lifetime_write_kbytes`.",
        f"{_NOT_TOLD}, or {_NO_CARD}",
    ),
    Metric(
        "disk_errors_total",
        "1",
        "counter",
        "machine",
        "errors that ext4 has met since it was last repaired",
        "Card errors",
        "ext4's `errors_count`; a repair by e2fsck sets it back.",
        f"{_NOT_TOLD}, or {_NO_CARD}",
    ),
    Metric(
        "card_life_used_pct",
        "%",
        "gauge",
        "machine",
        "used of an eMMC's life, at most; SD cards don't tell",
        "Card life used",
        "In steps of ten, as it was when the machine started; 110 is beyond its estimated life.",
        f"{_NOT_TOLD}, or {_NO_CARD}",
        most=110,
    ),
    Metric(
        "clock_synchronised",
        "1",
        "gauge",
        "machine",
        "1 while a time source disciplines the clock, else 0",
        "Clock synchronised",
        "adjtimex(2).",
        most=1,
    ),
    Metric(
        "clock_drift_ppm",
        "ppm",
        "gauge",
        "recorder",
        "the sound card's crystal against the clock",
        "Sound card drift",
        "Above 0: it runs fast. Over the unbroken stream since the last break.",
        f"in the first minute of a stream, or {_NO_RECORDER}",
    ),
    Metric(
        "uptime_s",
        "s",
        "gauge",
        "machine",
        "since the machine was started",
        "Uptime",
        "The monotonic clock.",
    ),
    Metric(
        "custody_head",
        "",
        "text",
        "ledger",
        "the newest entry of the card's journal: epoch, number, hash",
        "Custody head",
        "`{epoch}-{seq}-{first 16 hex digits of its hash}`, or signed: "
        "`{epoch}-{seq}-{hash}-{manifested}-{signature}`, where the store has manifests up to entry `manifested` "
        "(docs/CUSTODY.md). Each entry's hash covers the one before, so whoever keeps these can tell later whether the "
        "journal is still the one that spoke. The epoch changes only when a ledger was lost.",
        _NO_LEDGER,
    ),
    Metric(
        "flags",
        "",
        "text",
        "courier",
        "the variant in force of each feature flag: `name=variant`, by comma",
        "Feature flags",
        "Sorted by name, every flag this release knows; what the environment of the kiosk chooses is in it.",
        "the courier doesn't know yet which hold",
    ),
    Metric(
        "flags_version",
        "1",
        "gauge",
        "courier",
        "version of the flag document that counts",
        "Flag document",
        "`metadata.version` of the newest document that was found good, kept over restarts.",
        "there is none",
    ),
    Metric(
        "version",
        "",
        "text",
        "courier",
        "release of this software",
        "Version",
        "As in `birth`.",
    ),
)

NAMES: Final = tuple(metric.name for metric in METRICS)

LEDGER_COUNTERS: Final = tuple(
    metric.name for metric in METRICS if metric.source == "ledger" and metric.kind == "counter"
)
"""Those that the ledger keeps under the same name."""
