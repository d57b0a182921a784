"""Whether what is heard becomes a recording that can be opened again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np
import soundfile

from agent.checkup import sealing
from agent.checkup.finding import Finding, of_error
from agent.checkup.visit import Sample, Visit
from agent.commands import kiosk
from agent.contract import age
from agent.errors import KioskError, without_hint
from agent.ledger import Ledger, Segment
from agent.recorder.flac import FlacStream
from agent.recorder.levels import measure
from agent.status import RecorderStatus
from agent.units import NS_PER_S, Frames, human_bytes, human_seconds

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ENOUGH_S: Final = 600.0
"""Of so much in the spool the mean size says more than that of ten seconds."""
_FEW: Final = 20
"""Recordings of usual length that tell as much."""

_FAINT: Final = 30.0
"""Standard deviation of the noise in steps of 16 bits, -61 dBFS: about what a quiet room compresses to."""

_OVERDUE_S: Final = 60.0
"""By then a card that stuck for a while has caught up, or the recorder goes round it."""

_BROKEN: Final = "`kiosk-recorder verify` tells more; the card may be dying"


def encoded(samples: NDArray[np.int16], rate: int, origin: str, recipients: tuple[str, ...]) -> Sample:
    """As the recorder would write it: by its own encoder, sealed where that is configured, in memory."""
    pieces: list[bytes] = []
    stream = FlacStream(lambda piece, _frames: pieces.append(piece), rate, samples.shape[1], Frames(len(samples)))
    stream.write(samples.tobytes())
    stream.finish()
    flac = b"".join(pieces)
    closed = sealing.sealed(flac, recipients) if recipients else None
    return Sample(flac, len(samples) / rate, origin, sealed=closed)


def made_up(visit: Visit) -> Sample:
    """Faint noise of the length that would be listened to, as the recorder would write it. Raises KioskError."""
    capture = visit.settings.capture
    frames = round(visit.seconds * capture.rate)
    samples = np.random.default_rng().normal(0, _FAINT, (frames, capture.channels)).astype(np.int16)
    return encoded(
        samples, capture.rate, f"{visit.seconds:g} s of noise made up just now", sealing.recipients_of(visit)
    )


def look(visit: Visit) -> Iterator[Finding]:
    """A recording, made now or by the recorder, opened again; and whether it is sealed."""
    if visit.recorder_pid is not None:
        yield _of_recorder(visit)
        # What is heard is the recorder's. What is uploaded and opened in its place goes through the same hands.
        visit.sample = made_up(visit)
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


def _of_recorder(visit: Visit) -> Finding:
    """What the running recorder wrote last: opened again where it's here; else what became of it."""
    picture = visit.picture()
    if picture is not None and picture.path == "direct":
        return _of_detour(picture)
    try:
        with kiosk.open_ledger(kiosk.Kiosk(visit.settings, visit.layout, visit.zone, visit.clock)) as ledger:
            newest = next(ledger.newest(), None)
    except KioskError as error:
        return of_error("recording", error, "grey" if error.retryable else "red")
    overdue_s = _overdue_s(newest, picture, visit)
    if overdue_s:
        return Finding(
            "recording",
            "red",
            f"the recorder says that it records, but has finished no recording for {human_seconds(overdue_s)}",
            "`kiosk-recorder status` tells what it does; sudo systemctl restart kiosk-recorder.service",
        )
    if newest is None:
        return Finding("recording", "grey", "the recorder runs but no recording is finished yet", _soon(visit))
    try:
        content = visit.layout.audio(newest.name).read_bytes()
    except OSError as error:
        # Once it is uploaded it's removed, even between two looks.
        return _gone(newest, error, visit)
    encrypted = content.startswith(age.MAGIC)
    visit.kept = Sample(
        None if encrypted else content,
        newest.seconds,
        f"{newest.name}, the recorder's newest",
        sealed=content if encrypted else None,
    )
    return _judged(newest, content, visit)


def _of_detour(picture: RecorderStatus) -> Finding:
    """Of a recorder that doesn't write to the card, by choice or for want of one."""
    if picture.detour:
        what, hint = without_hint(picture.detour)
        return Finding("recording", "yellow", f"into memory, not onto the card: {what}", hint)
    length = human_seconds(picture.segment_seconds)
    return Finding(
        "recording", "green", f"into memory, as was chosen, and uploaded from there: {length} of the open one"
    )


