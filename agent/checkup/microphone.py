"""Whether the room is heard, and how well.

While a recorder runs the card is its own: what it says about its levels is followed for the same time. Else the check
opens the card itself. What it hears stays in memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.checkup.finding import Finding, of_error
from agent.checkup.recording import encoded
from agent.checkup.sealing import recipients_of
from agent.checkup.visit import Visit
from agent.contract.metrics import RecorderState
from agent.errors import KioskError, without_hint
from agent.recorder.levels import FLOOR_DBFS, measure, slice_rms_dbfs
from agent.status import RecorderStatus, read_status
from agent.units import NS_PER_S
from hw.alsa import Block, Microphone, Overrun, card_is_absent, microphones
from hw.process import lock_memory

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FROZEN_AFTER_S: Final = 2.5
_STALE_S: Final = 8.0
"""As `kiosk-recorder status` has it."""

_QUIET_SHARE: Final = 0.4
"""So much of the time is for the room as it is, the rest for the clap."""
_SLICES_PER_S: Final = 50
"""A clap is over within a few hundredths of a second."""
_CLAP_DB: Final = 20.0
"""A clap at 1 m has some 90 to 100 dB SPL for a moment, speech 60, a noisy room 50: it stands out, or isn't heard."""
_NOISY_DBFS: Final = -35.0
"""Speech at 1 m reads about -40 to -25 dBFS with a usual gain: above this the room drowns it."""
_OFFSET: Final = 0.05
"""Parts of full scale; a sound microphone has less than a hundredth."""

_WITHHELD: Final = frozenset[RecorderState]({"idle", "paused", "muted"})


@dataclass(frozen=True, slots=True)
class Impression:
    """How the room sounded. Levels in dBFS."""

    how: str
    """By what this is known."""
    floor_dbfs: float
    """The quieter parts of the quiet time."""
    peak_dbfs: float
    clipped_pct: float
    """In the quiet time: a clap may be too loud."""
    clap_db: float | None
    """How far the loudest moment stood out of the quiet time; None when nobody was asked to clap."""
    dropouts: int = 0
    """Slices of nothing at all between others."""
    offset: float | None = None
    """Mean in parts of full scale."""
    overruns: int = 0
    dead: tuple[int, ...] = ()
    """Channels, counted from 1, on which nothing came while others sounded."""


def look(visit: Visit) -> Iterator[Finding]:
    """Name, signal, noise, clipping and, with somebody there, a clap."""
    yield _name(visit.settings.capture.pcm, visit.root / "proc/asound")
    try:
        found = _heard(visit) if visit.recorder_pid is None else _followed(visit)
    except KioskError as error:
        yield of_error("signal", error)
        return
    if isinstance(found, Finding):
        yield found
        return
    yield from judged(found, visit)


def _name(pcm: str, asound: Path) -> Finding:
    """Whether the microphone is the one that is meant, and will be after the next start."""
    found = microphones(asound)
    names = ", ".join(microphone.pcm for microphone in found)
    listed = f"; found: {names}" if names else ""
    rename = "write the stable name that `kiosk-recorder mics` tells into `capture.pcm`"
    if pcm == "default":
        text = f'capture.pcm is "default": another microphone can take its place{listed}'
        return Finding("name", "yellow", text, rename)
    card = pcm.partition(":")[2].split(",")[0].removeprefix("CARD=")
    if card.isdigit():
        text = f"capture.pcm names the card by its number, which changes with the order of plugging in{listed}"
        return Finding("name", "yellow", text, rename)
    if card_is_absent(pcm, asound):
        return Finding("name", "red", f"{pcm} isn't here{listed}", "plug it in, or correct `capture.pcm`")
    known = next((each for each in found if each.pcm.partition(":")[2] == pcm.partition(":")[2]), None)
    return Finding("name", "green", f"{pcm}: {known.card}" if known else pcm)


