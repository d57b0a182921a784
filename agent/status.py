"""What the two processes are doing right now, for everybody on this machine who wants to know.

The recorder replaces `recorder.json` in the runtime directory (RAM, never the card) about once a second; the courier
puts it into telemetry, `kiosk-recorder status` and `try` show it. The courier replaces `courier.json` when something
begins or ceases to be wrong. They're pictures of the moment: what must survive lives in the ledger.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from agent.contract.alerts import Raised
from agent.contract.messages import Severity
from agent.contract.metrics import RecorderState
from agent.flags import Source, Variant
from agent.spool import replace_file

_UPLOADING: Final = "uploading"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderStatus:
    """One picture of the recorder. Levels are of the last second heard; None when nothing was heard."""

    pid: int
    boot: str
    state: RecorderState
    since_ns: int
    """Monotonic time at which `state` began."""
    updated_ns: int
    """Monotonic time of this picture."""
    trouble: str = ""
    """Why the state isn't what it should be, with the way out; empty when all is well."""
    level_rms_dbfs: float | None = None
    level_peak_dbfs: float | None = None
    clipped_pct: float | None = None
    first_frame_ns: int | None = None
    """Monotonic time at which this process first heard the room."""
    path: Literal["spool", "direct"] = "spool"
    """Where recordings go: to the card, or to memory, by choice or because the card can't be used."""
    detour: str = ""
    """Why they don't go where they should, also part of `trouble` when nothing is worse; empty while they do."""
    pins: str = ""
    """What of the room's light and button can't be used, also part of `trouble` when nothing is worse."""
    run: str | None = None
    segment_seconds: float = 0.0
    """How much of the open segment is there."""
    ring_seconds: float = 0.0
    """Audio waiting between microphone and card."""
    spool_bytes: int = 0
    """Everything under `spool/`, as counted against the cap."""
    spool_bytes_open: int = 0
    fsync_p99_ms: float | None = None
    drift_ppm: float | None = None
    memory_rss_bytes: int | None = None
    """Of the recorder itself: the courier doesn't see other users' processes."""
    clock_synchronised: bool | None = None
    """What the kernel says, which the courier may not ask (docs/adr/0013)."""
    flags: Mapping[str, Variant] = field(default_factory=dict)
    """What is chosen, by flag."""
    quiet_until_ns: int | None = None
    """Monotonic time at which `paused` or `muted` ends by itself; None when it doesn't."""
    recipients: tuple[str, ...] = ()
    """Whose keys open what is recorded now, by their labels (agent.contract.age); none: it isn't encrypted."""
    rotated_ns: int | None = None
    """Wall time at which the command was issued that named them; None: the file did."""
    began_ns: int = 0
    """Monotonic time at which this process began."""


@dataclass(frozen=True, slots=True)
class FarEnd:
    """What is wrong with the store or the broker."""

    since_ns: int
    """Monotonic time at which it began."""
    trouble: str
    """With the way out, for a person."""


@dataclass(frozen=True, slots=True)
class CourierStatus:
    """What the courier `pid` finds wrong."""

    pid: int
    boot: str
    far_ends: Mapping[str, FarEnd]
    """At its far ends, by whose it is: "card" and "direct" for uploads, "broker"."""
    alerts: Mapping[str, Raised] = field(default_factory=dict)
    """By the names of the alert table."""


def runtime_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The RAM directory of this kiosk: systemd's choice, else /run for root, else the user's own."""
    chosen = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if chosen:
        return Path(chosen)
    if os.access("/run", os.W_OK) or Path("/run/kiosk-recorder").is_dir():
        return Path("/run/kiosk-recorder")
    return Path(environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"kiosk-recorder-{os.getuid()}"


def write_status(directory: Path, status: RecorderStatus) -> None:
    """Replace the picture in an existing directory atomically. Not durable, by intent. Raises OSError."""
    flags = {name: [variant.name, variant.source] for name, variant in status.flags.items()}
    picture = {name: getattr(status, name) for name in RecorderStatus.__slots__} | {"flags": flags}
    replace_file(f"{directory}/recorder.json", json.dumps(picture).encode(), durable=False)


def write_courier_status(directory: Path, status: CourierStatus) -> None:
    """As `write_status`, for the courier."""
    far_ends = {name: [end.since_ns, end.trouble] for name, end in status.far_ends.items()}
    alerts = {name: asdict(raised) for name, raised in status.alerts.items()}
    picture = {"pid": status.pid, "boot": status.boot, "far_ends": far_ends, "alerts": alerts}
    replace_file(f"{directory}/courier.json", json.dumps(picture).encode(), durable=False)


def read_courier_status(directory: Path) -> CourierStatus | None:
    """The last picture, or None when there is none or it can't be understood."""
    try:
        found = json.loads((directory / "courier.json").read_text())
        ends = {str(name): FarEnd(int(since_ns), str(text)) for name, (since_ns, text) in found["far_ends"].items()}
        alerts = {str(name): _raised(told) for name, told in found.get("alerts", {}).items()}
        return CourierStatus(int(found["pid"]), str(found["boot"]), ends, alerts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def mark_uploading(directory: Path) -> None:
    """Let the recorder's light show that something is being uploaded: for the moment, so say it again. Never raises."""
    with suppress(OSError):
        (directory / _UPLOADING).touch()


def uploading_mark(directory: Path) -> int:
    """A number that changes with each `mark_uploading`: one stat."""
    try:
        return os.stat(f"{directory}/{_UPLOADING}").st_mtime_ns  # noqa: PTH116 (once a second for ever)
    except OSError:
        return 0


def _raised(told: Mapping[str, Any]) -> Raised:
    """Raises ValueError, KeyError or TypeError for what was never written here."""
    severity, value, threshold = told["severity"], told["value"], told["threshold"]
    if severity not in get_args(Severity):
        raise ValueError(f"no severity: {severity!r}")
    for number in (value, threshold):
        if number is not None and type(number) not in (int, float):
            raise TypeError(f"no number: {number!r}")
    return Raised(severity, int(told["since_ns"]), str(told["text"]), value, threshold)


def read_status(directory: Path) -> RecorderStatus | None:
    """The last picture, or None when there is none or it can't be understood."""
    try:
        found = json.loads((directory / "recorder.json").read_text())
        flags = {str(name): Variant(str(variant), source) for name, (variant, source) in found.pop("flags").items()}
        # Another release may tell more, or less.
        known = [each for each in fields(RecorderStatus) if each.name in found]
        told = {each.name: found[each.name] for each in known}
        fits = all(_fits(told[each.name], str(each.type)) for each in known)
        told["recipients"] = tuple(told.get("recipients", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    fits = fits and all(variant.source in get_args(Source) for variant in flags.values())
    try:
        return RecorderStatus(**told, flags=flags) if fits else None
    except TypeError:
        return None


def _fits(value: object, annotation: str) -> bool:  # noqa: PLR0911 (a table)
    """Whether a value read from JSON is what a field is annotated with."""
    kind, _, absent = annotation.partition(" | ")
    if value is None:
        return absent == "None"
    match kind:
        case "int":
            return type(value) is int
        case "float":
            return type(value) in (int, float)
        case "bool":
            return type(value) is bool
        case "tuple[str, ...]":
            return isinstance(value, list) and all(isinstance(each, str) for each in value)
        case "RecorderState":
            return value in get_args(RecorderState)
        case _:
            return isinstance(value, str)
