"""The dispatcher alone, step by step: the test plays the workers and owns the clock."""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from queue import Empty

import pytest

from agent.courier.activity import Activity
from agent.courier.dispatcher import Dispatcher
from agent.courier.due import BATCH
from agent.courier.standing import DELAYS_S
from agent.courier.targets import ClockRefused, NeedsPerson, TargetError, Unreachable
from agent.courier.worker import Job, Lines, Outcome, Report
from agent.errors import KioskError
from agent.hours import Hours
from agent.ledger import Boot, Ledger, Segment
from agent.units import NS_PER_S, Duration
from tests.clocks import FakeClock
from tests.courier.kiosk import Kiosk
from tests.courier.scripted import ScriptedTarget

OTHER_RUN = "f" * 12


class Desk:
    """A dispatcher and the test's hand on both ends of its lines."""

    def __init__(self, kiosk: Kiosk, *, timezone: str = "UTC", **upload: object) -> None:
        self.kiosk = kiosk
        self.target = ScriptedTarget()
        self.lines = Lines()
        self.activity = Activity(kiosk.clock)
        settings = kiosk.settings("s3://bucket/rooms", **({"clock_wait": Duration(0)} | upload))  # type: ignore[arg-type]
        settings = replace(settings, device=replace(settings.device, timezone=timezone))
        self.ledger = Ledger(kiosk.layout.ledger, kiosk.clock)
        self.dispatcher = Dispatcher(
            self.ledger, kiosk.layout, self.target, settings, self.lines, self.activity, kiosk.clock
        )

    def step(self) -> list[Job]:
        """One turn; the jobs it handed out."""
        self.dispatcher.step(0)
        jobs: list[Job] = []
        while True:
            try:
                job = self.lines.jobs.get_nowait()
            except Empty:
                return jobs
            assert job is not None
            jobs.append(job)

    def report(self, job: Job, outcome: Outcome = "stored", error: KioskError | None = None) -> None:
        """As a worker would."""
        self.lines.reports.put(Report(job, outcome, error))

    def drain(self) -> list[int]:
        """Let everything arrive; the sequence numbers in the order in which they went out."""
        went: list[int] = []
        for _ in range(1000):
            jobs = self.step()
            if not jobs and not self.kiosk.ledger.tally().get("pending"):
                return went
            went += numbers(jobs)
            for job in jobs:
                self.report(job)
        pytest.fail("it never ends")


def numbers(jobs: list[Job]) -> list[int]:
    return [job.segment.seq for job in jobs]


def refusal(kind: type[TargetError] = NeedsPerson) -> TargetError:
    return kind("upload to", place="there", cause="403", hint="ask somebody", retryable=True)


@pytest.fixture
def desk(kiosk: Kiosk) -> Desk:
    return Desk(kiosk)


