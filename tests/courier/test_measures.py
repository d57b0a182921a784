from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import agent
from agent.contract.messages import Value
from agent.contract.metrics import METRICS, NAMES
from agent.courier.activity import Activity
from agent.courier.measures import STALE_S, Measures
from agent.courier.stock import Stock, Stocktaker, stock_in_memory, take_stock
from agent.hours import Hours
from agent.ledger import Boot
from agent.status import RecorderStatus, write_status
from hw.storage import Card
from tests.clocks import BOOT, FakeClock
from tests.courier.kiosk import Kiosk
from tests.hw.trees import TOP as TREES


class Desk:
    """Measures of a kiosk whose recorder is played by the test."""

    def __init__(
        self, kiosk: Kiosk, runtime: Path, root: Path = Path("/"), target: str = "file:///x", **upload: object
    ) -> None:
        self.kiosk = kiosk
        self.runtime = runtime
        runtime.mkdir()
        self.activity = Activity(kiosk.clock)
        self.direct: Stock | None = None
        settings = kiosk.settings(target, **upload)  # type: ignore[arg-type]
        self._measures = Measures(settings, self.activity, kiosk.clock, runtime, root=root)

    def read(self) -> dict[str, Value]:
        return self._measures.read(take_stock(self.kiosk.layout, self.kiosk.clock), self.direct)

    def of(self, card: Stock) -> dict[str, Value]:
        return self._measures.read(card, None)

    def nothing(self) -> dict[str, Value]:
        """What is told when neither path's stock could be taken."""
        return self._measures.read(None, None)

    def recorder(self, **changed: object) -> None:
        """The recorder renews its picture."""
        now_ns = self.kiosk.clock.monotonic_ns()
        status = RecorderStatus(
            pid=os.getpid(),
            boot=BOOT,
            state="recording",
            since_ns=0,
            updated_ns=now_ns,
            level_rms_dbfs=-40.5,
            level_peak_dbfs=-20.0,
            clipped_pct=0.0,
            spool_bytes=12345,
            spool_bytes_open=345,
            fsync_p99_ms=7.5,
            drift_ppm=-12.0,
        )
        write_status(self.runtime, replace(status, **changed))  # type: ignore[arg-type]


@pytest.fixture
def desk(kiosk: Kiosk, tmp_path: Path) -> Desk:
    return Desk(kiosk, tmp_path / "run")


def test_every_metric_of_the_table_is_measured_and_no_other(desk: Desk) -> None:
    for with_recorder in (False, True):
        if with_recorder:
            desk.recorder()
        assert desk.read().keys() == set(NAMES)


def test_text_is_text_and_everything_else_is_a_number_or_null(desk: Desk) -> None:
    desk.recorder()
    values = desk.read()
    for metric in METRICS:
        value = values[metric.name]
        assert value is None or isinstance(value, str if metric.kind == "text" else int | float)
        assert not isinstance(value, bool)


def test_a_kiosk_that_has_done_nothing_claims_no_rates(desk: Desk) -> None:
    values = desk.read()
    rates = ("upload_success_rate_pct", "error_rate_pct", "upload_speed_bytes_per_s", "upload_retries_avg")
    for name in (*rates, "recording_duration_avg_s", "oldest_pending_s"):
        assert values[name] is None, name
    assert values["queue_length"] == 0
    assert values["captured_seconds_total"] == 0


def test_the_recorders_picture_is_passed_on_while_it_is_fresh(desk: Desk, clock: FakeClock) -> None:
    desk.recorder()
    values = desk.read()
    assert values["recorder_state"] == "recording"
    assert values["level_rms_dbfs"] == -40.5
    assert values["spool_bytes"] == 12345
    assert values["clock_drift_ppm"] == -12.0
    clock.advance(STALE_S)
    values = desk.read()
    assert values["recorder_state"] == "absent"
    assert values["level_rms_dbfs"] is None
    assert values["spool_bytes"] is None


def test_a_picture_from_before_the_reboot_does_not_count(desk: Desk) -> None:
    desk.recorder(boot="e" * 32)
    assert desk.read()["recorder_state"] == "absent"