def judged(heard: Impression, visit: Visit) -> Iterator[Finding]:
    """What an impression means. Limits are those of the alerts, so that what is green here isn't an alert tomorrow."""
    limits = visit.settings.alerts
    dead, faint = limits.no_signal.critical, limits.no_signal.warning
    loudness = f"{heard.floor_dbfs:.0f} dBFS in the quiet, peak {heard.peak_dbfs:.0f} dBFS"
    facts = {"floor_dbfs": round(heard.floor_dbfs, 1), "peak_dbfs": round(heard.peak_dbfs, 1)}
    if heard.peak_dbfs <= FLOOR_DBFS or (dead is not None and heard.floor_dbfs < dead):
        yield Finding(
            "signal",
            "red",
            f"digital silence, {heard.how}: no working microphone is that quiet",
            "look for a mute switch, a loose plug, a volume at zero (`alsamixer`)",
            facts,
        )
        return
    if faint is not None and heard.floor_dbfs < faint:
        yield Finding(
            "signal",
            "yellow",
            f"hardly anything, {heard.how}: {loudness}",
            "raise the gain (`alsamixer`) and speak: the level must move",
            facts,
        )
    else:
        yield Finding("signal", "green", f"{heard.how}: {loudness}", facts=facts)
    yield from _flaws(heard, visit)
    if heard.clap_db is not None:
        facts = {"clap_db": round(heard.clap_db, 1)}
        if heard.clap_db >= _CLAP_DB:
            yield Finding("clap", "green", f"heard, {heard.clap_db:.0f} dB above the room", facts=facts)
        else:
            yield Finding(
                "clap",
                "red",
                f"no clap was heard: the loudest moment was {heard.clap_db:.0f} dB above the room",
                "is it this room's microphone? Clap near it, raise its gain (`alsamixer`), and check again",
                facts,
            )


def _flaws(heard: Impression, visit: Visit) -> Iterator[Finding]:
    if heard.floor_dbfs > _NOISY_DBFS:
        yield Finding(
            "noise floor",
            "yellow",
            f"{heard.floor_dbfs:.0f} dBFS while nobody spoke: speech drowns in it",
            "look for a fan or a hum near the microphone; lower its gain (`alsamixer`)",
        )
    else:
        yield Finding("noise floor", "green", f"{heard.floor_dbfs:.0f} dBFS")
    limits = visit.settings.alerts.clipping
    clipped, facts = f"{heard.clipped_pct:.3g} % of the samples clip", {"clipped_pct": round(heard.clipped_pct, 3)}
    if limits.critical is not None and heard.clipped_pct > limits.critical:
        yield Finding("clipping", "red", clipped, "lower the microphone's gain (`alsamixer`)", facts)
    elif limits.warning is not None and heard.clipped_pct > limits.warning:
        yield Finding("clipping", "yellow", clipped, "lower the microphone's gain (`alsamixer`)", facts)
    else:
        yield Finding("clipping", "green", "none" if not heard.clipped_pct else clipped, facts=facts)
    if heard.offset is not None and heard.offset > _OFFSET:
        yield Finding(
            "offset",
            "yellow",
            f"the signal's mean is {100 * heard.offset:.0f} % of full scale from zero",
            "a broken microphone or input does that: try another one",
        )
    if heard.dead:
        which = " and ".join(map(str, heard.dead))
        yield Finding(
            "channels",
            "red",
            f"nothing on channel {which}, though others sound",
            "look for a loose plug or a mono microphone; then correct `capture.channels`",
        )
    if heard.dropouts or heard.overruns:
        yield Finding(
            "stream",
            "yellow",
            f"it broke off: {heard.overruns} overruns, {heard.dropouts} moments of nothing at all",
            "another cable or port, no hub; `kiosk-recorder status` counts overruns",
        )


def _heard(visit: Visit) -> Impression:
    """Listen. Raises KioskError when the microphone can't be opened or falls silent."""
    capture = visit.settings.capture
    with suppress(OSError):
        # What is heard in the room stays out of swap, also here.
        lock_memory()
    quiet_frames = round(visit.seconds * capture.rate * (_QUIET_SHARE if visit.clap else 1))
    blocks: list[bytes] = []
    frames, overruns = 0, 0
    asked = not visit.clap
    with closing(Microphone(capture.pcm, capture.rate, capture.channels, clock=visit.clock)) as microphone:
        while frames < visit.seconds * capture.rate:
            visit.progress(f"listening, {frames / capture.rate:.0f} of {visit.seconds:g} s")
            if not asked and frames >= quiet_frames:
                asked = True
                visit.ask("Clap your hands now, near the microphone.")
            match microphone.read(_FROZEN_AFTER_S):
                case Block() as block:
                    blocks.append(block.pcm)
                    frames += block.frames
                case Overrun():
                    overruns += 1
                case None:
                    raise KioskError(
                        "hear microphone",
                        place=capture.pcm,
                        cause=f"it gave no sound for {_FROZEN_AFTER_S:g} s",
                        hint="pull and replug it; if that doesn't help, try another one",
                    )
    samples = np.frombuffer(b"".join(blocks), dtype="<i2").reshape(-1, capture.channels)
    origin = f"{len(samples) / capture.rate:.0f} s heard just now"
    visit.sample = encoded(samples, capture.rate, origin, recipients_of(visit))
    return impression(samples, capture.rate, quiet_frames, clap=visit.clap, overruns=overruns)


