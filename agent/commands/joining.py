"""Recordings decoded one after the other into one file; between two wall times, with silence where there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import soundfile

from agent.commands.pieces import Piece
from agent.contract.age import Identity
from agent.errors import KioskError
from agent.mending import Readable
from agent.units import NS_PER_S

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_WAV_BYTES: Final = 2**32 - 2**16
_CHUNK_FRAMES: Final = 1 << 16

OVER_GAPS: Final = "open them one by one, join them as if nothing were missing with --over-gaps, or in time with --from"


@dataclass(slots=True)
class Joined:
    """What was written."""

    rate: int
    channels: int
    frames: int = 0
    begin_ns: int | None = None
    """Wall time of its first frame, where it was joined in time."""
    silent_frames: int = 0
    """Of `frames`: those that nobody recorded."""
    pieces: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    """Pieces of which less is there than was meant to be."""

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return self.frames / self.rate


@dataclass(frozen=True, slots=True)
class Span:
    """Wall times between which everything lies where it was in time. None: from the first, or to the last recording."""

    begin_ns: int | None
    end_ns: int | None


def join(
    pieces: Sequence[Piece],
    keys: Sequence[Identity],
    file: Path,
    kind: str,
    *,
    span: Span | None,
    over_gaps: bool,
    done: Callable[[int], None],
) -> Joined:
    """Write `pieces`, in order, into `file`.

    Without a span, or leave to join over gaps, each must follow the one before. `done` hears of each. Raises
    KioskError, OSError.
    """
    lax = over_gaps or span is not None
    joint: _Joint | None = None
    previous: tuple[Piece, Readable] | None = None
    try:
        for piece in pieces:
            source, start_ns = piece.read(keys)
            if previous is not None and not lax:
                _refuse_gap(*previous, piece)
            with source.stream, _decoder(source, piece.place) as decoder:
                joint = joint or _Joint(file, kind, decoder, span)
                joint.refuse_another_format(decoder, piece.place)
                seamless = previous is not None and piece.follows(previous[0]) and not previous[1].cut
                begin_ns = piece.start_ns if start_ns is None else start_ns
                joint.place(None if seamless else begin_ns)
                before = joint.joined.frames
                joint.copy(decoder, source, piece.place)
            if joint.joined.frames > before:
                joint.note(piece, source)
            previous = piece, source
            done(1)
        if joint is None:
            raise AssertionError("there is always a piece")
        if not joint.joined.frames:
            raise KioskError("open recordings", cause="nothing was recorded in this time")
        return joint.joined
    finally:
        if joint is not None:
            joint.close()


class _Joint:
    """The file as it grows. `at` is the frame at which the next sample belongs; below 0 it isn't wanted."""

    def __init__(self, file: Path, kind: str, like: soundfile.SoundFile, span: Span | None) -> None:
        self.joined = Joined(like.samplerate, like.channels)
        self._kind = kind
        self._span = span
        self._at = 0
        self._sink = soundfile.SoundFile(file, "w", like.samplerate, like.channels, subtype="PCM_16", format=kind)

    def place(self, start_ns: int | None) -> None:
        """What comes next began at `start_ns`; None: where the one before ended."""
        if self._span is None or start_ns is None:
            return
        if not self.joined.frames:
            # Silence stands between recordings, not before the first: somebody may ask for everything since 2020.
            self.joined.begin_ns = max(start_ns, self._span.begin_ns or start_ns)
            self._at = self._frame_of(start_ns)
        # Never backwards: keys tell whole seconds, and crystals drift. What was recorded is never left out.
        self._silence_until(self._frame_of(start_ns))

    def copy(self, decoder: soundfile.SoundFile, source: Readable, place: str) -> None:
        done = 0
        with suppress(soundfile.LibsndfileError):
            while len(samples := decoder.read(_CHUNK_FRAMES, dtype="int16", always_2d=True)):
                self._write(samples)
                done += len(samples)
        if done != source.frames:
            hint = "`flac -d -F` saves what can be saved of it"
            raise KioskError("decode recording", place=place, cause="it is damaged", hint=hint)
        if self._kind == "WAV" and self.joined.frames * self.joined.channels * 2 > _MOST_WAV_BYTES:
            cause = "they are more than a WAV file can hold"
            raise KioskError("join recordings", cause=cause, hint="write a .flac file")

    def note(self, piece: Piece, source: Readable) -> None:
        self.joined.pieces.append(piece.label)
        if source.cut:
            self.joined.cut.append(piece.label)

    def refuse_another_format(self, decoder: soundfile.SoundFile, place: str) -> None:
        joined = self.joined
        if (decoder.samplerate, decoder.channels) != (joined.rate, joined.channels):
            cause = (
                f"{Path(place).name} has {decoder.samplerate} Hz × {decoder.channels}, "
                f"not {joined.rate} Hz × {joined.channels}"
            )
            raise KioskError("join recordings", cause=cause, hint="open it into a file of its own")

    def close(self) -> None:
        self._sink.close()

    @property
    def _limit(self) -> int | None:
        return None if self._span is None or self._span.end_ns is None else self._frame_of(self._span.end_ns)

    def _frame_of(self, wall_ns: int) -> int:
        return round((wall_ns - (self.joined.begin_ns or 0)) * self.joined.rate / NS_PER_S)

    def _silence_until(self, at: int) -> None:
        import numpy as np

        while self._at < at:
            frames = min(at - self._at, _CHUNK_FRAMES)
            self.joined.silent_frames += self._write(np.zeros((frames, self.joined.channels), np.int16))

    def _write(self, samples: NDArray[np.int16]) -> int:
        """Write what of it is wanted; how many frames that was."""
        skipped = min(len(samples), max(0, -self._at))
        limit = self._limit
        until = len(samples) if limit is None else min(len(samples), max(skipped, limit - self._at))
        wanted = samples[skipped:until]
        if len(wanted):
            self._sink.write(wanted)
        self._at += len(samples)
        self.joined.frames += len(wanted)
        return len(wanted)


def _refuse_gap(before: Piece, source: Readable, piece: Piece) -> None:
    one, other = Path(before.place).name, Path(piece.place).name
    if not piece.follows(before):
        raise KioskError("join recordings", cause=f"{other} doesn't follow {one}", hint=OVER_GAPS)
    if source.cut:
        cause = f"{one} was cut short, so {other} doesn't follow it"
        raise KioskError("join recordings", cause=cause, hint=OVER_GAPS)


@contextmanager
def _decoder(source: Readable, place: str) -> Iterator[soundfile.SoundFile]:
    try:
        decoder = soundfile.SoundFile(source.stream)
    except soundfile.LibsndfileError as error:
        raise KioskError("decode recording", place=place, cause=error.error_string) from error
    with decoder:
        yield decoder
