from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.hours import Hours
from agent.ledger import Boot, Gap, Ledger
from agent.recorder.retention import victims
from agent.recorder.succession import CardFailed
from agent.settings import Capture, Schedule, Settings
from agent.spool import files_below
from agent.units import NS_PER_S, Duration, Size
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def bytes_under(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "spool").rglob("*") if path.is_file())


def capped(root: Path, segments: float, **spool: object) -> Settings:
    """Settings whose cap is `segments` times the most that a segment can take."""
    reserve = settings(root).segment_reserve_bytes
    limits = {"cap": Size(int(reserve * segments)), "quarantine_cap": Size(reserve)} | spool
    return settings(root, **limits)  # type: ignore[arg-type]


def test_the_spool_never_exceeds_its_cap_by_a_byte(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(capped(tmp_path, 3), clock)
    for second in range(40):
        room.hear(noise(1, seed=second))
        assert bytes_under(tmp_path) <= room.settings.spool.cap
        assert bytes_under(tmp_path) == room.vitals.used_bytes
    evicted = room.ledger.counters()["evicted_unsent_total"]
    assert evicted > 5


def test_what_is_uploaded_goes_before_what_is_not_however_new(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(capped(tmp_path, 4, keep_uploaded=Duration(3600)), clock)
    room.hear(noise(5))
    oldest, second = room.sealed()
    room.ledger.acknowledge(second.name, "stored")
    while room.layout.audio(second.name).exists():
        assert room.layout.audio(oldest.name).exists()
        room.hear(noise(1))
    assert room.layout.audio(oldest.name).exists()


def test_the_oldest_unsent_recording_is_given_up_first_and_loudly(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    room = WriterRoom(capped(tmp_path, 3), clock)
    room.hear(noise(40))
    states = [segment.state for segment in room.sealed()]
    assert states == sorted(states)
    assert states[0] == "evicted"
    oldest = room.sealed()[0].name
    assert f"recording {oldest} (2 s) was given up before it was uploaded: cap" in caplog.messages
    assert "evicted" in [entry.kind for entry in room.ledger.entries()]


def test_a_file_goes_only_after_the_ledger_durably_says_so(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(capped(tmp_path, 3), clock)
    real, seen = Path.unlink, []

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if path.suffix == ".flac":
            with Ledger(room.layout.ledger, clock) as other:
                seen.append({str(segment.name): segment.state for segment in other.segments()}[path.stem])
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    room.hear(noise(40))
    assert seen
    assert set(seen) == {"evicted"}


def test_room_is_given_away_only_when_no_power_cut_can_bring_back_what_was_there(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(capped(tmp_path, 3), clock)
    synced: list[Path] = []
    monkeypatch.setattr("agent.recorder.retention.sync_directory", synced.append)
    while not synced:
        evicted = [segment for segment in room.sealed() if segment.state == "evicted"]
        assert not evicted
        room.hear(noise(1))
    assert next(segment.state for segment in room.sealed()) == "evicted"
    assert set(synced) == {room.layout.sealed, room.layout.quarantine}


def test_where_there_is_room_for_what_was_removed_too_nothing_is_synced_for_it(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    synced: list[Path] = []
    monkeypatch.setattr("agent.recorder.retention.sync_directory", synced.append)
    room.hear(noise(2))
    room.ledger.acknowledge(room.sealed()[0].name, "stored")
    room.hear(noise(4))
    assert not room.layout.audio(room.sealed()[0].name).exists()
    assert not synced


def test_uploaded_recordings_leave_after_keep_uploaded(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, keep_uploaded=Duration(60)), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.acknowledge(segment.name, "stored")
    room.hear(noise(2))
    assert room.layout.audio(segment.name).exists()
    clock.advance(60)
    room.hear(noise(2))
    assert not room.layout.audio(segment.name).exists()


def test_max_age_gives_up_unsent_recordings_when_the_clock_is_trusted(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, max_age=Duration(3600)), clock)
    room.hear(noise(2))
    (old,) = room.sealed()
    clock.advance(3700)
    room.hear(noise(2))
    states = {segment.name: segment.state for segment in room.sealed()}
    assert states[old.name] == "evicted"
    assert room.ledger.counters()["evicted_unsent_total"] == 1


def test_max_age_waits_while_the_clock_of_the_boot_is_not_trusted(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, max_age=Duration(3600)), clock)
    room.hear(noise(2))
    room.ledger.retime(Boot(clock.boot, 0, "unsynchronised"))
    clock.advance(3700)
    room.hear(noise(2))
    assert {segment.state for segment in room.sealed()} == {"pending"}


def test_when_others_fill_the_card_nothing_is_given_up_for_nothing(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(settings(tmp_path, keep_free=Size(1 << 30)), clock)
    room.hear(noise(4))
    usage = (1 << 40, 1 << 40, 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": usage[2]}))
    with pytest.raises(CardFailed, match="others have filled the card"):
        room.hear(noise(4))
    assert {segment.state for segment in room.sealed()} == {"pending"}


def test_keep_free_gives_up_the_oldest_when_that_helps(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(settings(tmp_path, keep_free=Size(1 << 20)), clock)
    room.hear(noise(8))
    first = room.sealed()[0]
    reserve = room.settings.segment_reserve_bytes

    def disk_usage(_: Path) -> object:
        gone = sum(s.bytes + s.meta_bytes for s in room.ledger.segments() if s.state == "evicted")
        return type("Usage", (), {"free": (1 << 20) + reserve - 5000 + gone})

    monkeypatch.setattr("shutil.disk_usage", disk_usage)
    room.hear(noise(2))
    assert room.ledger.segment(first.name).state == "evicted"  # type: ignore[union-attr]
    assert room.vitals.storage == "recording"


def test_what_the_courier_found_damaged_goes_to_quarantine(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.settle(segment.name, "damaged", "hash differs")
    room.hear(noise(2))
    after = room.ledger.segment(segment.name)
    assert after is not None
    assert (after.state, after.present) == ("quarantined", False)
    assert (room.layout.quarantine / room.layout.audio(segment.name).name).exists()
    assert bytes_under(tmp_path) == room.vitals.used_bytes


def test_quarantine_has_its_own_cap_and_gives_up_its_oldest(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, quarantine_cap=Size(2500)), clock)
    for number in range(4):
        path = room.layout.quarantine / f"strange-{number}"
        path.write_bytes(b"x" * 1000)
    room.retention.recount()
    room.hear(noise(2))
    assert sorted(entry.name for entry in files_below(room.layout.quarantine)) == ["strange-2", "strange-3"]
    assert bytes_under(tmp_path) == room.vitals.used_bytes


def test_a_recording_that_leaves_quarantine_is_given_up_once_and_loudly(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, quarantine_cap=Size(0)), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.settle(segment.name, "damaged", "hash differs")
    room.hear(noise(2))
    after = room.ledger.segment(segment.name)
    assert after is not None
    assert (after.state, after.reason) == ("evicted", "quarantine_cap")
    assert [entry.kind for entry in room.ledger.entries()].count("evicted") == 1
    assert room.ledger.counters()["evicted_unsent_total"] == 1
    assert not list(files_below(room.layout.quarantine))


def test_damage_that_made_a_file_shorter_or_longer_is_counted_to_the_byte(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(4))
    shorter, longer = (room.layout.audio(segment.name) for segment in room.sealed())
    shorter.write_bytes(shorter.read_bytes()[:-5000])
    longer.write_bytes(longer.read_bytes() + bytes(3000))
    for segment in room.sealed():
        room.ledger.settle(segment.name, "damaged", "its length differs")
    room.hear(noise(2))
    assert len(list(files_below(room.layout.quarantine))) == 4
    assert bytes_under(tmp_path) == room.vitals.used_bytes


def test_the_last_byte_decides_whether_room_is_made(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(6))
    room.end()
    used = bytes_under(tmp_path)
    reserve = room.settings.segment_reserve_bytes
    for missing, left in ((0, 3), (1, 2)):
        again = WriterRoom(settings(tmp_path, cap=Size(used + reserve - missing), quarantine_cap=Size(0)), clock)
        assert again.retention.make_room()
        assert len(list(again.layout.sealed.glob("*.flac"))) == left
        again.ledger.close()
    assert [segment.reason for segment in WriterRoom(settings(tmp_path), clock).sealed()] == ["cap", None, None]


@pytest.mark.parametrize(("missing", "fits"), [(0, True), (1, False)])
def test_a_byte_too_few_stops_recording_where_nothing_is_to_be_given_up(
    tmp_path: Path, clock: FakeClock, missing: int, *, fits: bool
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(6))
    room.end()
    cap = Size(bytes_under(tmp_path) + room.settings.segment_reserve_bytes - missing)
    again = WriterRoom(settings(tmp_path, cap=cap, quarantine_cap=Size(0), when_full="stop"), clock)
    assert again.retention.make_room() is fits
    assert len(list(again.layout.sealed.glob("*.flac"))) == 3


@pytest.mark.parametrize(("missing", "left"), [(0, 3), (1, 2)])
def test_uploaded_recordings_go_only_when_their_room_is_needed(
    tmp_path: Path, clock: FakeClock, missing: int, left: int
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(6))
    for segment in room.sealed():
        room.ledger.acknowledge(segment.name, "stored")
    room.ledger.close()
    cap = Size(bytes_under(tmp_path) + room.settings.segment_reserve_bytes - missing)
    chosen = settings(tmp_path, cap=cap, quarantine_cap=Size(0), keep_uploaded=Duration(3600))
    again = WriterRoom(chosen, clock)
    assert again.retention.make_room()
    assert len(list(again.layout.sealed.glob("*.flac"))) == left
    assert again.retention.used == bytes_under(tmp_path)


@pytest.mark.parametrize(
    ("quarantine_bytes", "states"),
    [(1 << 20, ["quarantined", "evicted", "pending"]), (0, ["evicted", "pending", "pending"])],
)
def test_what_is_damaged_goes_to_quarantine_and_what_that_can_not_hold_goes_before_what_is_sound(
    tmp_path: Path, clock: FakeClock, quarantine_bytes: int, states: list[str]
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(6))
    room.end()
    cap = Size(bytes_under(tmp_path) + room.settings.segment_reserve_bytes - 1)
    again = WriterRoom(settings(tmp_path, cap=cap, quarantine_cap=Size(quarantine_bytes)), clock)
    again.ledger.settle(again.sealed()[0].name, "damaged", "its hash differs")
    assert again.retention.make_room()
    assert [segment.state for segment in again.sealed()] == states


def test_everything_may_go_when_that_is_just_enough_and_nothing_when_it_is_not(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(6))
    room.end()
    reserve = room.settings.segment_reserve_bytes
    for missing, states in ((1, {"pending"}), (0, {"evicted"})):
        disk = reserve - missing

        def disk_usage(_: Path, disk: int = disk) -> object:
            return type("Usage", (), {"free": disk - bytes_under(tmp_path)})

        monkeypatch.setattr("shutil.disk_usage", disk_usage)
        again = WriterRoom(settings(tmp_path), clock)
        assert again.retention.make_room() is (missing == 0)
        assert {segment.state for segment in again.sealed()} == states
        assert {segment.reason for segment in again.sealed()} == ({None} if missing else {"keep_free"})
        again.ledger.close()


def test_with_when_full_stop_nothing_is_given_up_and_recording_resumes_when_two_segments_fit(
    tmp_path: Path, clock: FakeClock
) -> None:
    room = WriterRoom(capped(tmp_path, 2.2, when_full="stop"), clock)

    def state() -> str:
        return room.vitals.storage

    while state() != "spool_full":
        room.hear(noise(1))
    kept = room.sealed()
    assert {segment.state for segment in kept} == {"pending"}
    reserve, cap = room.settings.segment_reserve_bytes, room.settings.spool.cap
    resumed_at = None
    for segment in kept:
        room.ledger.acknowledge(segment.name, "stored")
        clock.advance(20)
        room.hear(noise(1))
        if state() == "recording":
            resumed_at = room.retention.used
            break
        assert room.retention.used + 2 * reserve > cap
    assert resumed_at is not None
    assert resumed_at + 2 * reserve <= cap
    assert room.ledger.counters().get("evicted_unsent_total", 0) == 0
    room.end()
    assert "spool_full" in {gap.reason for gap in room_gaps(room)}


def room_gaps(room: WriterRoom) -> list[Gap]:
    with Ledger(room.layout.ledger, room.clock, read_only=True) as ledger:
        return ledger.gaps()


def test_quarantine_may_be_full_to_the_byte_and_its_oldest_goes_whatever_its_name(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    room = WriterRoom(settings(tmp_path, quarantine_cap=Size(3000)), clock)
    for name, written in (("a", 3), ("b", 2), ("c", 1)):
        path = room.layout.quarantine / name
        path.write_bytes(b"x" * 1000)
        os.utime(path, (written, written))
    room.retention.recount()
    room.retention.tidy()
    assert len(list(files_below(room.layout.quarantine))) == 3
    (room.layout.quarantine / "d").write_bytes(b"x")
    room.retention.recount()
    room.retention.tidy()
    assert sorted(entry.name for entry in files_below(room.layout.quarantine)) == ["a", "b", "d"]
    assert "quarantined file c was given up: quarantine_cap" in caplog.messages
    assert room.retention.used == 2001


def test_why_a_recording_was_given_up_is_in_the_ledger(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, max_age=Duration(3600)), clock)
    room.hear(noise(2))
    clock.advance(3600)
    room.hear(noise(2))
    assert [(segment.state, segment.reason) for segment in room.sealed()] == [("evicted", "max_age"), ("pending", None)]


def test_victims_are_no_more_than_needed(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(8))
    segments = room.sealed()
    size = segments[0].bytes + segments[0].meta_bytes
    assert list(victims(segments, 0)) == []
    assert list(victims(segments, 1)) == segments[:1]
    assert list(victims(segments, size)) == segments[:1]
    assert list(victims(segments, size + 1)) == segments[:2]
    assert list(victims(segments, 10**9)) == segments


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 12), ("Asia/Kolkata", 7)])
def test_what_turns_out_to_lie_outside_the_schedule_is_erased_before_upload(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, zone: str, hour: int
) -> None:
    """The clock starts in 1970; when it is set it is 12:59:57 on a Monday there, and clinic hours end at 13:00."""
    caplog.set_level("INFO")
    monday = Schedule(mon=(Hours.parse("08:00-13:00"),))
    chosen = replace(settings(tmp_path, capture=Capture(rate=RATE, mode="scheduled")), schedule=monday)
    chosen = replace(chosen, device=replace(chosen.device, timezone=zone))
    lunch_s = datetime(2026, 11, 23, hour, 59 if hour == 12 else 29, 57, tzinfo=UTC).timestamp()
    room = WriterRoom(chosen, clock)
    room.ledger.retime(Boot(clock.boot, -(10**18), "unsynchronised"))
    begin_ns = clock.monotonic_ns()
    room.hear(noise(8))
    assert all(segment.provisional for segment in room.sealed())
    room.vitals.boot = Boot(clock.boot, 0, "synchronised")
    offset_ns = round(lunch_s * NS_PER_S) - begin_ns
    clock.step((offset_ns + clock.monotonic_ns() - clock.wall_ns()) / NS_PER_S)
    room.ledger.retime(Boot(clock.boot, offset_ns, "synchronised"))
    room.hear(noise(4))
    states = [segment.state for segment in room.sealed()]
    assert states == ["pending"] * 2 + ["erased"] * (len(states) - 2)
    erased = room.sealed()[2]
    assert erased.reason == "schedule"
    assert f"recording {erased.name} (2 s) is erased: it turned out to lie outside the schedule" in caplog.messages
    assert [room.layout.audio(segment.name).exists() for segment in room.sealed()] == [
        state == "pending" for state in states
    ]


def test_what_reaches_into_clinic_hours_is_kept(tmp_path: Path, clock: FakeClock) -> None:
    """It begins 3 s before the hours do, in segments of 2 s."""
    monday = Schedule(mon=(Hours.parse("13:00-18:00"),))
    chosen = replace(settings(tmp_path, capture=Capture(rate=RATE, mode="scheduled")), schedule=monday)
    room = WriterRoom(chosen, clock)
    room.ledger.retime(Boot(clock.boot, -(10**18), "unsynchronised"))
    begin_ns = clock.monotonic_ns()
    room.hear(noise(6))
    offset_ns = round(datetime(2026, 11, 23, 12, 59, 57, tzinfo=UTC).timestamp() * NS_PER_S) - begin_ns
    room.ledger.retime(Boot(clock.boot, offset_ns, "synchronised"))
    room.retention.tidy()
    assert [segment.state for segment in room.sealed()] == ["erased", "pending", "pending"]


def test_a_schedule_erases_nothing_that_was_recorded_under_a_right_clock(tmp_path: Path, clock: FakeClock) -> None:
    chosen = settings(tmp_path, capture=Capture(rate=RATE, mode="scheduled"))
    room = WriterRoom(chosen, clock)
    room.vitals.boot = Boot(clock.boot, 0, "synchronised")
    room.hear(noise(6))
    assert {segment.state for segment in room.sealed()} == {"pending"}


def test_a_machine_that_woke_up_in_the_wrong_year_gives_nothing_up(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, max_age=Duration(3600)), clock)
    room.hear(noise(4))
    room.ledger.close()
    clock.reboot("c" * 32, off_s=400 * 86400)
    again = WriterRoom(room.settings, clock)
    again.ledger.retime(Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "unsynchronised"))
    again.hear(noise(2))
    assert {segment.state for segment in again.sealed()} == {"pending"}


YEARS_S = 20 * 365 * 86400


def two_boots(tmp_path: Path, clock: FakeClock, *, off_s: float, **limits: Duration) -> WriterRoom:
    """A recording of an earlier boot waits for upload, another was uploaded; then the power was off."""
    room = WriterRoom(settings(tmp_path, capture=None, **limits), clock)
    room.hear(noise(4))
    room.ledger.acknowledge(room.sealed()[0].name, "stored")
    room.ledger.close()
    clock.reboot("c" * 32, off_s=off_s)
    return WriterRoom(room.settings, clock)


def step(room: WriterRoom, clock: FakeClock, seconds: float) -> None:
    """A time server steps the clock, and it counts as synchronised; then a little is recorded."""
    clock.step(seconds)
    room.ledger.retime(Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "synchronised"))
    room.hear(noise(4))


def kept(room: WriterRoom) -> list[bool]:
    return [room.layout.audio(segment.name).exists() for segment in room.sealed()[:2]]


def test_a_synchronised_clock_that_jumps_by_twenty_years_gives_nothing_up_for_hours(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    room = two_boots(tmp_path, clock, off_s=60, max_age=Duration(3600), keep_uploaded=Duration(3600))
    step(room, clock, YEARS_S)
    assert kept(room) == [True, True]
    assert sum("far older" in record.message for record in caplog.records) == 1
    clock.advance(5 * 3600)
    room.hear(noise(4))
    assert kept(room) == [True, True]
    clock.advance(1.1 * 3600)
    room.hear(noise(4))
    assert kept(room) == [False, False], "now it has said so for long enough"
    assert room.sealed()[1].state == "evicted"


def test_a_jump_that_is_taken_back_has_cost_nothing(tmp_path: Path, clock: FakeClock) -> None:
    room = two_boots(tmp_path, clock, off_s=60, max_age=Duration(30 * 86400), keep_uploaded=Duration(86400))
    step(room, clock, YEARS_S)
    clock.advance(5 * 3600)
    step(room, clock, -YEARS_S)
    clock.advance(8 * 3600)
    room.hear(noise(4))
    assert kept(room) == [True, True]


def test_what_becomes_too_old_in_a_night_without_power_goes_at_once(tmp_path: Path, clock: FakeClock) -> None:
    room = two_boots(tmp_path, clock, off_s=12 * 3600, max_age=Duration(3600), keep_uploaded=Duration(3600))
    room.hear(noise(4))
    assert kept(room) == [False, False]


def test_an_uploaded_recording_is_kept_as_long_as_promised_although_the_clock_is_set_meanwhile(
    tmp_path: Path, clock: FakeClock
) -> None:
    clock.step(100 - clock.wall_ns() / 1e9)  # 1970
    room = WriterRoom(settings(tmp_path, keep_uploaded=Duration(600)), clock)
    room.ledger.retime(Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "unsynchronised"))
    room.hear(noise(4))
    room.ledger.acknowledge(room.sealed()[0].name, "stored")
    step(room, clock, 50 * 365 * 86400)
    clock.advance(500)
    room.hear(noise(4))
    assert kept(room) == [True, True]
    clock.advance(100)
    room.hear(noise(4))
    assert kept(room) == [False, True]


def test_a_clock_that_steps_back_does_not_keep_what_need_not_be_kept(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(4))
    room.ledger.acknowledge(room.sealed()[0].name, "stored")
    step(room, clock, -5 * 3600)
    assert kept(room) == [False, True]
