from __future__ import annotations

import sqlite3
from contextlib import closing

from agent.ledger import Boot, Gap, Ledger
from agent.timeline import read
from agent.units import NS_PER_S
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.recorder.room import WriterRoom, noise, settings


def test_all_the_time_of_two_boots_is_accounted_for(kiosk: Kiosk) -> None:
    clock = FakeClock()
    room = WriterRoom(settings(kiosk.spool), clock)
    room.hear(noise(5))
    room.ring.interrupt("unplugged", clock.monotonic_ns())
    clock.advance(30)
    room.hear(noise(3))
    room.end()
    clock.reboot("c" * 32, off_s=3600)
    kiosk.recorded(4, clock)

    answer = kiosk.run("timeline")
    assert answer.status == 0
    told = [line.split() for line in answer.out.splitlines()]
    assert [words[2] for words in told if words[0].startswith("2027")] == [
        "recording",
        "unplugged",
        "recording",
        "power_off",
        "recording",
    ]
    assert answer.out.splitlines()[-1].startswith("recorded 12 s; not recorded: power_off 1 h")
    document = kiosk.run("timeline", "--json").json()
    recorded = [each for each in document["intervals"] if each["kind"] == "recording"]
    assert [each["segments"] for each in recorded] == [3, 2, 2]
    assert document["totals"]["recorded_s"] == 12.0
    assert document["totals"]["not_recorded_s"]["unplugged"] == 30.0
    assert document["faults"] == []
    for one, other in zip(document["intervals"], document["intervals"][1:], strict=False):
        assert one["end"] == other["begin"]


def test_a_part_of_it_can_be_shown(kiosk: Kiosk) -> None:
    kiosk.recorded(4)
    assert kiosk.run("timeline", "--json", "--since", "2028-01-01").json()["intervals"] == []
    assert len(kiosk.run("timeline", "--json", "--until", "2028-01-01").json()["intervals"]) == 1


def test_the_length_of_a_power_off_is_doubted_when_a_clock_is(kiosk: Kiosk) -> None:
    clock = FakeClock()
    kiosk.recorded(2, clock)
    clock.reboot("c" * 32, off_s=600)
    room = WriterRoom(settings(kiosk.spool), clock)
    boot = room.ledger.boots()[-1]
    room.ledger.retime(Boot(boot.boot, boot.offset_ns, "unsynchronised"))
    room.hear(noise(2))
    room.end()
    answer = kiosk.run("timeline")
    assert "about 10 min" in answer.out
    assert "clock unsynchronised: its clock was never right" in answer.out
    off = next(
        each for each in kiosk.run("timeline", "--json").json()["intervals"] if each.get("reason") == "power_off"
    )
    assert (off["certain"], off["kind"]) == (False, "gap")


def test_a_power_cut_backwards_in_wall_time_lasts_no_less_than_nothing(kiosk: Kiosk) -> None:
    clock = FakeClock()
    kiosk.recorded(2, clock)
    clock.reboot("c" * 32, off_s=-5000)
    kiosk.recorded(2, clock)
    answer = kiosk.run("timeline", "--json")
    off = next(each for each in answer.json()["intervals"] if each.get("reason") == "power_off")
    assert off["seconds"] == 0.0
    assert answer.status == 0


def test_a_hole_and_an_overlap_end_with_1_and_are_named(kiosk: Kiosk) -> None:
    clock = FakeClock()
    room = WriterRoom(settings(kiosk.spool), clock)
    room.hear(noise(6))
    end_ns = room.sealed()[-1].end_ns
    room.end()
    with closing(sqlite3.connect(room.layout.ledger, isolation_level=None)) as database:
        database.execute("DELETE FROM segments WHERE seq = 1")
        database.execute(
            "INSERT INTO gaps (boot, begin_ns, end_ns, reason) VALUES (?, ?, ?, 'overrun')",
            (clock.boot, end_ns - NS_PER_S, end_ns + NS_PER_S),
        )
    answer = kiosk.run("timeline")
    assert answer.status == 1
    faults = [line for line in answer.out.splitlines() if line.startswith("fault: ")]
    run = kiosk.run("list", "--json").json()[0]["run"]
    boot = "boot bbbbbbbb"
    assert faults == [
        f"fault: hole of 2 s: {boot} at 2027-01-15 08:00:02, where recording {run} ends and recording {run} begins",
        f"fault: overlap of 1 s: {boot} at 2027-01-15 08:00:05, where recording {run} ends and overrun begins",
    ]
    assert [fault["kind"] for fault in kiosk.run("timeline", "--json").json()["faults"]] == ["hole", "overlap"]


def test_a_ledger_made_anew_tells_what_it_cannot_know(kiosk: Kiosk) -> None:
    clock = FakeClock()
    room = WriterRoom(settings(kiosk.spool), clock)
    room.hear(noise(4))
    room.ring.interrupt("overrun", clock.monotonic_ns())
    clock.advance(10)
    room.hear(noise(2))
    room.end()
    for file in room.layout.state.glob("ledger.db*"):
        file.unlink()
    clock.advance(5)
    kiosk.recorded(2, clock)
    answer = kiosk.run("timeline", "--json")
    assert answer.status == 0
    reasons = [each.get("reason", "") for each in answer.json()["intervals"]]
    assert reasons == ["", "unknown", "", "restart", ""]


def test_a_gap_that_arrives_while_the_ledger_is_read_makes_no_hole(kiosk: Kiosk) -> None:
    clock = FakeClock()
    room = WriterRoom(settings(kiosk.spool), clock)
    room.hear(noise(4))

    class Busy(Ledger):
        def gaps(self) -> list[Gap]:
            found = super().gaps()
            if not found:
                # Between reading the gaps and reading the segments, the recorder writes both.
                room.ring.interrupt("overrun", clock.monotonic_ns())
                clock.advance(1)
                room.hear(noise(4, seed=2))
            return found

    with Busy(room.layout.ledger, clock, read_only=True) as ledger:
        timeline = read(ledger)
    assert len(room.sealed()) == 4
    assert timeline.faults == []
    room.end()