def test_both_processes_memory_counts(desk: Desk) -> None:
    alone = desk.read()["memory_rss_bytes"]
    desk.recorder(memory_rss_bytes=10**12)
    both = desk.read()["memory_rss_bytes"]
    assert isinstance(alone, int)
    assert isinstance(both, int)
    assert both - 10**12 > 0.5 * alone > 1_000_000


def test_the_queue_is_what_is_pending_and_its_age_that_of_the_oldest(
    kiosk: Kiosk, desk: Desk, clock: FakeClock
) -> None:
    first, second, _third = kiosk.record(3, seconds=0.5)
    clock.advance(60.5)
    kiosk.ledger.acknowledge(second.name, "stored")
    values = desk.read()
    assert values["queue_length"] == 2
    assert values["oldest_pending_s"] == 60
    assert values["spool_bytes_acknowledged"] == second.bytes + second.meta_bytes
    pending = values["spool_bytes_pending"]
    assert isinstance(pending, int)
    assert pending > first.bytes


def test_the_age_of_an_earlier_boots_recording_goes_by_wall_time(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    kiosk.record(1, seconds=0.5)
    clock.reboot("c" * 32, off_s=3600)
    kiosk.ledger.add_boot(Boot("c" * 32, clock.wall_ns() - clock.monotonic_ns(), "synchronised"))
    assert desk.read()["oldest_pending_s"] == 3599.5


def test_what_waits_for_its_hours_is_not_due(kiosk: Kiosk, tmp_path: Path, clock: FakeClock) -> None:
    desk = Desk(kiosk, tmp_path / "run", hours=(Hours.parse("20:00-06:00"),))  # the clock says 08:00
    kiosk.record(2)
    values = desk.read()
    assert (values["queue_length"], values["spool_bytes_due"]) == (0, 0)
    clock.advance(12 * 3600)
    values = desk.read()
    assert (values["queue_length"], values["spool_bytes_due"]) == (2, values["spool_bytes_pending"])


def test_where_nothing_is_uploaded_nothing_is_due(kiosk: Kiosk, tmp_path: Path, clock: FakeClock) -> None:
    kiosk.record(2)
    measures = Measures(kiosk.settings(), Activity(clock), clock, tmp_path)
    values = measures.read(take_stock(kiosk.layout, clock), None)
    assert (values["queue_length"], values["spool_bytes_due"]) == (0, 0)
    assert values["spool_bytes_pending"]


def test_hours_and_ages_go_by_the_time_that_is_known_not_by_the_machines(
    kiosk: Kiosk, tmp_path: Path, clock: FakeClock
) -> None:
    """The clock says 08:00 and is never synchronised; by the store's clock it is 20:00."""
    desk = Desk(kiosk, tmp_path / "run", hours=(Hours.parse("20:00-06:00"),))
    kiosk.record(1, seconds=0.5)
    clock.reboot("c" * 32, off_s=3600)
    kiosk.ledger.add_boot(Boot("c" * 32, clock.wall_ns() - clock.monotonic_ns() + 12 * 3600 * 10**9, "server"))
    values = desk.read()
    assert values["queue_length"] == 1
    assert values["oldest_pending_s"] == 13 * 3600 - 0.5


def test_the_error_rate_is_of_the_last_hour(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    kiosk.ledger.count(segments_total=1000, segment_errors_total=500)
    assert desk.read()["error_rate_pct"] is None, "what was before the courier started can't be placed in time"
    kiosk.ledger.count(segments_total=8, segment_errors_total=2)
    clock.advance(30)
    assert desk.read()["error_rate_pct"] == 25
    clock.advance(3700)
    assert desk.read()["error_rate_pct"] is None


def test_counters_and_their_mean_come_from_the_ledger(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.ledger.count(captured_seconds_total=90.5, recordings_total=4, gap_count=3, evicted_unsent_total=1)
    values = desk.read()
    assert values["captured_seconds_total"] == 90.5
    assert values["recording_duration_avg_s"] == 22.625
    assert values["gap_count"] == 3
    assert values["evicted_unsent_total"] == 1


def test_the_machine_is_asked(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    (kiosk.layout.quarantine / "x").write_bytes(b"12345")
    values = desk.read()
    assert values["spool_bytes_quarantine"] == 5
    assert values["clock_synchronised"] == 1
    assert values["uptime_s"] == round(clock.monotonic_ns() / 1e9)
    assert values["version"] == agent.__version__
    free = values["disk_free_bytes"]
    assert isinstance(free, int)
    assert free > 0
    clock.is_synchronised = False
    assert desk.read()["clock_synchronised"] == 0


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ("pi3", {"cpu_temp_c": 47.8, "undervoltage": 1, "throttled": None, "memory_available_bytes": 671836 << 10}),
        ("pi5", {"cpu_temp_c": 65.0, "undervoltage": 0, "throttled": None, "memory_available_bytes": 4257904 << 10}),
        ("not-a-pi", {"cpu_temp_c": None, "undervoltage": None, "throttled": None}),
    ],
)
def test_the_board_is_asked(kiosk: Kiosk, tmp_path: Path, tree: str, told: dict[str, Value]) -> None:
    values = Desk(kiosk, tmp_path / "run", TREES / tree).read()
    assert {name: values[name] for name in told} == told
    assert not any(isinstance(values[name], bool) for name in told)


def test_the_card_is_asked_with_its_stock(kiosk: Kiosk, desk: Desk) -> None:
    stock = take_stock(kiosk.layout, kiosk.clock)
    emmc = Card("eMMC", "DG4016", "0x000045", "2022-01", 30, "normal")
    told = replace(stock.storage, errors=2, written_bytes=12345, card=emmc)
    values = desk.of(replace(stock, storage=told))
    assert values["disk_errors_total"] == 2
    assert values["disk_written_bytes_total"] == 12345
    assert values["card_life_used_pct"] == 30
    assert desk.of(replace(stock, storage=replace(told, card=None)))["card_life_used_pct"] is None


def test_uploads_of_the_last_hour_show(desk: Desk) -> None:
    desk.activity.began()
    desk.activity.failed()
    desk.activity.began()
    desk.activity.succeeded(3000, 2.0)
    desk.activity.began()
    values = desk.read()
    assert values["upload_success_rate_pct"] == 50
    assert values["upload_speed_bytes_per_s"] == 1500
    assert values["upload_retries_avg"] == 1
    assert values["active_uploads"] == 1


def test_both_paths_count_and_what_the_card_has_taken_over_counts_once(
    kiosk: Kiosk, desk: Desk, tmp_path: Path
) -> None:
    kiosk.record(2)
    kiosk.ledger.count(segments_total=2, captured_seconds_total=1)
    memory = Kiosk(tmp_path / "direct", kiosk.clock)
    memory.record(3, run="ba9876543210")
    memory.ledger.count(segments_total=3, captured_seconds_total=1.5)
    desk.direct = stock_in_memory(memory.layout, kiosk.clock)
    values = desk.read()
    assert (values["segments_total"], values["captured_seconds_total"], values["queue_length"]) == (5, 2.5, 5)
    card_before = take_stock(kiosk.layout, kiosk.clock)
    kiosk.ledger.count(segments_total=3, captured_seconds_total=1.5)
    memory.ledger.went_home({"segments_total": 3.0, "captured_seconds_total": 1.5})
    memory.ledger.count(segments_total=1)
    desk.direct = stock_in_memory(memory.layout, kiosk.clock)
    assert desk.of(card_before)["segments_total"] == 5, "what went home while we looked is not taken back"
    assert desk.read()["segments_total"] == 6
    assert desk.read()["error_rate_pct"] == 0, "and it was not sealed twice"


def test_counters_never_go_back_unless_the_ledger_was_lost(kiosk: Kiosk, desk: Desk, tmp_path: Path) -> None:
    kiosk.ledger.count(segments_total=100, segment_errors_total=1)
    before = desk.read()
    stock = take_stock(kiosk.layout, kiosk.clock)
    fewer = replace(stock, counters={**stock.counters, "segments_total": 90})
    assert desk.of(fewer)["segments_total"] == 100
    another = Kiosk(tmp_path / "another", kiosk.clock)
    another.ledger.count(segments_total=3, segment_errors_total=3)
    after = desk.of(take_stock(another.layout, kiosk.clock))
    assert after["segments_total"] == 3
    assert after["error_rate_pct"] is None, "what was rebuilt did not happen in this hour"
    assert str(before["custody_head"]).partition("-")[0] != str(after["custody_head"]).partition("-")[0]


def test_what_a_card_had_counted_before_it_answered_is_not_of_this_hour(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.ledger.count(segments_total=100, segment_errors_total=50)
    assert desk.nothing()["error_rate_pct"] is None
    assert desk.read()["error_rate_pct"] is None


def test_the_custody_head_is_the_journals_newest_entry(kiosk: Kiosk, desk: Desk) -> None:
    told = desk.read()["custody_head"]
    (segment,) = kiosk.record(1)
    seq, digest = kiosk.ledger.head()
    assert desk.read()["custody_head"] == f"{kiosk.ledger.epoch()}-{seq}-{digest.hex()[:16]}" != told
    kiosk.ledger.acknowledge(segment.name, "stored")
    assert str(desk.read()["custody_head"]).split("-")[1] == str(seq + 1)


def test_without_a_target_nothing_is_due(kiosk: Kiosk, tmp_path: Path) -> None:
    kiosk.record(2)
    desk = Desk(kiosk, tmp_path / "run", target="")
    assert desk.read()["queue_length"] == 0
    assert desk.read()["spool_bytes_pending"] != 0


def test_the_cap_is_that_of_the_path_in_use(desk: Desk) -> None:
    desk.recorder()
    on_card = desk.read()["spool_cap_bytes"]
    desk.recorder(path="direct")
    assert (on_card, desk.read()["spool_cap_bytes"]) == (8 * 2**30, 64 * 2**20)


def test_nothing_was_sealed_yet_is_no_mean_of_zero(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.ledger.count(recordings_total=1)
    assert desk.read()["recording_duration_avg_s"] is None


def test_every_rate_is_null_again_an_hour_after_the_last_upload(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    rates = ("upload_success_rate_pct", "error_rate_pct", "upload_speed_bytes_per_s", "upload_retries_avg")
    desk.read()
    for finish in (desk.activity.failed, lambda: desk.activity.succeeded(3000, 2.0)):
        desk.activity.began()
        finish()
    kiosk.ledger.count(segments_total=4, segment_errors_total=1)
    assert {name: desk.read()[name] for name in rates} == dict(zip(rates, (50, 25, 1500, 1), strict=True))
    clock.advance(3500)
    assert desk.read()["upload_success_rate_pct"] == 50
    clock.advance(200)
    assert [desk.read()[name] for name in rates] == [None] * 4


def test_null_is_said_only_where_the_table_says_so(desk: Desk) -> None:
    for values in (desk.nothing(), desk.read()):
        assert {name for name, value in values.items() if value is None} <= {
            metric.name for metric in METRICS if metric.null
        }


def test_a_card_that_never_answered_leaves_null_what_only_it_could_tell(desk: Desk) -> None:
    values = desk.nothing()
    assert values.keys() == set(NAMES)
    assert values["captured_seconds_total"] is None
    assert values["queue_length"] is None
    assert values["spool_bytes_pending"] is None
    for name in ("disk_free_bytes", "disk_written_bytes_total", "disk_errors_total", "card_life_used_pct"):
        assert values[name] is None, name


def test_a_card_that_is_stuck_keeps_nobody_waiting_for_ever(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, stuck = threading.Event(), threading.Event()
    stocktaker = Stocktaker(kiosk.layout, kiosk.clock, stop)
    thread = threading.Thread(target=stocktaker.run)
    thread.start()
    kiosk.record(1)
    before = stocktaker.ask()
    assert before is not None
    assert before.pending.count == 1
    monkeypatch.setattr("agent.courier.stock.take_stock", lambda *_: stuck.wait(60))
    monkeypatch.setattr("agent.courier.stock._PATIENCE_S", 0.05)
    assert stocktaker.ask() is before
    stuck.set()
    stop.set()
    stocktaker.wake()
    thread.join(10)
    assert not thread.is_alive()