def test_a_key_is_fixed_durably_before_the_job_goes_out(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.record()
    (job,) = desk.step()
    (known,) = kiosk.ledger.segments()
    assert known.key == job.outgoing.key
    assert known.key_clock == "synchronised"
    assert known.key is not None
    assert known.key.startswith("rooms/north/room-12/2027/01/15/20270115T080000Z_0123456789ab_000000_")
    assert job.outgoing.metadata["kr-start"] == "2027-01-15T08:00:00.000Z"


def test_a_key_never_changes_whatever_the_clock_does_later(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.record()
    (job,) = desk.step()
    kiosk.ledger.retime(Boot(kiosk.clock.boot, 0, "synchronised"))
    (again,) = Desk(kiosk).step()
    assert again.outgoing.key == job.outgoing.key


def test_what_arrived_is_acknowledged_and_counted(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.record(3, seconds=0.5)
    jobs = desk.step()
    desk.report(jobs[0], "stored")
    desk.report(jobs[1], "already_there")
    desk.report(jobs[2], "stored")
    desk.step()
    assert kiosk.states() == ["acknowledged"] * 3
    assert [segment.reason for segment in kiosk.ledger.segments()] == ["stored", "already_there", "stored"]
    counters = kiosk.ledger.counters()
    assert counters["uploaded_total"] == 3
    assert counters["verified_seconds_total"] == pytest.approx(1.5)
    assert kiosk.ledger.broken_link() is None


def test_acknowledgements_wait_for_company_but_not_for_long(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    kiosk.record(3)
    jobs = desk.step()
    desk.report(jobs[0])
    desk.step()
    assert kiosk.states().count("acknowledged") == 0
    clock.advance(1.1)
    desk.step()
    assert kiosk.states().count("acknowledged") == 1


@pytest.mark.parametrize(("order", "wanted"), [("oldest", [0, 1, 2, 3, 4]), ("newest", [4, 3, 2, 1, 0])])
def test_recordings_go_out_in_the_chosen_order(kiosk: Kiosk, order: str, wanted: list[int]) -> None:
    kiosk.record(5)
    assert Desk(kiosk, order=order).drain() == wanted


def test_newest_first_holds_for_what_is_sealed_meanwhile(kiosk: Kiosk) -> None:
    desk = Desk(kiosk, order="newest", parallel=1)
    kiosk.record(10)
    first = desk.step()
    assert numbers(first) == [9, 8]
    kiosk.record(1, first=10)
    for job in first:
        desk.report(job)
    assert numbers(desk.step())[0] == 10


def test_every_recording_goes_out_once_however_many_there_are(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.record(3 * BATCH // 2, seconds=0.01)
    assert desk.drain() == list(range(3 * BATCH // 2))
    assert desk.dispatcher.passed_over is None


def test_what_is_on_its_way_is_not_sent_twice(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.record(2)
    assert len(desk.step()) == 2
    kiosk.record(1, run=OTHER_RUN)
    assert len(desk.step()) == 1
    assert desk.step() == []


def test_a_late_courier_catches_up_in_few_commits(kiosk: Kiosk, desk: Desk) -> None:
    kiosk.record(2 * BATCH, seconds=0.01)
    before = kiosk.ledger.change_mark()
    commits = 0
    for _ in range(200):
        for job in desk.step():
            desk.report(job)
        after = kiosk.ledger.change_mark()
        commits += after != before
        before = after
    assert kiosk.states() == ["acknowledged"] * 2 * BATCH
    assert commits <= 8


def test_recordings_wait_for_their_hours(kiosk: Kiosk, clock: FakeClock) -> None:
    desk = Desk(kiosk, hours=(Hours.parse("20:00-06:00"),))  # the clock says 08:00
    kiosk.record()
    assert desk.step() == []
    assert desk.lines.closed.is_set()
    clock.advance(12 * 3600 - 1)
    assert desk.step() == []
    clock.advance(1)
    assert len(desk.step()) == 1
    assert not desk.lines.closed.is_set()
    clock.advance(10 * 3600)
    kiosk.record(1, first=1)
    assert desk.step() == []


def test_one_refusal_that_needs_a_person_holds_everything(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    kiosk.record(20)
    for job in desk.step():
        desk.report(job, "deferred", refusal())
    assert desk.step() == []
    assert desk.lines.held.is_set()
    clock.advance(DELAYS_S[0] - 1)
    assert desk.step() == []
    clock.advance(1)
    (probe,) = desk.step()
    assert probe.probe
    assert desk.step() == [], "one asks for all"
    desk.report(probe, "stored")
    assert len(desk.step()) > 1
    assert not desk.lines.held.is_set()


def test_every_further_refusal_waits_longer_up_to_a_ceiling(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    kiosk.record()
    (job,) = desk.step()
    waits = []
    for _ in range(6):
        desk.report(job, "deferred", refusal())
        waited = 0
        while not (jobs := desk.step()):
            clock.advance(1)
            waited += 1
        (job,) = jobs
        waits.append(waited)
    assert waits == [10, 20, 40, 40, 40, 40], "it has to go on within a minute after a person has helped"


def test_another_refusal_begins_to_wait_anew(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    kiosk.record()
    (job,) = desk.step()
    for kind in (NeedsPerson, ClockRefused):
        desk.report(job, "deferred", refusal(kind))
        assert desk.step() == []
        clock.advance(DELAYS_S[0])
        (job,) = desk.step()


def test_after_a_refusal_another_one_asks_so_that_one_recording_cannot_block_all(
    kiosk: Kiosk, clock: FakeClock
) -> None:
    desk = Desk(kiosk, parallel=1)
    kiosk.record(4)
    first, second = desk.step()
    desk.report(first, "deferred", refusal())
    desk.report(second, "deferred")
    desk.step()
    clock.advance(DELAYS_S[0])
    (probe,) = desk.step()
    assert probe.segment.seq == 1
    desk.report(probe)
    assert numbers(desk.step()) == [2, 3]


def test_an_evicted_recording_is_forgotten_quietly(kiosk: Kiosk, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    (segment,) = kiosk.record()
    (job,) = desk.step()
    kiosk.evict(segment)
    desk.report(job, "gone", KioskError("read", cause="gone"))
    with caplog.at_level(logging.WARNING):
        assert desk.step() == []
    assert kiosk.state(segment) == "evicted"
    assert caplog.records == []
    assert desk.dispatcher.passed_over is None


def test_an_upload_that_outlived_its_eviction_is_acknowledged(kiosk: Kiosk, desk: Desk) -> None:
    (segment,) = kiosk.record()
    (job,) = desk.step()
    kiosk.evict(segment)
    desk.report(job, "stored")
    desk.step()
    assert kiosk.state(segment) == "acknowledged"


@pytest.mark.parametrize("outcome", ["gone", "unreadable"])
def test_a_file_that_fails_is_passed_over_for_a_while(
    kiosk: Kiosk, desk: Desk, clock: FakeClock, caplog: pytest.LogCaptureFixture, outcome: Outcome
) -> None:
    kiosk.record(2)
    bad, good = desk.step()
    with caplog.at_level(logging.ERROR):
        desk.report(bad, outcome, KioskError("read recording", cause="input/output error"))
        desk.report(good)
        assert desk.step() == []
    assert len(caplog.records) == 1
    assert kiosk.states() == ["pending", "acknowledged"]
    kiosk.record(1, first=2)
    assert numbers(desk.step()) == [2]
    clock.advance(600)
    assert numbers(desk.step()) == [0]


def test_damage_is_entered_for_the_recorder_to_set_aside(kiosk: Kiosk, desk: Desk) -> None:
    (segment,) = kiosk.record()
    (job,) = desk.step()
    desk.report(job, "damaged", KioskError("upload", cause="its SHA-256 is another"))
    assert desk.step() == []
    known = kiosk.ledger.segment(segment.name)
    assert known is not None
    assert (known.state, known.reason) == ("damaged", "its SHA-256 is another")
    assert kiosk.ledger.counters().get("uploaded_total", 0) == 0
    assert desk.step() == []


def test_failed_attempts_reach_the_counters_without_any_success(kiosk: Kiosk, desk: Desk, clock: FakeClock) -> None:
    desk.activity.began()
    desk.activity.failed()
    desk.step()
    assert kiosk.ledger.counters() == {}
    clock.advance(30)
    desk.step()
    assert kiosk.ledger.counters() == {"upload_attempts_total": 1, "upload_failures_total": 1}


def test_recordings_of_this_boot_wait_for_the_clock_and_earlier_ones_need_not(kiosk: Kiosk, clock: FakeClock) -> None:
    desk = Desk(kiosk, clock_wait=Duration(600))
    kiosk.record(1)
    kiosk.ledger.add_boot(Boot("e" * 32, 0, "unsynchronised"))
    kiosk.ledger.retime(Boot(clock.boot, 0, "unsynchronised"))
    kiosk.ledger.seal(replace(kiosk.record(1, first=1)[0], boot="e" * 32, run=OTHER_RUN))
    jobs = desk.step()
    assert [job.segment.run for job in jobs] == [OTHER_RUN]
    clock.advance(600)
    desk.target.time = 1_900_000_000 * 10**9
    late = desk.step()
    assert numbers(late) == [0, 1]
    assert {job.outgoing.metadata["kr-clock"] for job in late} == {"server"}
    assert "/2030/03/17/" in late[0].outgoing.key


def test_draining_ends_when_nothing_is_left(desk: Desk) -> None:
    desk.dispatcher.drain()


def test_upload_hours_go_by_the_stores_clock_when_the_machines_is_wrong(kiosk: Kiosk, clock: FakeClock) -> None:
    """The clock says 08:00; it's never synchronised, and really it is 21:00. The store says so also out of hours."""
    desk = Desk(kiosk, hours=(Hours.parse("20:00-06:00"),), clock_wait=Duration(600))
    kiosk.ledger.retime(Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "unsynchronised"))
    kiosk.record()
    assert desk.step() == []
    desk.target.time = clock.wall_ns() + 13 * 3600 * NS_PER_S
    clock.advance(600)
    assert numbers(desk.step()) == [0]


def test_upload_hours_count_twice_when_the_clock_goes_back(kiosk: Kiosk, clock: FakeClock) -> None:
    """On 25 October 2026 half past two comes twice in Madrid, at 00:30 and at 01:30 UTC."""
    clock.step(datetime(2026, 10, 25, tzinfo=UTC).timestamp() - clock.wall_ns() / NS_PER_S)
    kiosk.ledger.retime(Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "synchronised"))
    desk = Desk(kiosk, timezone="Europe/Madrid", hours=(Hours.parse("02:30-03:00"),))
    went = []
    for quarter in range(12):
        kiosk.record(first=quarter)
        for job in desk.step():
            went.append((quarter, job.segment.seq))
            desk.report(job)
        desk.step()
        clock.advance(900)
    assert [quarter for quarter, _ in went] == [2, 2, 2, 3, 6, 6, 6, 7]


def test_draining_ends_outside_of_the_upload_hours(kiosk: Kiosk) -> None:
    kiosk.record()
    Desk(kiosk, hours=(Hours.parse("20:00-06:00"),)).dispatcher.drain()
    assert kiosk.states() == ["pending"]


def test_draining_tells_of_a_store_that_does_not_say_what_time_it_is(kiosk: Kiosk) -> None:
    kiosk.record()
    kiosk.ledger.retime(Boot(kiosk.clock.boot, 0, "unsynchronised"))
    desk = Desk(kiosk)
    desk.target.time = Unreachable("ask", cause="no network")
    with pytest.raises(Unreachable):
        desk.dispatcher.drain()


def test_a_ledger_that_was_replaced_ends_the_dispatcher(kiosk: Kiosk, desk: Desk) -> None:
    desk.step()
    kiosk.layout.ledger.rename(kiosk.layout.ledger.with_suffix(".damaged"))
    Ledger(kiosk.layout.ledger, kiosk.clock, create=True).close()
    with pytest.raises(KioskError, match="new one"):
        desk.step()


def test_an_idle_dispatcher_reads_no_segments_until_somebody_committed(
    kiosk: Kiosk, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.step()
    looked = []

    def kept(*arguments: object, **named: object) -> list[Segment]:
        looked.append((arguments, named))
        return []

    monkeypatch.setattr(desk.ledger, "kept", kept)
    for _ in range(100):
        desk.step()
    assert looked == []
    kiosk.record()
    desk.step()
    assert len(looked) == 1


def test_what_a_full_card_does_not_take_is_entered_when_it_does(
    kiosk: Kiosk, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiosk.record(2)
    for job in desk.step():
        desk.report(job)
    room = Ledger.acknowledge

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Ledger, "acknowledge", full)
    with pytest.raises(sqlite3.OperationalError):
        desk.step()
    assert kiosk.states() == ["pending"] * 2
    monkeypatch.setattr(Ledger, "acknowledge", room)
    desk.step()
    assert kiosk.states() == ["acknowledged"] * 2
    assert kiosk.ledger.counters()["uploaded_total"] == 2


def test_a_key_that_did_not_become_durable_does_not_go_out(
    kiosk: Kiosk, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiosk.record(2)
    fixed = Ledger.fix_key

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Ledger, "fix_key", full)
    with pytest.raises(sqlite3.OperationalError):
        desk.step()
    assert desk.lines.jobs.empty()
    monkeypatch.setattr(Ledger, "fix_key", fixed)
    assert numbers(desk.step()) == [0, 1]
