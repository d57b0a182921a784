"""Quantities as people write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.units import ByteRate, Duration, MisreadError, Size, human_bytes, human_seconds


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("8GiB", 8 * 2**30),
        ("500MB", 500_000_000),
        ("1.5KiB", 1536),
        ("0B", 0),
        (" 2 MiB ", 2**21),
        ("1kB", 1000),
        ("1KB", 1000),
    ],
)
def test_sizes_are_read_with_their_unit(written: str, count: int) -> None:
    assert Size.parse(written) == count


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("250ms", 0.25), ("60s", 60), ("1.5m", 90), ("12h", 43200), ("30d", 2_592_000), ("2w", 1_209_600), ("0s", 0)],
)
def test_durations_are_read_with_their_unit(written: str, seconds: float) -> None:
    assert Duration.parse(written) == seconds


@pytest.mark.parametrize(("written", "count"), [("2MiB/s", 2**21), ("500 kB / s", 500_000), ("", 0), ("  ", 0)])
def test_rates_are_sizes_per_second_and_nothing_is_no_limit(written: str, count: int) -> None:
    assert ByteRate.parse(written) == count


@pytest.mark.parametrize(
    "written", ["", "8", "8 gib", "GiB", "-1GiB", "8GiB/s", "1e3MB", "8,5GiB", "٨GiB", "0x8GiB", "9" * 400 + "B"]
)
def test_what_isnt_a_size_is_refused(written: str) -> None:
    with pytest.raises(MisreadError):
        Size.parse(written)


@pytest.mark.parametrize("written", ["", "60", "60 seconds", "1h30m", "-1s", "101000d", "9" * 400 + "w"])
def test_what_isnt_a_duration_is_refused(written: str) -> None:
    with pytest.raises(MisreadError):
        Duration.parse(written)


@pytest.mark.parametrize("written", ["2MiB", "2MiB/h", "2/s", "/s", "MiB/s", "2MiB/s/s"])
def test_what_isnt_a_rate_is_refused(written: str) -> None:
    with pytest.raises(MisreadError):
        ByteRate.parse(written)


def test_a_refusal_says_what_is_wrong_and_how_to_write_it() -> None:
    with pytest.raises(MisreadError) as refused:
        Duration.parse("60")
    assert refused.value.cause == "isn't a duration"
    assert refused.value.hint == 'write a number with one of ms, s, m, h, d, w, such as "60s"'


@given(st.integers(0, 2**53))
def test_a_size_reads_back_to_the_byte(count: int) -> None:
    assert Size.parse(str(Size(count))) == count


@given(st.sampled_from(["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]), st.integers(0, 4000))
def test_a_size_in_any_unit_reads_back_to_the_byte(unit: str, count: int) -> None:
    size = Size.parse(f"{count}{unit}")
    assert Size.parse(str(size)) == size


@given(st.integers(0, 2**53))
@example(32730)  # 32.73 × 1000 is a little less in floating point
def test_a_rate_reads_back_to_the_byte(count: int) -> None:
    assert ByteRate.parse(str(ByteRate(count))) == count


@given(st.integers(0, 36_500 * 86_400 * 1000))
def test_a_duration_reads_back_to_the_nanosecond(milliseconds: int) -> None:
    duration = Duration(milliseconds / 1000)
    assert Duration.parse(str(duration)).ns == duration.ns


def test_quantities_are_written_short() -> None:
    assert [str(Size(count)) for count in (8 * 2**30, 500_000_000, 100 * 1024, 1000)] == [
        "8GiB",
        "500MB",
        "100KiB",
        "1kB",
    ]
    assert [str(Duration(seconds)) for seconds in (0, 90, 600, 5400, 2_592_000, 0.25)] == [
        "0s",
        "90s",
        "10m",
        "90m",
        "30d",
        "0.25s",
    ]


def test_sizes_for_reading_have_no_exponent() -> None:
    shown = [human_bytes(count) for count in (0, 1023, 1024, 1010 * 1024, 2**30 * 195 // 100, 5 * 2**50)]
    assert shown == ["0 B", "1023 B", "1 KiB", "1010 KiB", "1.95 GiB", "5120 TiB"]


def test_times_for_reading_have_two_parts() -> None:
    assert [human_seconds(seconds) for seconds in (0.2, 245, 7200, 183_600)] == ["0.2 s", "4 min 5 s", "2 h", "2 d 3 h"]
