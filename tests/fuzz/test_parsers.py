"""Every parser understands what it's given or refuses it with its own error (tests/fuzz/targets.py)."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.sidecar import CUT, END, SYNC, Header, Record
from agent.spool import SegmentName
from agent.status import RecorderStatus
from tests.fuzz.damage import Damage, damaged, damages
from tests.fuzz.sound import sound
from tests.fuzz.targets import TARGETS

quick = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


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
