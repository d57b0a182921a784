from __future__ import annotations

from agent.courier.activity import Activity, SlidingWindow
from tests.clocks import FakeClock


def test_without_uploads_there_is_no_rate(clock: FakeClock) -> None:
    rates = Activity(clock).rates()
    assert (rates.success_pct, rates.speed_bytes_per_s, rates.retries_avg) == (None, None, None)


def test_rates_are_of_finished_attempts(clock: FakeClock) -> None:
    activity = Activity(clock)
    for _ in range(4):
        activity.began()
    assert activity.active == 4
    activity.failed()
    activity.succeeded(1000, 2.0)
    activity.succeeded(3000, 2.0)
    activity.abandoned()
    assert activity.active == 0
    rates = activity.rates()
    assert rates.success_pct is not None
    assert round(rates.success_pct, 1) == 66.7
    assert rates.speed_bytes_per_s == 1000
    assert rates.retries_avg == 0.5


def test_an_hour_later_nothing_of_it_counts_any_more(clock: FakeClock) -> None:
    activity = Activity(clock)
    activity.began()
    activity.failed()
    clock.advance(3500)
    assert activity.rates().success_pct == 0
    clock.advance(200)
    assert activity.rates().success_pct is None


def test_what_was_counted_is_handed_over_once(clock: FakeClock) -> None:
    activity = Activity(clock)
    activity.began()
    activity.failed()
    activity.began()
    activity.succeeded(1, 1.0)
    assert activity.take_uncounted() == {"upload_attempts_total": 2, "upload_failures_total": 1}
    assert activity.take_uncounted() == {}


def test_a_window_grows_with_time_and_not_with_what_happens() -> None:
    window = SlidingWindow()
    for second in range(20_000):
        window.add(second, {"attempts": 1})
    assert 3540 <= window.sums(20_000)["attempts"] <= 3600
    assert len(window._slices) <= 61  # noqa: SLF001 (that it is bounded is what this is about)
