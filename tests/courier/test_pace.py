from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.courier.pace import Gone, Interrupted, Pace, TokenBucket, Unreadable
from agent.units import NS_PER_S
from tests.clocks import FakeClock

MEBIBYTE = 1 << 20


@given(
    rate=st.integers(1000, 10_000_000),
    reads=st.lists(st.tuples(st.integers(1, 200_000), st.integers(0, 2 * NS_PER_S)), min_size=2, max_size=50),
)
def test_no_interval_lets_through_more_than_the_rate_and_one_read(rate: int, reads: list[tuple[int, int]]) -> None:
    bucket = TokenBucket(rate)
    now_ns, gone_out = 0, []
    for count, pause_ns in reads:
        now_ns += pause_ns
        now_ns += bucket.reserve(count, now_ns)
        gone_out.append((now_ns, count))
    for first in range(len(gone_out)):
        for last in range(first, len(gone_out)):
            seconds = (gone_out[last][0] - gone_out[first][0]) / NS_PER_S
            sent = sum(count for _, count in gone_out[first:last])
            assert sent <= rate * seconds + 1e-3 * rate


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording.flac"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


@pytest.mark.parametrize("files", [1, 3])
def test_the_ceiling_is_for_all_files_together(recording: Path, clock: FakeClock, files: int) -> None:
    pace = Pace(MEBIBYTE // 4, clock, threading.Event())
    began_ns = clock.monotonic_ns()
    opened = [pace.open(recording) for _ in range(files)]
    left = list(opened)
    content = dict.fromkeys(opened, b"")
    while left:
        for file in list(left):
            block = file.read(128 * 1024)
            content[file] += block
            if not block:
                left.remove(file)
    for file in opened:
        assert content[file] == recording.read_bytes()
        file.close()
    seconds = (clock.monotonic_ns() - began_ns) / NS_PER_S
    assert seconds == pytest.approx(4 * files, rel=0.05)


def test_a_low_ceiling_means_small_reads_instead_of_long_silence(recording: Path, clock: FakeClock) -> None:
    with Pace(32 * 1024, clock, threading.Event()).open(recording) as file:
        assert len(file.read(128 * 1024)) == 4096


def test_without_a_ceiling_nobody_waits(recording: Path, clock: FakeClock) -> None:
    began_ns = clock.monotonic_ns()
    with Pace(0, clock, threading.Event()).open(recording) as file:
        assert b"".join(iter(lambda: file.read(128 * 1024), b"")) == recording.read_bytes()
    assert clock.monotonic_ns() == began_ns


def test_what_goes_out_at_once_is_short_enough_for_a_slow_line_to_take_it_in_time(
    recording: Path, clock: FakeClock
) -> None:
    with Pace(0, clock, threading.Event()).open(recording) as file:
        assert len(file.read(128 * 1024)) == 32 * 1024


@pytest.mark.parametrize("rate", [0, 1000])
def test_an_ending_process_interrupts_every_read(recording: Path, clock: FakeClock, rate: int) -> None:
    stop = threading.Event()
    with Pace(rate, clock, stop).open(recording) as file:
        file.read(10)
        stop.set()
        with pytest.raises(Interrupted):
            file.read(10)
        assert isinstance(file.failure, Interrupted)


def test_a_file_that_was_evicted_is_gone(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(Gone, match=r"absent\.flac"):
        Pace(0, clock, threading.Event()).open(tmp_path / "absent.flac")


def test_a_file_that_the_card_does_not_give_out_is_unreadable(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(Unreadable, match="card"):
        Pace(0, clock, threading.Event()).open(tmp_path)
