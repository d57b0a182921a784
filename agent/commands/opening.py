"""`kiosk-recorder open`: recordings as one file to listen to, or one each; torn and encrypted ones included."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from agent.commands import pieces as found
from agent.commands.joining import OVER_GAPS, Joined, Span, join
from agent.commands.kiosk import Kiosk, find
from agent.commands.pieces import Piece
from agent.commands.times import moment
from agent.contract.age import Identity, identities
from agent.contract.bucket import SCHEME
from agent.contract.keys import timestamp
from agent.errors import EXIT_GOOD, KioskError
from agent.spool import SegmentName
from agent.terminal import counted, painter, progress, say, say_json
from agent.units import human_seconds
from hw.clock import SystemClock

_FORMATS: Final = {".flac": "FLAC", ".wav": "WAV"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command was asked for."""

    given: Sequence[str]
    """Files, directories, addresses in a bucket, names of segments; nothing: the kiosk's own spool."""
    run: str | None
    since: str | None
    until: str | None
    keys: Sequence[Path]
    out: Path
    each: bool
    """Every recording into a file of its own in the directory `out`."""
    force: bool
    over_gaps: bool
    endpoint_url: str
    config: Path | None


@dataclass(frozen=True, slots=True)
class Opened:
    """What was written where."""

    file: Path
    joined: Joined


def open_recordings(wish: Wish, *, as_json: bool) -> int:
    """Decode what is wished for. Raises KioskError; then no file was made or replaced, but earlier ones of `each`."""
    kind = "FLAC" if wish.each else _FORMATS.get(wish.out.suffix.lower())
    if kind is None:
        raise _refusal(wish.out, "isn't named as audio", "end its name in .flac or .wav")
    keys = [key for file in wish.keys for key in identities(file)]
    span = _span(wish)
    pieces = _collect(wish, span)
    results = list(_each(pieces, keys, wish)) if wish.each else [_one(pieces, keys, kind, span, wish)]
    if as_json:
        documents = [_for_programs(opened) for opened in results]
        say_json(documents if wish.each else documents[0])
    else:
        for opened in results:
            _print(opened)
    return EXIT_GOOD


def _one(pieces: Sequence[Piece], keys: Sequence[Identity], kind: str, span: Span | None, wish: Wish) -> Opened:
    if span is None and not wish.over_gaps:
        _refuse_gaps(pieces)
    _refuse_overwriting(wish.out, wish)
    with progress("opening", len(pieces), in_bytes=False) as done, _fresh(wish.out, wish) as file:
        joined = join(pieces, keys, file, kind, span=span, over_gaps=wish.over_gaps, done=done)
    return Opened(wish.out, joined)


def _each(pieces: Sequence[Piece], keys: Sequence[Identity], wish: Wish) -> Iterator[Opened]:
    if not wish.out.is_dir():
        raise _refusal(wish.out, "isn't a directory", "with --each, name one that is there")
    with progress("opening", len(pieces), in_bytes=False) as done:
        for piece in pieces:
            out = wish.out / f"{Path(piece.place).name.partition('.')[0]}.flac"
            _refuse_overwriting(out, wish)
            with _fresh(out, wish) as file:
                joined = join([piece], keys, file, "FLAC", span=None, over_gaps=False, done=done)
            yield Opened(out, joined)


# What to open.


def _span(wish: Wish) -> Span | None:
    if wish.since is None and wish.until is None:
        return None
    if wish.each or wish.over_gaps:
        raise KioskError(
            "open recordings",
            cause="--from and --to put recordings where they were in time, into one file",
            hint="leave out --each and --over-gaps",
        )
    own = not wish.given or wish.config is not None
    zone: tzinfo = find(wish.config).zone if own else UTC
    now_ns = SystemClock().wall_ns()
    since, until = (None if text is None else moment(text, zone, now_ns) for text in (wish.since, wish.until))
    if since is not None and until is not None and since >= until:
        raise KioskError("open recordings", cause="--from isn't before --to")
    return Span(since, until)


def _collect(wish: Wish, span: Span | None) -> list[Piece]:
    if not (wish.given or wish.run or span):
        hint = "name files, directories, s3://…, or segments as `kiosk-recorder list` shows; or --run, --from, --to"
        raise KioskError("open recordings", cause="which ones?", hint=hint)
    pieces = _given(wish) if wish.given else _own(wish, span)
    if wish.run:
        pieces = [piece for piece in pieces if piece.name is not None and piece.name.run == wish.run]
        if not pieces:
            raise _nothing_of(wish)
    if span is not None:
        pieces = found.within(found.in_order(found.once(pieces)), span.begin_ns, span.end_ns)
    elif wish.run or wish.each:
        pieces = found.in_order(pieces if wish.each else found.once(pieces))
    if not pieces:
        raise KioskError("open recordings", place=", ".join(wish.given), cause="there are none")
    return pieces


