from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sidecar import CUT, END, HEADER_BYTES, RECORD_BYTES, SYNC, Header, Record, SidecarDamaged, read_sidecar
from agent.spool import SegmentName

HEADER = Header(
    name=SegmentName("0123456789ab", 41),
    boot="b" * 32,
    begin_ns=123,
    wall_ns=-456,
    clock="server",
    rate=16000,
    channels=2,
    planned_frames=960_000,
    provisional=True,
)
RECORDS = (
    Record(SYNC, 100, 4096, 1000, b"a" * 32),
    Record(SYNC, 200, 8192, 2000, b"b" * 32),
    Record(END, 250, 9000, 2500, b"c" * 32),
)
WHOLE = HEADER.pack() + b"".join(record.pack(position) for position, record in enumerate(RECORDS))


def sidecar(data: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN201 - the reader's own type
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.meta"
        path.write_bytes(data)
        return read_sidecar(path)


def test_what_is_packed_comes_back() -> None:
    found = sidecar(WHOLE)
    assert found.header == HEADER
    assert found.records == RECORDS
    assert found.end == RECORDS[-1]


def test_the_layout_is_the_documented_one() -> None:
    assert (HEADER_BYTES, RECORD_BYTES) == (128, 64)
    assert WHOLE[:8] == b"KRMETA1\n"
    assert WHOLE[8:24] == bytes.fromhex("b" * 32)
    assert int.from_bytes(WHOLE[44:48], "little") == 16000
    assert WHOLE[60:66].hex() == "0123456789ab"


@pytest.mark.parametrize("length", range(HEADER_BYTES, len(WHOLE)))
def test_a_torn_tail_ends_at_the_last_whole_record(length: int) -> None:
    assert sidecar(WHOLE[:length]).records == RECORDS[: (length - HEADER_BYTES) // RECORD_BYTES]


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_never_believed(position: int, flip: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[position] ^= flip
    try:
        found = sidecar(bytes(damaged))
    except SidecarDamaged:
        assert position < HEADER_BYTES
        return
    assert position >= HEADER_BYTES
    flipped = (position - HEADER_BYTES) // RECORD_BYTES
    assert found.records == RECORDS[:flipped] + RECORDS[flipped + 1 :]
    assert found.places == tuple(place for place in range(len(RECORDS)) if place != flipped)
    assert found.garbled
    assert (found.end is None) == (flipped == len(RECORDS) - 1)


@pytest.mark.parametrize(
    "impossible",
    [
        {"planned_frames": 2**36},
        {"begin_ns": 2**62},
        {"begin_ns": -(2**62)},
        {"wall_ns": 2**63 - 1},
        {"rate": 0},
        {"channels": 0},
    ],
)
def test_a_stranger_who_knows_the_format_is_not_believed_everything(impossible: dict[str, int]) -> None:
    with pytest.raises(SidecarDamaged, match="impossible"):
        sidecar(replace(HEADER, **impossible).pack())  # type: ignore[arg-type]


def test_more_frames_than_were_planned_are_not_believed() -> None:
    longer = replace(RECORDS[0], frames=HEADER.planned_frames + 1)
    assert sidecar(HEADER.pack() + longer.pack(0)).records == ()


def test_room_for_records_that_were_not_written_is_not_garbled() -> None:
    assert not sidecar(WHOLE.ljust(4096, b"\0")).garbled
    assert not sidecar(HEADER.pack().ljust(4096, b"\0")).garbled


def test_a_record_in_another_place_is_not_believed() -> None:
    swapped = HEADER.pack() + RECORDS[1].pack(1) + RECORDS[0].pack(0)
    assert sidecar(swapped).records == ()


@given(st.binary(max_size=600))
def test_garbage_raises_nothing_but_its_own_error(data: bytes) -> None:
    try:
        sidecar(data)
    except SidecarDamaged:
        return
    pytest.fail("garbage was believed")


def test_a_cut_record_is_final_and_says_truncated() -> None:
    assert Record(CUT, 1, 1, 1, b"x" * 32).final
    assert not Record(SYNC, 1, 1, 1, b"x" * 32).final
