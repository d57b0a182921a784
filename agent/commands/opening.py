"""`kiosk-recorder open`: recordings as one file to listen to, torn ones included."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import soundfile

from agent.commands.kiosk import Kiosk, find
from agent.errors import EXIT_GOOD, KioskError
from agent.mending import Readable, readable
from agent.spool import AUDIO_SUFFIX, PART_SUFFIX, SegmentFile, SegmentName, files_below
from agent.terminal import counted, painter, say, say_json
from agent.units import human_seconds

_FORMATS: Final = {".flac": "FLAC", ".wav": "WAV"}
_MOST_WAV_BYTES: Final = 2**32 - 2**16
_CHUNK_FRAMES: Final = 1 << 16

_NAMED = re.compile(r"(?:.*_)?([0-9a-f]{12})[-_]([0-9]{6,})[._].*")
"""Files of the spool ("<run>-<seq>.flac") and objects of a bucket ("…_<run>_<seq>_<hash>.flac")."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file to be joined; `name` is None when its file name doesn't tell which segment it is."""

    path: Path
    name: SegmentName | None


@dataclass(slots=True)
class Opened:
    """What was written."""

    file: str
    rate: int
    channels: int
    frames: int = 0
    pieces: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    """Pieces of which less is there than was meant to be."""

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return self.frames / self.rate


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command was asked for."""

    files: Sequence[str]
    run: str | None
    out: Path
    force: bool
    over_gaps: bool
    config: Path | None


def open_recordings(wish: Wish, *, as_json: bool) -> int:
    """Decode what is wished for into one file. Raises KioskError; then no file was made or replaced."""
    kind = _FORMATS.get(wish.out.suffix.lower())
    if kind is None:
        raise _refusal(wish.out, "isn't named as audio", "end its name in .flac or .wav")
    pieces = _collect(wish)
    if not wish.over_gaps:
        _refuse_gaps(pieces)
    _refuse_overwriting(wish)
    try:
        with _fresh(wish) as file:
            opened = _join(pieces, file, kind, wish)
            _refuse_overwriting(wish)
    except OSError as error:
        raise _refusal(wish.out, error.strerror or str(error)) from error
    if as_json:
        say_json(_for_programs(opened))
    else:
        _print(opened)
    return EXIT_GOOD


# What to open.


def _collect(wish: Wish) -> list[Piece]:
    if bool(wish.files) == bool(wish.run):
        raise KioskError(
            "open recordings", cause="which ones?", hint="name files, segments as `kiosk-recorder list` shows, or --run"
        )
    if wish.run:
        return _run(find(wish.config), wish.run)
    kiosk: Kiosk | None = None
    pieces = []
    for given in wish.files:
        path = Path(given)
        if path.is_file():
            match = _NAMED.fullmatch(path.name)
            pieces.append(Piece(path, SegmentName(match[1], int(match[2])) if match else None))
            continue
        try:
            name = SegmentName.parse(given)
        except ValueError:
            hint = "name a file, or a segment as `kiosk-recorder list` shows it"
            raise KioskError("open recording", place=given, cause="no such file", hint=hint) from None
        kiosk = kiosk or find(wish.config)
        pieces.append(Piece(_in_spool(kiosk, name), name))
    return pieces


def _in_spool(kiosk: Kiosk, name: SegmentName) -> Path:
    layout = kiosk.layout
    # Twice, because the recorder may be moving it from one place to the other.
    for path in (layout.audio(name), layout.part(name), layout.audio(name)):
        if path.is_file():
            return path
    raise KioskError(
        "open recording",
        place=str(name),
        cause="isn't in the spool",
        hint="`kiosk-recorder list` tells what became of it; what was uploaded is in the store under its key",
    )


def _run(kiosk: Kiosk, run: str) -> list[Piece]:
    names = {
        file.name
        for directory in (kiosk.layout.sealed, kiosk.layout.open)
        for entry in files_below(directory)
        if (file := SegmentFile.parse(entry.name)) and file.suffix in (AUDIO_SUFFIX, PART_SUFFIX)
        if file.name.run == run and _has_begun(entry)
    }
    if not names:
        hint = "`kiosk-recorder list --here` shows which are"
        raise KioskError("open run", place=run, cause="nothing of it is in the spool", hint=hint)
    return [Piece(_in_spool(kiosk, name), name) for name in sorted(names)]


def _has_begun(entry: os.DirEntry[str]) -> bool:
    """Whether there is anything in it to be heard: a new segment is empty for its first seconds."""
    try:
        return entry.stat().st_size > 0
    except FileNotFoundError:
        return True  # sealed this moment


def _refuse_gaps(pieces: Sequence[Piece]) -> None:
    for one, other in pairwise(pieces):
        follows = one.name and other.name and (one.name.run, one.name.seq + 1) == (other.name.run, other.name.seq)
        if not follows:
            raise _gap(f"{other.path.name} doesn't follow {one.path.name}")


def _gap(cause: str) -> KioskError:
    hint = "open them one by one, or join them as if nothing were missing with --over-gaps"
    return KioskError("join recordings", cause=cause, hint=hint)


# Into one file.


def _join(pieces: Sequence[Piece], file: Path, kind: str, wish: Wish) -> Opened:
    opened: Opened | None = None
    sink: soundfile.SoundFile | None = None
    try:
        for number, piece in enumerate(pieces):
            source = _readable(piece.path)
            if source.cut and number + 1 < len(pieces) and not wish.over_gaps:
                raise _gap(f"{piece.path.name} was cut short, so {pieces[number + 1].path.name} doesn't follow it")
            with source.stream, _decoder(source, piece.path) as decoder:
                if opened is None or sink is None:
                    opened = Opened(str(wish.out), decoder.samplerate, decoder.channels)
                    sink = soundfile.SoundFile(file, "w", opened.rate, opened.channels, subtype="PCM_16", format=kind)
                _refuse_another_format(decoder, opened, piece.path)
                _copy(decoder, sink, source, piece.path)
            opened.frames += source.frames
            opened.pieces.append(str(piece.name or piece.path))
            if source.cut:
                opened.cut.append(str(piece.name or piece.path))
            if kind == "WAV" and opened.frames * opened.channels * 2 > _MOST_WAV_BYTES:
                raise _refusal(wish.out, "is more than a WAV file can hold", "write a .flac file")
    finally:
        if sink is not None:
            sink.close()
    if opened is None:
        raise AssertionError("there is always a piece")
    return opened


def _readable(path: Path) -> Readable:
    try:
        return readable(path)
    except OSError as error:
        raise KioskError("open recording", place=str(path), cause=error.strerror or str(error)) from error


def _decoder(source: Readable, path: Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(source.stream)
    except soundfile.LibsndfileError as error:
        raise KioskError("decode recording", place=str(path), cause=error.error_string) from error


def _copy(decoder: soundfile.SoundFile, sink: soundfile.SoundFile, source: Readable, path: Path) -> None:
    done = 0
    with suppress(soundfile.LibsndfileError):
        while len(samples := decoder.read(_CHUNK_FRAMES, dtype="int16", always_2d=True)):
            sink.write(samples)
            done += len(samples)
    if done != source.frames:
        hint = "`flac -d -F` saves what can be saved of it"
        raise KioskError("decode recording", place=str(path), cause="it is damaged", hint=hint)


def _refuse_another_format(decoder: soundfile.SoundFile, opened: Opened, path: Path) -> None:
    if (decoder.samplerate, decoder.channels) != (opened.rate, opened.channels):
        cause = (
            f"{path.name} has {decoder.samplerate} Hz × {decoder.channels}, not {opened.rate} Hz × {opened.channels}"
        )
        raise KioskError("join recordings", cause=cause, hint="open it into a file of its own")


@contextmanager
def _fresh(wish: Wish) -> Iterator[Path]:
    """A file beside the wished one that takes its name in the end, or goes."""
    file = wish.out.with_name(f".{wish.out.name}.{os.getpid()}")
    try:
        yield file
        file.replace(wish.out)
    finally:
        file.unlink(missing_ok=True)


def _refuse_overwriting(wish: Wish) -> None:
    if wish.out.is_dir():
        raise _refusal(wish.out, "is a directory", "name a file in it")
    if wish.out.exists() and not wish.force:
        raise _refusal(wish.out, "is there already", "choose another name, or replace it with --force")
    if not wish.out.parent.is_dir():
        raise _refusal(wish.out, "its directory doesn't exist")


def _refusal(out: Path, cause: str, hint: str = "") -> KioskError:
    return KioskError("write", place=str(out), cause=cause, hint=hint)


def _for_programs(opened: Opened) -> dict[str, Any]:
    return {
        "file": opened.file,
        "seconds": opened.seconds,
        "frames": opened.frames,
        "rate": opened.rate,
        "channels": opened.channels,
        "segments": opened.pieces,
        "cut": opened.cut,
    }


def _print(opened: Opened) -> None:
    paint = painter()
    count = counted(len(opened.pieces), "segment")
    say(f"{opened.file}: {human_seconds(opened.seconds)}, {opened.rate} Hz × {opened.channels}, from {count}")
    for piece in opened.cut:
        say(f"  {paint('note', 'yellow')}: {piece} ends early: it was cut off while it was being written")
