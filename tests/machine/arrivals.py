"""What came from a kiosk into its bucket, plain or encrypted, heard with what any machine has: `age` and `flac`."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from tests.keys import KeyPair
from tests.machine.sound import RATE, Sound, sounds
from tests.servers import Bucket

_POLL_S: Final = 1.0
"""A guest has one of two processors to itself: it isn't taken away from it by asking."""

_PATIENCE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Segment:
    """One recording that arrived. `begin` is as in its key."""

    begin: str
    run: str
    seq: int
    encrypted: bool
    truncated: bool
    sound: Sound

    @property
    def name(self) -> str:
        """As in the spool."""
        return f"{self.run}-{self.seq:06}"


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A kiosk's bucket, and the key of who may hear what is encrypted in it. What was heard once is remembered."""

    bucket: Bucket
    key: KeyPair
    _heard: dict[str, Segment] = field(default_factory=dict)

    def segments(self) -> list[Segment]:
        """All of them, by time."""
        unheard = [key for key in self.bucket.keys() if ".flac" in key and key not in self._heard]  # noqa: SIM118 (no dict)
        self._heard.update({key: self._listen(key) for key in unheard})
        return [self._heard[key] for key in sorted(self._heard)]

    def names(self) -> set[str]:
        """As in the spool."""
        return {segment.name for segment in self.segments()}

    def runs(self, since: datetime | None = None) -> dict[str, Sound]:
        """Each run put together as far as no segment lacks: two are sent at a time.

        With `since`, runs that began before are left out.
        """
        parts: dict[str, list[Sound]] = {}
        earliest = "" if since is None else since.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        for segment in self.segments():
            if (segment.seq > 0 or segment.begin >= earliest) and segment.seq == len(parts.get(segment.run, ())):
                parts.setdefault(segment.run, []).append(segment.sound)
        return {run: np.concatenate(segments) for run, segments in parts.items()}

    def sounds(self, since: datetime | None = None) -> Iterator[Sound]:
        """What was heard in those runs."""
        for run in self.runs(since).values():
            yield from sounds(run)

    def eventually(self, condition: Callable[[], bool], what: str) -> None:
        """Until it holds, for as long as an emulated kiosk may take."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {_PATIENCE_S:g} s: {what}"
            time.sleep(_POLL_S)

    def _listen(self, key: str) -> Segment:
        content, about = self.bucket.get(key)
        begin, run, seq, _ = key.rpartition("/")[2].split("_")
        encrypted, truncated = key.endswith(".age"), about["kr-truncated"] == "true"
        if encrypted:
            content = decrypted(content, self.key.secret, truncated=truncated)
        sound = salvaged(content) if encrypted else _read(content)
        assert len(sound) == int(about["kr-frames"]), key
        return Segment(begin, run, int(seq), encrypted, truncated, sound)


def decrypted(content: bytes, secret: Path, *, truncated: bool) -> bytes:
    """By the ordinary `age`. Of what a power cut ended it gives every whole chunk, and says that the end is missing."""
    done = subprocess.run(["age", "-d", "-i", secret], input=content, capture_output=True, check=False)
    assert truncated or done.returncode == 0, done.stderr.decode()
    return done.stdout


def salvaged(content: bytes) -> Sound:
    """By the ordinary `flac`, which hears what is there though the header promises more."""
    command = ["flac", "--decode", "--silent", "--stdout", "--decode-through-errors"]
    raw = ["--force-raw-format", "--endian=little", "--sign=signed", "-"]
    done = subprocess.run([*command, *raw], input=content, capture_output=True, check=False)
    return np.frombuffer(done.stdout, "<i2")


def _read(content: bytes) -> Sound:
    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    assert rate == RATE
    return np.asarray(samples)
