"""What each parser reads on a good day."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache

from agent.recorder.flac import FlacStream
from agent.sidecar import END, SYNC, Header, Record
from agent.spool import SegmentName
from agent.status import RecorderStatus
from agent.units import Frames
from tests.cli.kiosk import ROOT
from tests.hw.trees import TOP
from tests.recorder.room import RATE, noise


@cache
def sound(name: str) -> bytes:
    """Bytes that the target of this name understands."""
    match name:
        case "kernel":
            return (TOP / "pi5/proc/self/mountinfo").read_bytes() + (TOP / "pi5/proc/swaps").read_bytes()
        case "sidecar":
            header = Header(SegmentName("0" * 12, 0), "b" * 32, 1, 2, "server", 16000, 1, 960_000)
            records = [Record(SYNC, 9, 9, 9, b"a" * 32), Record(END, 10, 10, 10, b"b" * 32)]
            return header.pack() + b"".join(record.pack(place) for place, record in enumerate(records))
        case "flac":
            pieces: list[bytes] = []
            stream = FlacStream(lambda piece, _: pieces.append(piece), RATE, 1, Frames(3 * RATE))
            stream.write(noise(2).tobytes())
            stream.finish()
            return b"".join(pieces)
        case "status":
            return json.dumps(asdict(RecorderStatus(pid=1, boot="b", state="idle", since_ns=1, updated_ns=2))).encode()
        case "configuration":
            return (ROOT / "config.example.toml").read_bytes()
        case _:
            return _WORDS[name]


_WORDS = {"names": b"0123456789ab-000007.flac", "words": b"2026-03-01 08:00 12h 8GiB 08:00-13:00"}
