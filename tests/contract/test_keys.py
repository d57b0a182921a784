from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.keys import Recording, timestamp, utc

RECORDING = Recording(
    run="0123456789ab",
    seq=7,
    start_ns=1_772_352_000_250_999_999,
    frames=960_000,
    rate=16000,
    channels=1,
    boot="b" * 32,
    clock="synchronised",
    truncated=False,
    sha256="00112233445566778899aabbccddeeff" * 2,
    suffix=".flac",
)


def test_a_key_tells_place_time_identity_and_content() -> None:
    assert RECORDING.key("clinics/rooms", "north", "room-12") == (
        "clinics/rooms/north/room-12/2026/03/01/20260301T080000Z_0123456789ab_000007_0011223344556677.flac"
    )


@pytest.mark.parametrize("prefix", ["", "/"])
def test_without_a_prefix_a_key_begins_with_the_site(prefix: str) -> None:
    assert RECORDING.key(prefix, "north", "room-12").startswith("north/room-12/2026/")


def test_the_metadata_says_what_the_ledger_knows() -> None:
    assert RECORDING.metadata() == {
        "kr-run": "0123456789ab",
        "kr-seq": "7",
        "kr-frames": "960000",
        "kr-rate": "16000",
        "kr-channels": "1",
        "kr-start": "2026-03-01T08:00:00.250Z",
        "kr-boot": "b" * 32,
        "kr-clock": "synchronised",
        "kr-truncated": "false",
        "kr-meta-version": "1",
    }


@given(st.integers(min_value=-(10**18), max_value=4 * 10**18))
def test_a_time_is_exact_to_the_microsecond_and_never_in_the_future(wall_ns: int) -> None:
    found = utc(wall_ns)
    whole = (found - utc(0)).total_seconds()
    assert 0 <= wall_ns - round(whole * 1_000_000) * 1000 < 1000
    assert timestamp(wall_ns).endswith("Z")
