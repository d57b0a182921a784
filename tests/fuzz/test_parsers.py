"""Every parser understands what it's given or refuses it with its own error (tests/fuzz/targets.py)."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from functools import cache

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.recorder.flac import FlacStream
from agent.sidecar import CUT, END, SYNC, Header, Record
from agent.spool import SegmentName
from agent.status import RecorderStatus
from agent.units import Frames
from tests.cli.kiosk import ROOT
from tests.fuzz.damage import Damage, damaged, damages
from tests.fuzz.targets import TARGETS
from tests.recorder.room import RATE, noise

quick = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@cache
def sound(name: str) -> bytes:
    """What each parser reads on a good day."""
    match name:
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
        case "names":
            return b"0123456789ab-000007.flac"
        case _:
            return b"2026-03-01 08:00 12h 8GiB 08:00-13:00"


@pytest.mark.parametrize("name", TARGETS)
@quick
@given(data=st.binary(max_size=2000))
@example(data=b"[" * 100_000)
@example(data=b"a=" + b"[" * 100_000)
@example(data=b"a=" + b"9" * 10_000)
@example(data=b'{"pid":' * 50_000)
@example(data=b"\xff\xfe" * 10)
@example(data="９GiB ٣:٠٠".encode())
def test_garbage_is_refused(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@quick
@given(changes=damages())
def test_what_went_bad_is_understood_or_refused(name: str, changes: list[Damage]) -> None:
    TARGETS[name](damaged(sound(name), changes))


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_sound_is_understood(name: str) -> None:
    TARGETS[name](sound(name))


Longs = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**36, 2**63 - 1, 2**64 - 1])
Times = st.integers(-(2**63), 2**63 - 1)


@quick
@given(
    header=st.builds(
        Header,
        name=st.builds(SegmentName, st.just("0123456789ab"), st.integers(0, 2**32 - 1)),
        boot=st.just("b" * 32),
        begin_ns=Times,
        wall_ns=Times,
        clock=st.sampled_from(["unsynchronised", "server", "synchronised"]),
        rate=st.integers(0, 2**32 - 1),
        channels=st.integers(0, 2**16 - 1),
        planned_frames=Longs,
        provisional=st.booleans(),
    ),
    records=st.lists(
        st.builds(
            Record, st.sampled_from([SYNC, END, CUT, 7]), Longs, Longs, Times, st.binary(min_size=32, max_size=32)
        ),
        max_size=4,
    ),
)
def test_a_sidecar_by_somebody_who_knows_the_format_is_understood_or_refused(
    header: Header, records: list[Record]
) -> None:
    TARGETS["sidecar"](header.pack() + b"".join(record.pack(place) for place, record in enumerate(records)))


Values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers())


@quick
@given(values=st.fixed_dictionaries({}, optional={field.name: Values for field in fields(RecorderStatus)}))
def test_a_status_picture_of_the_wrong_things_is_none(values: dict[str, object]) -> None:
    TARGETS["status"](json.dumps(json.loads(sound("status")) | values).encode())