def _overdue_s(newest: Segment | None, picture: RecorderStatus | None, visit: Visit) -> float:
    """For how long a recorder that says it records has finished nothing; 0 while that is as it should be."""
    if picture is None or picture.state != "recording":
        return 0
    ended_ns = newest.end_ns if newest is not None and newest.boot == visit.clock.boot else 0
    passed_s = (visit.clock.monotonic_ns() - max(picture.since_ns, ended_ns)) / NS_PER_S
    return passed_s if passed_s > visit.settings.spool.segment_seconds + _OVERDUE_S else 0


def _gone(newest: Segment, error: OSError, visit: Visit) -> Finding:
    """What became of a recording whose file isn't here."""
    with kiosk.open_ledger(kiosk.Kiosk(visit.settings, visit.layout, visit.zone, visit.clock)) as ledger:
        segment = ledger.segment(newest.name) or newest
    facts = {"seconds": segment.seconds, "bytes": segment.bytes}
    size = f"{human_seconds(segment.seconds)} and {human_bytes(segment.bytes)}"
    match segment.state:
        case "acknowledged":
            ago = ""
            if segment.boot == visit.clock.boot:
                ago = f", ended {human_seconds((visit.clock.monotonic_ns() - segment.end_ns) / NS_PER_S)} ago,"
            text = f"{segment.name}, the recorder's newest, {size}{ago} is in the store, which verified its SHA-256"
            return Finding("recording", "green", text, facts=facts)
        case "damaged" | "quarantined" | "lost":
            return Finding("recording", "red", f"{segment.name}, the newest, is {segment.state}", _BROKEN, facts)
        case "evicted":
            text = f"{segment.name}, the newest, was given up before it was uploaded"
            return Finding("recording", "red", text, "see the lines of the card and the store", facts)
        case "pending":
            text = f"{segment.name} can't be read: {error.strerror}"
            return Finding("recording", "grey" if isinstance(error, FileNotFoundError) else "red", text, _BROKEN, facts)
        case _:
            text = f"{segment.name}, the newest, was {segment.state}: nothing of it is here"
            return Finding("recording", "grey", text, _soon(visit))


def _soon(visit: Visit) -> str:
    return f"check again in {visit.settings.spool.segment_seconds} s"


def _judged(newest: Segment, content: bytes, visit: Visit) -> Finding:
    name = newest.name
    if hashlib.sha256(content).hexdigest() != newest.sha256:
        return Finding("recording", "red", f"{name} isn't what was recorded: its SHA-256 differs", _BROKEN)
    if newest.truncated:
        return Finding(
            "recording",
            "yellow",
            f"{name}, the newest, was cut short by a crash",
            _soon(visit),
        )
    facts = {"seconds": newest.seconds, "bytes": newest.bytes}
    if content.startswith(age.MAGIC):
        text = f"{human_seconds(newest.seconds)} and {human_bytes(newest.bytes)}: read and hashed again"
        return Finding("recording", "green", f"{name}, the recorder's newest, {text}", facts=facts)
    try:
        samples, _ = soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
    except soundfile.LibsndfileError as error:
        return Finding("recording", "red", f"{name} can't be decoded: {error}", _BROKEN)
    levels = measure(samples)
    return Finding(
        "recording",
        "green",
        f"{name}, the recorder's newest, {human_seconds(newest.seconds)} and {human_bytes(newest.bytes)}: "
        f"read, hashed and decoded again, {levels.rms_dbfs:.0f} dBFS",
        facts={**facts, "rms_dbfs": round(levels.rms_dbfs, 1)},
    )


def _measure(visit: Visit) -> None:
    """What an hour takes: by what is in the spool, or else by what was recorded last, or by what was just heard."""
    visit.bytes_per_hour = None
    # There is none before the recorder's first start.
    with (
        suppress(KioskError),
        kiosk.open_ledger(kiosk.Kiosk(visit.settings, visit.layout, visit.zone, visit.clock)) as ledger,
    ):
        visit.bytes_per_hour = _mean(ledger)
        if visit.bytes_per_hour is None and visit.recorder_pid is not None:
            visit.bytes_per_hour = _lately(ledger)
    sample = visit.sample
    if visit.bytes_per_hour is None and visit.recorder_pid is None and sample is not None and sample.seconds:
        visit.bytes_per_hour = len(sample.content) / sample.seconds * 3600


def _mean(ledger: Ledger) -> float | None:
    tallies = ledger.tally().values()
    seconds = sum(tally.seconds for tally in tallies)
    return sum(tally.bytes for tally in tallies) / seconds * 3600 if seconds >= _ENOUGH_S else None


def _lately(ledger: Ledger) -> float | None:
    """By the newest, also those that are uploaded and gone."""
    newest = list(ledger.newest(_FEW))
    seconds = sum(segment.seconds for segment in newest)
    return sum(segment.bytes + segment.meta_bytes for segment in newest) / seconds * 3600 if seconds else None
