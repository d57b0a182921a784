"""Spools full of recordings, made faster than they could be recorded: audio, sidecar and ledger entry each.

Everything is what the recorder would have left, without its fsyncs: the entries of all segments are one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from agent.ledger import Boot, Ledger, Segment
from agent.recorder.flac import FlacStream
from agent.sidecar import END, ROOM_BYTES, Header, Record, segment_of
from agent.spool import Layout, SegmentName
from agent.units import NS_PER_S, Frames
from hw.clock import SystemClock

_BOOT = "be" * 16
_RUN_SEGMENTS = 1000
"""Segments a run: a room is interrupted now and then."""


def minutes_of_audio(count: int, rate: int = 16000) -> Iterator[tuple[bytes, Frames]]:
    """FLAC files of a minute each, every one different, of about 1 MB: noise of the entropy that makes them so."""
    generator = np.random.default_rng(1)
    for _ in range(count):
        yield encode(generator.normal(0.0, 95.0, 60 * rate).astype(np.int16), rate)


def blinks_of_audio(count: int, rate: int = 16000) -> Iterator[tuple[bytes, Frames]]:
    """The smallest FLAC files there are: one block of the same sound each."""
    audio = encode(np.zeros(4096, np.int16), rate)
    for _ in range(count):
        yield audio


def encode(samples: np.ndarray[tuple[int], np.dtype[np.int16]], rate: int) -> tuple[bytes, Frames]:
    """One segment's file, with its length in frames."""
    pieces: list[bytes] = []
    frames = Frames(len(samples))
    stream = FlacStream(lambda piece, _: pieces.append(piece), rate, 1, frames)
    stream.write(samples.tobytes())
    stream.finish()
    return b"".join(pieces), frames


def fill(layout: Layout, recordings: Iterable[tuple[bytes, Frames]], rate: int = 16000) -> list[Segment]:
    """Put `recordings`, one after the other up to a minute ago, into a new spool and its ledger."""
    layout.create()
    segments = list(_lay_down(layout, recordings, rate))
    enter(layout, segments)
    return segments


def enter(layout: Layout, segments: list[Segment]) -> None:
    """A new ledger that knows `segments` and nothing of what became of them."""
    for suffix in ("", "-wal", "-shm"):
        layout.ledger.with_name(layout.ledger.name + suffix).unlink(missing_ok=True)
    clock = SystemClock()
    offset_ns = clock.wall_ns() - segments[-1].end_ns - 60 * NS_PER_S
    with Ledger(layout.ledger, clock, create=True) as ledger, ledger.transaction():
        ledger.add_boot(Boot(_BOOT, offset_ns, "synchronised"))
        for segment in segments:
            ledger.seal(segment)


def _lay_down(layout: Layout, recordings: Iterable[tuple[bytes, Frames]], rate: int) -> Iterator[Segment]:
    begin_ns = NS_PER_S
    for number, (audio, frames) in enumerate(recordings):
        name = SegmentName(f"{number // _RUN_SEGMENTS:012x}", number % _RUN_SEGMENTS)
        header = Header(
            name=name,
            boot=_BOOT,
            begin_ns=begin_ns,
            wall_ns=begin_ns,
            clock="synchronised",
            rate=rate,
            channels=1,
            planned_frames=frames,
        )
        begin_ns += frames * NS_PER_S // rate
        final = Record(END, len(audio), frames, begin_ns, hashlib.sha256(audio).digest())
        layout.audio(name).write_bytes(audio)
        layout.meta(name).write_bytes((header.pack() + final.pack(0)).ljust(ROOM_BYTES, b"\0"))
        yield segment_of(header, final, ROOM_BYTES)
