"""Whether what is heard becomes a recording that can be opened again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import soundfile

from agent.checkup import sealing
from agent.checkup.finding import Finding, of_error
from agent.checkup.visit import Sample, Visit
from agent.commands import kiosk
from agent.contract import age
from agent.errors import KioskError
from agent.ledger import Ledger, Segment
from agent.recorder.flac import FlacStream
from agent.recorder.levels import measure
from agent.units import Frames, human_bytes, human_seconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ENOUGH_S: Final = 600.0
"""Of so much in the spool the mean size says more than that of ten seconds."""


def encoded(samples: NDArray[np.int16], rate: int, origin: str, recipients: tuple[str, ...]) -> Sample:
    """As the recorder would write it: by its own encoder, sealed where that is configured, in memory."""
    pieces: list[bytes] = []
    stream = FlacStream(lambda piece, _frames: pieces.append(piece), rate, samples.shape[1], Frames(len(samples)))
    stream.write(samples.tobytes())
    stream.finish()
    flac = b"".join(pieces)
    closed = sealing.sealed(flac, recipients) if recipients else None
    return Sample(flac, len(samples) / rate, origin, fresh=True, sealed=closed)


def look(visit: Visit) -> Iterator[Finding]:
    """A recording, made now or taken from the spool, opened again; and whether it is sealed."""
    if visit.recorder_pid is not None:
        yield _of_spool(visit)
    elif visit.sample is None or visit.sample.flac is None:
        yield Finding("recording", "grey", "nothing was heard that could be recorded", "see the microphone's lines")
    else:
        yield _of_now(visit.sample, visit.sample.flac)
    yield from sealing.look(visit)
    _measure(visit)


def _of_now(sample: Sample, flac: bytes) -> Finding:
    samples, _ = soundfile.read(io.BytesIO(flac), dtype="int16", always_2d=True)
    facts = {"seconds": round(sample.seconds, 3), "bytes": len(sample.content)}
    if len(samples) == 0:
        return Finding("recording", "red", "what was encoded can't be decoded", "report this: it is a fault here")
    return Finding(
        "recording",
        "green",
        f"{sample.origin}, {human_bytes(len(flac))} of FLAC in memory, decoded again; nothing of it stays here",
        facts=facts,
    )


def _of_spool(visit: Visit) -> Finding:
    """The recorder's newest finished segment: read, hashed and decoded."""
    try:
        with kiosk.open_ledger(kiosk.Kiosk(visit.settings, visit.layout, visit.zone, visit.clock)) as ledger:
            newest = next(ledger.kept(limit=1, newest=True), None)
    except KioskError as error:
        return of_error("recording", error, "grey" if error.retryable else "red")
    if newest is None:
        return Finding(
            "recording",
            "grey",
            "the recorder runs but no recording is finished or here any more",
            f"check again in {visit.settings.spool.segment_seconds} s",
        )
    try:
        content = visit.layout.audio(newest.name).read_bytes()
    except OSError as error:
        # It may just have been uploaded and removed.
        return Finding(
            "recording", "grey", f"{newest.name} can't be read: {error.strerror}", "check again while it records"
        )
    encrypted = content.startswith(age.MAGIC)
    visit.sample = Sample(
        None if encrypted else content,
        newest.seconds,
        f"{newest.name}, the recorder's newest",
        fresh=False,
        sealed=content if encrypted else None,
    )
    return _judged(newest, content, visit)


def _judged(newest: Segment, content: bytes, visit: Visit) -> Finding:
    name, broken = newest.name, "`kiosk-recorder verify` tells more; the card may be dying"
    if hashlib.sha256(content).hexdigest() != newest.sha256:
        return Finding("recording", "red", f"{name} isn't what was recorded: its SHA-256 differs", broken)
    if newest.truncated:
        return Finding(
            "recording",
            "yellow",
            f"{name}, the newest, was cut short by a crash",
            f"check again in {visit.settings.spool.segment_seconds} s",
        )
    facts = {"seconds": newest.seconds, "bytes": newest.bytes}
    if content.startswith(age.MAGIC):
        text = f"{human_seconds(newest.seconds)} and {human_bytes(newest.bytes)}: read and hashed again"
        return Finding("recording", "green", f"{name}, the recorder's newest, {text}", facts=facts)
    try:
        samples, _ = soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        return Finding("recording", "red", f"{name} can't be decoded: {error}", broken)
    levels = measure(samples)
    return Finding(
        "recording",
        "green",
        f"{name}, the recorder's newest, {human_seconds(newest.seconds)} and {human_bytes(newest.bytes)}: "
        f"read, hashed and decoded again, {levels.rms_dbfs:.0f} dBFS",
        facts={**facts, "rms_dbfs": round(levels.rms_dbfs, 1)},
    )


def _measure(visit: Visit) -> None:
    """What an hour takes: by what is in the spool, or else by the sample."""
    try:
        with kiosk.open_ledger(kiosk.Kiosk(visit.settings, visit.layout, visit.zone, visit.clock)) as ledger:
            visit.bytes_per_hour = _mean(ledger)
    except KioskError:
        # There is none before the recorder's first start.
        visit.bytes_per_hour = None
    if visit.bytes_per_hour is None and visit.sample is not None and visit.sample.seconds:
        visit.bytes_per_hour = len(visit.sample.content) / visit.sample.seconds * 3600


def _mean(ledger: Ledger) -> float | None:
    tallies = ledger.tally().values()
    seconds = sum(tally.seconds for tally in tallies)
    return sum(tally.bytes for tally in tallies) / seconds * 3600 if seconds >= _ENOUGH_S else None
