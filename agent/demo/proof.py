"""What came back from the bucket, and whether it is what was heard.

Three things are compared that came about independently: the object as anybody can download it, the recorder's ledger
(length, SHA-256), and the sound itself: what the simulated room played, or else the file that the recorder wrote. What
is encrypted is opened first, and nothing else counts where it should be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from agent.contract import age
from agent.errors import KioskError
from agent.mending import readable_in_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.demo.bucket import Bucket
    from agent.ledger import Segment
    from agent.spool import Layout

_NEEDLE_FRAMES = 1600
"""How much sound is looked for before all of it is compared; its noise makes it unmistakable."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One segment on its way back."""

    key: str
    bytes: int
    seconds: float
    file: Path | None
    """Where it was put; None when it couldn't be had."""
    fault: str = ""
    """What is wrong with it; "" when it is exactly what was heard."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Every segment that was sealed, in order."""

    arrivals: tuple[Arrival, ...]

    @property
    def good(self) -> tuple[Arrival, ...]:
        """Those that came back as they were heard."""
        return tuple(arrival for arrival in self.arrivals if not arrival.fault)

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that is wrong, in one line each."""
        found = [f"{arrival.key}: {arrival.fault}" for arrival in self.arrivals if arrival.fault]
        return tuple(found if self.arrivals else ["nothing was recorded"])


def prove(
    segments: Sequence[Segment],
    bucket: Bucket,
    layout: Layout,
    played: NDArray[np.int16] | None,
    into: Path,
    identities: Sequence[age.Identity] = (),
) -> Proof:
    """Download every segment to `into` and compare it; with `identities` it's opened on the way.

    `played`, shape (frames, channels), is what the room played over and over, if that is known. Raises KioskError when
    the bucket can't be listed.
    """
    stored = {found.key for found in bucket.objects()}
    arrivals: list[Arrival] = []
    places = None if played is None else _Places(played)
    for segment in segments:
        key = segment.key or str(segment.name)
        content = b""
        file = None
        try:
            if key not in stored:
                state = "uploaded" if segment.state == "acknowledged" else "never uploaded"
                raise _Fault(f"isn't in the bucket ({state})")
            content = bucket.read(key)
            file = into / PurePosixPath(key).name.removesuffix(".age")
            file.write_bytes(_opened(content, key, identities))
            _compare(segment, content, file, layout, places)
        except (_Fault, KioskError, OSError) as error:
            arrivals.append(Arrival(key, len(content), segment.seconds, file, str(error)))
        else:
            arrivals.append(Arrival(key, len(content), segment.seconds, file))
    return Proof(tuple(arrivals))


class _Fault(Exception):
    """What is wrong with one arrival."""


def _opened(content: bytes, place: str, identities: Sequence[age.Identity]) -> bytes:
    """What can be listened to. Raises KioskError, and _Fault for what should be encrypted and isn't."""
    if not identities:
        return content
    if not content.startswith(age.MAGIC):
        raise _Fault("isn't encrypted")
    return readable_in_memory(content, place, identities).stream.read()


def _compare(segment: Segment, content: bytes, file: Path, layout: Layout, places: _Places | None) -> None:
    if hashlib.sha256(content).hexdigest() != segment.sha256:
        raise _Fault("was altered: its SHA-256 isn't the one that was sealed")
    samples = decode(file)
    if samples.shape != (segment.frames, segment.channels):
        raise _Fault(f"decodes to {len(samples)} frames where {segment.frames} were recorded")
    if places is not None:
        places.compare(segment, samples)
        return
    local = layout.audio(segment.name)
    if local.suffix == file.suffix and local.exists() and not np.array_equal(decode(local), samples):
        raise _Fault("decodes to something else than the recorder's own file")


def decode(file: Path) -> NDArray[np.int16]:
    """The samples of a FLAC file, shape (frames, channels). Raises OSError when it isn't a whole one."""
    try:
        samples: NDArray[np.int16] = soundfile.read(file, dtype="int16", always_2d=True)[0]
    except soundfile.LibsndfileError as error:
        raise OSError(f"can't be decoded: {error}") from error
    return samples


class _Places:
    """Where in the room's sound each segment lies, so that two that follow each other must join there, too."""

    def __init__(self, played: NDArray[np.int16]) -> None:
        self._played = played
        self._ends: dict[tuple[str, int], int] = {}

    def compare(self, segment: Segment, samples: NDArray[np.int16]) -> None:
        """Raises _Fault unless the room played `samples`, and right after the segment before."""
        before = self._ends.get((segment.run, segment.seq - 1))
        place = where(samples, self._played) if before is None else before
        if place is None or not equal(samples, self._played, place):
            raise _Fault("isn't what the room played")
        self._ends[segment.run, segment.seq] = (place + len(samples)) % len(self._played)


def where(samples: NDArray[np.int16], played: NDArray[np.int16]) -> int | None:
    """The frame of `played`, repeated without end, at which `samples` begin; None if they don't occur."""
    frame_bytes: int = played.itemsize * played.shape[1]
    needle = samples[:_NEEDLE_FRAMES].tobytes()
    hay = np.concatenate([played, np.resize(played, (len(needle) // frame_bytes, played.shape[1]))]).tobytes()
    at = hay.find(needle)
    while at >= 0:
        place = at // frame_bytes
        if at % frame_bytes == 0 and equal(samples, played, place):
            return place
        at = hay.find(needle, at + 1)
    return None


def equal(samples: NDArray[np.int16], played: NDArray[np.int16], place: int) -> bool:
    """Whether `samples` are what was played from frame `place` on, `played` being repeated without end."""
    return bool(np.array_equal(samples, np.take(played, np.arange(place, place + len(samples)), axis=0, mode="wrap")))
