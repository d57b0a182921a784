"""What a recording is called in the store, and what is said about it there.

Pure functions: the kiosk makes keys with them, the fleet reads buckets by them (DESIGN §6).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

META_VERSION = "1"

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?Z")
_KEY = re.compile(
    r"[0-9]{8}T[0-9]{6}Z_(?P<run>[0-9a-f]{12})_(?P<seq>[0-9]{6,18})_(?P<sha256>[0-9a-f]{16})\.flac(?:\.age)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def device_prefix(prefix: str, site: str, device: str) -> str:
    """Everything of one kiosk lies below this, without a slash at either end."""
    return "/".join(part for part in (prefix.strip("/"), site, device) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recording as the store sees it."""

    run: str
    seq: int
    start_ns: int
    """Wall time of its first frame in nanoseconds since 1970, as far as `clock` is to be trusted."""
    frames: int
    rate: int
    channels: int
    boot: str
    clock: str
    truncated: bool
    sha256: str
    """Hex digest of the object as uploaded."""
    suffix: str
    """Of the file, with its dot: ".flac", ".flac.age"."""

    def key(self, prefix: str, site: str, device: str) -> str:
        """What it is called. Two different contents never share a key."""
        start = utc(self.start_ns)
        return (
            f"{device_prefix(prefix, site, device)}/{start:%Y/%m/%d}/"
            f"{start:%Y%m%dT%H%M%SZ}_{self.run}_{self.seq:06d}_{self.sha256[:16]}{self.suffix}"
        )

    def metadata(self) -> dict[str, str]:
        """What is said about it there, for whoever finds it without the ledger; all of it ASCII."""
        return {
            "kr-run": self.run,
            "kr-seq": str(self.seq),
            "kr-frames": str(self.frames),
            "kr-rate": str(self.rate),
            "kr-channels": str(self.channels),
            "kr-start": timestamp(self.start_ns),
            "kr-boot": self.boot,
            "kr-clock": self.clock,
            "kr-truncated": "true" if self.truncated else "false",
            "kr-meta-version": META_VERSION,
        }


def recording_of(key: str) -> tuple[str, int, str] | None:
    """Run, number and the first digits of the content's hash, as a recording's key tells them; None for another key."""
    match = _KEY.fullmatch(key.rpartition("/")[2])
    return None if match is None else (match["run"], int(match["seq"]), match["sha256"])


TIMESTAMP_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"
"""What `timestamp` writes, for schemas."""


def timestamp(wall_ns: int) -> str:
    """ISO 8601 in UTC with milliseconds: "2026-03-01T08:00:00.250Z"."""
    return utc(wall_ns).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> int:
    """Nanoseconds since 1970 of what `timestamp` writes, with more digits or fewer. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError("it isn't a time in UTC")
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1) * 1000


def utc(wall_ns: int) -> datetime:
    """Nanoseconds since 1970 as a time, exact to the microsecond, rounded down; also before 1970."""
    return _EPOCH + timedelta(microseconds=wall_ns // 1000)
