from __future__ import annotations

import logging

import pytest

from agent.courier.activity import Activity
from agent.courier.pace import Interrupted, Pace
from agent.courier.standing import Standing
from agent.courier.targets import ClockRefused, DigestRefused, NeedsPerson, Outgoing, Receipt, TargetError, Unreachable
from agent.courier.worker import LONGEST_WAIT_S, Job, Lines, Worker
from agent.ledger import Segment
from tests.clocks import FakeClock
from tests.courier.kiosk import Kiosk
from tests.courier.scripted import ScriptedTarget


class Bench:
    """One worker and everything it works with."""

    def __init__(self, kiosk: Kiosk, clock: FakeClock, *, attempts: int | None = None) -> None:
        self.kiosk = kiosk
        self.target = ScriptedTarget()
        self.lines = Lines()
        self.activity = Activity(clock)
        pace = Pace(0, clock, self.lines.stop)
        self.worker = Worker(self.target, pace, self.lines, self.activity, Standing(clock), clock, attempts=attempts)

    def job(self, segment: Segment | None = None, *, probe: bool = False) -> Job:
        segment = segment or self.kiosk.record()[0]
        path = self.kiosk.layout.audio(segment.name)
        outgoing = Outgoing(path=path, key="k", sha256=segment.sha256, size=segment.bytes, metadata={})
        return Job(segment, outgoing, probe)


@pytest.fixture
def bench(kiosk: Kiosk, clock: FakeClock) -> Bench:
    return Bench(kiosk, clock)


def refusal(kind: type[TargetError] = Unreachable, hint: str = "wait") -> TargetError:
    return kind("upload to", place="there", cause="no", hint=hint, retryable=True)


@pytest.mark.parametrize("how", ["stored", "already_there"])
def test_a_job_is_done_when_the_target_has_it(bench: Bench, how: str) -> None:
    bench.target.script.append(Receipt(how))  # type: ignore[arg-type]
    assert bench.worker.carry(bench.job()).outcome == how


def test_a_transient_refusal_is_tried_again_for_as_long_as_it_takes(bench: Bench, clock: FakeClock) -> None:
    bench.target.script.extend([refusal()] * 200)
    began_ns = clock.monotonic_ns()
    assert bench.worker.carry(bench.job()).outcome == "stored"
    assert bench.activity.take_uncounted() == {"upload_attempts_total": 201, "upload_failures_total": 200}
    waited_s = (clock.monotonic_ns() - began_ns) / 1e9
    assert 200 * LONGEST_WAIT_S * 0.3 < waited_s < 200 * LONGEST_WAIT_S, "not full jitter up to the ceiling"


def test_what_was_there_already_says_nothing_about_speed(bench: Bench) -> None:
    bench.target.script.append(Receipt("already_there"))
    bench.worker.carry(bench.job())
    rates = bench.activity.rates()
    assert (rates.success_pct, rates.speed_bytes_per_s) == (100, None)


def test_retries_count_also_those_before_uploads_were_held(bench: Bench) -> None:
    job = bench.job()
    bench.target.script.extend([refusal(NeedsPerson), refusal(NeedsPerson)])
    outcomes = [bench.worker.carry(job).outcome for _ in range(3)]
    assert outcomes == ["deferred", "deferred", "stored"]
    assert bench.activity.rates().retries_avg == 2


