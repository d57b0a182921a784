"""What each parser reads on a good day."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from agent.contract import age
from agent.recorder.flac import FlacStream
from agent.sidecar import END, SYNC, Header, Record
from agent.spool import SegmentName
from agent.status import RecorderStatus
from agent.units import Frames
from tests.cli.kiosk import ROOT
from tests.hw.trees import TOP
from tests.keys import PUBLIC
from tests.recorder.room import RATE, noise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@cache
def sound(name: str) -> bytes:  # noqa: PLR0911 (a table)
    """Bytes that the target of this name understands."""
    match name:
        case "kernel":
            return (TOP / "pi5/proc/self/mountinfo").read_bytes() + (TOP / "pi5/proc/swaps").read_bytes()
        case "sidecar":
            header = Header(SegmentName("0" * 12, 0), "b" * 32, 1, 2, "server", 16000, 1, 960_000)
            records = [Record(SYNC, 9, 9, 9, b"a" * 32), Record(END, 10, 10, 10, b"b" * 32)]
            return header.pack() + b"".join(record.pack(place) for place, record in enumerate(records))
        case "flac":
            return _flac(noise(2), Frames(3 * RATE))
        case "long flac":
            return _flac(long_sound(), Frames(len(long_sound())))
        case "encrypted":
            file = io.BytesIO()
            age.encrypt(io.BytesIO(sound("long flac")), file, [age.recipient(PUBLIC)])
            return file.getvalue()
        case "status":
            return json.dumps(asdict(RecorderStatus(pid=1, boot="b", state="idle", since_ns=1, updated_ns=2))).encode()
        case "configuration":
            return (ROOT / "config.example.toml").read_bytes()
        case _:
            return _WORDS[name]


@cache
def long_sound() -> NDArray[np.int16]:
    """Of three chunks; what is in "encrypted"."""
    return noise(18)[:, 0]


def _flac(samples: NDArray[np.int16], planned: Frames) -> bytes:
    pieces: list[bytes] = []
    stream = FlacStream(lambda piece, _: pieces.append(piece), RATE, 1, planned)
    stream.write(samples.tobytes())
    stream.finish()
    return b"".join(pieces)


_WORDS = {"names": b"0123456789ab-000007.flac", "words": b"2026-03-01 08:00 12h 8GiB 08:00-13:00"}
