from __future__ import annotations

from agent.ledger import Boot
from agent.spool import Layout
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.recorder.room import WriterRoom, noise, settings


def test_every_recording_is_listed_with_its_local_time_length_size_and_state(kiosk: Kiosk) -> None:
    kiosk.configure()
    kiosk.config.write_text(kiosk.config.read_text().replace("[capture]", 'timezone = "Europe/Madrid"\n[capture]'))
    kiosk.recorded(5)
    header, *lines = kiosk.run("list").out.splitlines()
    assert header.split() == ["begin", "length", "size", "state", "name", "key"]
    assert [line[:24].strip() for line in lines] == [
        "2027-01-15 09:00:00",
        "2027-01-15 09:00:02",
        "2027-01-15 09:00:04",
    ]
    assert [line.split()[2:4] for line in lines] == [["2", "s"], ["2", "s"], ["1", "s"]]
    assert all("pending" in line for line in lines)


def test_json_tells_what_the_ledger_knows(kiosk: Kiosk) -> None:
    kiosk.recorded(3)
    first, second = kiosk.run("list", "--json").json()
    assert (first["seq"], second["seq"]) == (0, 1)
    assert first["run"] == second["run"]
    assert first["name"] == f"{first['run']}-000000"
    assert (first["begin"], first["end"]) == ("2027-01-15T08:00:00.000+00:00", "2027-01-15T08:00:02.000+00:00")
    assert (first["frames"], first["rate"], first["channels"], first["seconds"]) == (16000, 8000, 1, 2.0)
    assert (first["state"], first["here"], first["key"], first["truncated"]) == ("pending", True, None, False)
    assert first["bytes"] == Layout(kiosk.spool).sealed.joinpath(f"{first['name']}.flac").stat().st_size


def test_an_empty_ledger_is_an_empty_list(kiosk: Kiosk) -> None:
    room = WriterRoom(settings(kiosk.spool), FakeClock())
    room.end()
    assert kiosk.run("list", "--json").json() == []
    assert kiosk.run("list").status == 0


def test_what_became_of_them_and_why_is_told(kiosk: Kiosk) -> None:
    room = WriterRoom(settings(kiosk.spool), FakeClock())
    room.hear(noise(6))
    uploaded, evicted, _ = room.sealed()
    room.ledger.fix_key(uploaded.name, "north/room-1/2027/01/15/a.flac", "synchronised")
    room.ledger.acknowledge(uploaded.name, "stored")
    room.ledger.settle(evicted.name, "evicted", "cap")
    room.end()
    lines = kiosk.run("list").out.splitlines()
    assert lines[1].endswith(f"acknowledged {uploaded.name}  north/room-1/2027/01/15/a.flac")
    assert lines[2].endswith(f"evicted      {evicted.name}  cap")
    states = [segment["state"] for segment in kiosk.run("list", "--json").json()]
    assert states == ["acknowledged", "evicted", "pending"]
    assert len(kiosk.run("list", "--json", "--state", "evicted").json()) == 1


def test_a_time_that_no_right_clock_told_is_marked(kiosk: Kiosk) -> None:
    clock = FakeClock()
    room = WriterRoom(settings(kiosk.spool), clock)
    boot = room.ledger.boots()[0]
    room.ledger.retime(Boot(boot.boot, boot.offset_ns, "unsynchronised"))
    room.hear(noise(2))
    room.end()
    assert "2027-01-15 08:00:00? " in kiosk.run("list").out
    assert kiosk.run("list", "--json").json()[0]["clock"] == "unsynchronised"


def test_only_what_is_asked_for_is_listed(kiosk: Kiosk) -> None:
    kiosk.recorded(4)
    later = WriterRoom(settings(kiosk.spool), FakeClock(monotonic_s=1000, wall_s=1_800_000_900))
    later.hear(noise(4))
    first = later.sealed()[0]
    later.ledger.settle(first.name, "evicted", "cap")
    later.ledger.forget_files([first.name])
    later.end()

    def listed(*arguments: str) -> list[str]:
        return [segment["name"] for segment in kiosk.run("list", "--json", *arguments).json()]

    everything = listed()
    assert len(everything) == 4
    assert listed("--run", first.run) == everything[:2]
    assert listed("--limit", "3") == everything[1:]
    assert listed("--here") == everything[1:]
    assert listed("--since", "2027-01-15 08:10") == everything[2:]
    assert listed("--until", "2027-01-15T08:10:00Z") == everything[:2]
    # A recording counts if any of it lies within.
    assert listed("--since", "2027-01-15 08:00:01", "--until", "2027-01-15 08:00:03") == everything[:2]
    assert listed("--since", "2027-01-15 08:00:02", "--until", "2027-01-15 08:00:03") == everything[1:2]
    assert listed("--since", "2027-01-16") == []