def test_an_outage_is_told_once_and_so_is_its_end(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.target.script.extend([refusal()] * 20)
    with caplog.at_level(logging.INFO):
        bench.worker.carry(bench.job())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "wait" in caplog.messages[0]
    assert "go on" in caplog.messages[1]


def test_another_reason_is_told_as_well(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.target.script.extend([refusal(hint="a"), refusal(hint="a"), refusal(hint="b"), refusal(hint="b")])
    with caplog.at_level(logging.WARNING):
        bench.worker.carry(bench.job())
    assert len(caplog.records) == 2


@pytest.mark.parametrize("kind", [NeedsPerson, ClockRefused])
def test_what_time_alone_does_not_heal_is_given_back_at_once(bench: Bench, kind: type[TargetError]) -> None:
    error = refusal(kind)
    bench.target.script.append(error)
    report = bench.worker.carry(bench.job())
    assert (report.outcome, report.error) == ("deferred", error)


def test_a_worker_with_few_attempts_gives_the_last_refusal_back(kiosk: Kiosk, clock: FakeClock) -> None:
    bench = Bench(kiosk, clock, attempts=3)
    bench.target.script.extend([refusal()] * 5)
    report = bench.worker.carry(bench.job())
    assert report.outcome == "deferred"
    assert isinstance(report.error, Unreachable)
    assert len(bench.target.script) == 2


def test_a_segment_that_is_evicted_between_attempts_is_gone(bench: Bench) -> None:
    (segment,) = bench.kiosk.record()

    def evict_and_fail() -> None:
        bench.kiosk.evict(segment)
        raise refusal()

    bench.target.script.append(evict_and_fail)
    assert bench.worker.carry(bench.job(segment)).outcome == "gone"


def test_a_refused_digest_of_a_sound_file_is_the_lines_fault(bench: Bench) -> None:
    bench.target.script.append(refusal(DigestRefused))
    assert bench.worker.carry(bench.job()).outcome == "stored"


def test_a_refused_digest_of_a_changed_file_is_damage(bench: Bench) -> None:
    (segment,) = bench.kiosk.record()
    bench.kiosk.damage(segment)
    bench.target.script.append(refusal(DigestRefused))
    report = bench.worker.carry(bench.job(segment))
    assert report.outcome == "damaged"
    assert segment.sha256 in str(report.error)


def test_a_file_of_another_length_is_damage_without_asking_the_store(bench: Bench) -> None:
    (segment,) = bench.kiosk.record()
    with bench.kiosk.layout.audio(segment.name).open("ab") as file:
        file.write(b"more")
    assert bench.worker.carry(bench.job(segment)).outcome == "damaged"
    assert bench.target.took == []


def test_a_file_that_cannot_be_read_does_not_keep_the_worker(bench: Bench) -> None:
    (segment,) = bench.kiosk.record()
    path = bench.kiosk.layout.audio(segment.name)
    path.unlink()
    path.symlink_to(path)
    assert bench.worker.carry(bench.job(segment)).outcome == "unreadable"


@pytest.mark.parametrize(("line", "probe", "goes_out"), [
    ("held", False, False),
    ("held", True, True),
    ("closed", False, False),
    ("closed", True, False),
    ("stop", False, False),
    ("stop", True, False),
])  # fmt: skip
def test_who_may_go_out_when_uploads_stand_still(bench: Bench, line: str, probe: bool, goes_out: bool) -> None:  # noqa: FBT001
    job = bench.job(probe=probe)
    getattr(bench.lines, line).set()
    assert bench.worker.carry(job).outcome == ("stored" if goes_out else "deferred")
    assert bool(bench.target.took) is goes_out


def test_hours_that_end_between_attempts_end_the_attempts(bench: Bench) -> None:
    def close_and_fail() -> None:
        bench.lines.closed.set()
        raise refusal()

    bench.target.script.append(close_and_fail)
    report = bench.worker.carry(bench.job())
    assert (report.outcome, report.error) == ("deferred", None)


def test_an_ending_process_ends_the_wait_and_counts_nothing_twice(bench: Bench) -> None:
    def end() -> None:
        bench.lines.stop.set()
        raise Interrupted

    bench.target.script.append(end)
    assert bench.worker.carry(bench.job()).outcome == "deferred"
    assert bench.activity.active == 0
    assert bench.activity.take_uncounted() == {}


def test_a_defect_of_the_program_is_not_swallowed(bench: Bench) -> None:
    bench.target.script.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        bench.worker.carry(bench.job())
    assert bench.activity.active == 0