def impression(
    samples: NDArray[np.int16], rate: int, quiet_frames: int, *, clap: bool, overruns: int = 0
) -> Impression:
    """How `samples`, shape (frames, channels), sound; the first `quiet_frames` are the room as it is."""
    size = rate // _SLICES_PER_S
    slices = slice_rms_dbfs(samples, size)
    quiet = slices[: max(1, quiet_frames // size)]
    still = measure(samples[:quiet_frames])
    floor = float(np.percentile(quiet, 20))
    return Impression(
        f"heard for {len(samples) / rate:.0f} s",
        floor,
        measure(samples).peak_dbfs,
        still.clipped_pct,
        float(slices.max()) - float(np.median(quiet)) if clap else None,
        int(np.count_nonzero(slices <= FLOOR_DBFS)) if slices.max() > FLOOR_DBFS else 0,
        still.dc_offset,
        overruns,
        tuple(number + 1 for number in range(samples.shape[1]) if not samples[:, number].any()),
    )


def _followed(visit: Visit) -> Impression | Finding:
    """By the running recorder's own word."""
    pictures: dict[int, RecorderStatus] = {}
    begun_ns = visit.clock.monotonic_ns()
    asked = not visit.clap
    quiet_until_ns = begun_ns + round(visit.seconds * _QUIET_SHARE * NS_PER_S)
    while (passed_s := (visit.clock.monotonic_ns() - begun_ns) / NS_PER_S) < visit.seconds or not pictures:
        visit.progress(f"following the recorder, {passed_s:.0f} of {visit.seconds:g} s")
        picture = read_status(visit.runtime)
        now_ns = visit.clock.monotonic_ns()
        if picture is not None and picture.pid == visit.recorder_pid:
            if picture.state in _WITHHELD:
                return Finding(
                    "signal",
                    "grey",
                    f"the recorder doesn't listen now: {picture.state}",
                    "check again while it records",
                )
            if picture.state not in ("recording", "listening", "starting"):
                what, hint = without_hint(picture.trouble)
                return Finding("signal", "red", what or f"the recorder is {picture.state}", hint)
            if picture.level_rms_dbfs is not None and picture.updated_ns >= begun_ns:
                pictures[picture.updated_ns] = picture
        if not pictures and passed_s > _STALE_S:
            return Finding(
                "signal",
                "red",
                f"the recorder (process {visit.recorder_pid}) has told no level for {_STALE_S:g} s",
                "`kiosk-recorder status` tells what it does; restart it: systemctl restart kiosk-recorder.service",
            )
        if not asked and now_ns >= quiet_until_ns:
            asked = True
            visit.ask("Clap your hands now, near the microphone.")
        visit.wait(0.25)
    return followed(list(pictures.values()), quiet_until_ns, clap=visit.clap)


def followed(pictures: list[RecorderStatus], quiet_until_ns: int, *, clap: bool) -> Impression:
    """How the recorder's pictures, at least one, sound; each is of one second."""
    quiet = [each for each in pictures if not clap or each.updated_ns < quiet_until_ns] or pictures[:1]
    loudness = [_level(each.level_rms_dbfs) for each in quiet]
    peaks = [_level(each.level_peak_dbfs) for each in pictures]
    return Impression(
        f"as the running recorder tells, {len(pictures)} s",
        min(loudness),
        max(peaks),
        statistics.fmean(each.clipped_pct or 0.0 for each in quiet),
        max(peaks) - statistics.median(_level(each.level_peak_dbfs) for each in quiet) if clap else None,
    )


def _level(dbfs: float | None) -> float:
    return FLOOR_DBFS if dbfs is None else dbfs