def _nothing_of(wish: Wish) -> KioskError:
    if wish.given:
        return KioskError("open run", place=str(wish.run), cause=f"nothing of it is in {', '.join(wish.given)}")
    hint = "`kiosk-recorder list --here` shows which are"
    return KioskError("open run", place=str(wish.run), cause="nothing of it is in the spool", hint=hint)


def _own(wish: Wish, span: Span | None) -> list[Piece]:
    kiosk = find(wish.config)
    return list(found.of_directory(kiosk.layout.spool) if span is None else found.of_spool(kiosk))


def _given(wish: Wish) -> list[Piece]:
    kiosk: Kiosk | None = None
    pieces: list[Piece] = []
    for given in wish.given:
        path = Path(given)
        if given.startswith(SCHEME):
            pieces += found.in_order(found.of_bucket(given, wish.endpoint_url))
        elif path.is_dir():
            pieces += found.in_order(found.of_directory(path))
        elif path.is_file():
            pieces.append(found.of_file(path))
        else:
            kiosk = _kiosk_with(given, kiosk, wish)
            pieces.append(_in_spool(kiosk, SegmentName.parse(given)))
    return pieces


def _kiosk_with(given: str, kiosk: Kiosk | None, wish: Wish) -> Kiosk:
    try:
        SegmentName.parse(given)
    except ValueError:
        hint = "name a file, a directory, s3://bucket/…, or a segment as `kiosk-recorder list` shows it"
        raise KioskError("open recording", place=given, cause="no such file", hint=hint) from None
    return kiosk or find(wish.config)


def _in_spool(kiosk: Kiosk, name: SegmentName) -> Piece:
    layout = kiosk.layout
    # Twice, because the recorder may be moving it from one place to the other.
    for path in (layout.audio(name), layout.part(name), layout.audio(name)):
        if path.is_file():
            return found.of_file(path)
    raise KioskError(
        "open recording",
        place=str(name),
        cause="isn't in the spool",
        hint="`kiosk-recorder list` tells what became of it; what was uploaded is in the store under its key",
    )


def _refuse_gaps(pieces: Sequence[Piece]) -> None:
    for one, other in pairwise(pieces):
        if not other.follows(one):
            cause = f"{Path(other.place).name} doesn't follow {Path(one.place).name}"
            raise KioskError("join recordings", cause=cause, hint=OVER_GAPS)


# Where to.


@contextmanager
def _fresh(out: Path, wish: Wish) -> Iterator[Path]:
    """A file beside the wished one that takes its name in the end, or goes."""
    file = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        yield file
        _refuse_overwriting(out, wish)
        file.replace(out)
    except OSError as error:
        raise _refusal(out, error.strerror or str(error)) from error
    finally:
        file.unlink(missing_ok=True)


def _refuse_overwriting(out: Path, wish: Wish) -> None:
    if out.is_dir():
        raise _refusal(out, "is a directory", "name a file in it, or have --each recording go there by itself")
    if out.exists() and not wish.force:
        raise _refusal(out, "is there already", "choose another name, or replace it with --force")
    if not out.parent.is_dir():
        raise _refusal(out, "its directory doesn't exist")


def _refusal(out: Path, cause: str, hint: str = "") -> KioskError:
    return KioskError("write", place=str(out), cause=cause, hint=hint)


def _for_programs(opened: Opened) -> dict[str, Any]:
    joined = opened.joined
    return {
        "file": str(opened.file),
        "begin": None if joined.begin_ns is None else timestamp(joined.begin_ns),
        "seconds": joined.seconds,
        "silent_seconds": joined.silent_frames / joined.rate,
        "frames": joined.frames,
        "rate": joined.rate,
        "channels": joined.channels,
        "segments": joined.pieces,
        "cut": joined.cut,
    }


def _print(opened: Opened) -> None:
    joined, paint = opened.joined, painter()
    silent = f", {human_seconds(joined.silent_frames / joined.rate)} of it not recorded" if joined.silent_frames else ""
    count = counted(len(joined.pieces), "segment")
    length = human_seconds(joined.seconds)
    begin = "" if joined.begin_ns is None else f" from {timestamp(joined.begin_ns)}"
    say(f"{opened.file}: {length}{begin}, {joined.rate} Hz × {joined.channels}, from {count}{silent}")
    for piece in joined.cut:
        say(f"  {paint('note', 'yellow')}: {piece} ends early: it was cut off while it was being written")
