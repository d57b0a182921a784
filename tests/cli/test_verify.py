"""`verify` finds each kind of damage, names it, says what recovery does about it, and is right about that."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.inspection import Inspection
from agent.ledger import Ledger, Segment
from agent.recorder.recovery import Recovered
from agent.sidecar import HEADER_BYTES, read_sidecar
from agent.spool import Layout, SegmentFile, SegmentName
from hw.clock import SystemClock
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings
from tests.soundcard import Soundcard


class Damaged:
    """A spool of four segments, the second of them the one to be damaged."""

    def __init__(self, kiosk: Kiosk) -> None:
        self.kiosk = kiosk
        self.room = WriterRoom(settings(kiosk.spool), FakeClock())
        self.room.hear(noise(8))
        self.segment: Segment = self.room.sealed()[1]
        self.room.end()
        self.layout = self.room.layout
        self.audio, self.meta = self.layout.audio(self.segment.name), self.layout.meta(self.segment.name)

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.layout.ledger, isolation_level=None)) as database:
            database.execute(statement)

    def verify(self, *options: str) -> list[tuple[str, str, str]]:
        """Kind, place and remedy of each finding."""
        answer = self.kiosk.run("verify", "--json", *options)
        findings = answer.json()["findings"]
        assert answer.status == (1 if findings else 0), answer.err
        return [(finding["kind"], finding["place"], finding["remedy"]) for finding in findings]

    def recover(self) -> Recovered:
        """What recovery really does."""
        room = WriterRoom(settings(self.kiosk.spool), FakeClock(monotonic_s=1000))
        room.end()
        return room.recovered


@pytest.fixture
def damaged(kiosk: Kiosk) -> Damaged:
    return Damaged(kiosk)


def place(path: Path) -> str:
    return f"{path.parent.parent.name}/{path.parent.name}/{path.name}"


LOST, ASIDE, GONE = "recovery enters it as lost", "recovery moves it into quarantine/", "recovery removes it"
REFUSED = "the courier refuses it, then the recorder moves it into quarantine/; so does --repair"
NEEDLESS = "nothing while the ledger lives: only a rebuild needs it"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_clean_spool_is_silent(damaged: Damaged) -> None:
    answer = damaged.kiosk.run("verify")
    assert answer.status == 0
    assert answer.err == ""
    size = damaged.kiosk.run("verify", "--json").json()["audio_bytes"]
    assert size == sum(path.stat().st_size for path in damaged.layout.sealed.glob("*.flac"))
    assert answer.out.splitlines()[0].startswith("4 recordings, ")
    assert answer.out.splitlines()[-1] == "all is well"


def test_nothing_is_changed(damaged: Damaged) -> None:
    def state() -> dict[str, tuple[bytes, int]]:
        files = (path for path in damaged.layout.spool.rglob("*") if path.is_file())
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    flip(damaged.audio, 5000)
    (damaged.layout.sealed / "notes.txt").write_text("hello")
    before = state()
    assert len(damaged.verify()) == 2
    assert state() == before


def test_a_flipped_bit_of_audio(damaged: Damaged) -> None:
    flip(damaged.audio, 5000)
    assert damaged.verify() == [("hash", place(damaged.audio), REFUSED)]
    assert damaged.verify("--fast") == []


def test_audio_that_lost_its_end(damaged: Damaged) -> None:
    damaged.audio.write_bytes(damaged.audio.read_bytes()[:-1])
    assert damaged.verify() == [("size", place(damaged.audio), REFUSED)]
    assert damaged.verify("--fast") == [("size", place(damaged.audio), REFUSED)]


def test_uploaded_audio_with_a_flipped_bit_has_done_its_duty(damaged: Damaged) -> None:
    damaged.sql("UPDATE segments SET state = 'acknowledged' WHERE seq = 1")
    flip(damaged.audio, 5000)
    remedy = "the store holds it as it was; the recorder removes it once spool.keep_uploaded has passed"
    assert damaged.verify() == [("hash", place(damaged.audio), remedy)]


def test_audio_that_is_gone(damaged: Damaged) -> None:
    damaged.audio.unlink()
    assert damaged.verify() == [("missing", place(damaged.audio), LOST)]
    assert damaged.recover().lost == [damaged.segment.name]
    # Recovery entered it as lost; the next one clears its sidecar away.
    assert damaged.verify() == []


def test_a_sidecar_that_is_gone(damaged: Damaged) -> None:
    damaged.meta.unlink()
    assert damaged.verify() == [("sidecar", place(damaged.meta), NEEDLESS)]
    assert not damaged.recover()


@pytest.mark.parametrize("at", [5, HEADER_BYTES + 20])
def test_a_sidecar_with_a_flipped_bit(damaged: Damaged, at: int) -> None:
    flip(damaged.meta, at)
    assert damaged.verify() == [("sidecar", place(damaged.meta), NEEDLESS)]


def test_a_sidecar_of_another_segment(damaged: Damaged) -> None:
    other = next(path for path in sorted(damaged.layout.sealed.glob("*.meta")) if path != damaged.meta)
    damaged.meta.write_bytes(other.read_bytes())
    assert damaged.verify() == [("sidecar", place(damaged.meta), NEEDLESS)]
    assert "and the ledger differ in seq, begin_ns, end_ns, " in damaged.kiosk.run("verify").out


def test_a_ledger_that_was_told_something_else(damaged: Damaged) -> None:
    damaged.sql("UPDATE segments SET frames = 15000 WHERE seq = 1")
    assert damaged.verify() == [("sidecar", place(damaged.meta), NEEDLESS)]


def test_a_sealed_file_the_ledger_never_heard_of(damaged: Damaged) -> None:
    damaged.sql("DELETE FROM segments WHERE seq = 1")
    findings = [finding for finding in damaged.verify() if finding[0] != "tiling"]
    assert findings == [("unknown", place(damaged.audio), "recovery enters it")]
    assert damaged.recover().entered == [damaged.segment.name]


def test_a_sealed_file_nobody_can_vouch_for(damaged: Damaged) -> None:
    damaged.sql("DELETE FROM segments WHERE seq = 1")
    flip(damaged.audio, 5000)
    findings = [finding for finding in damaged.verify() if finding[0] != "tiling"]
    assert findings == [("unknown", place(damaged.audio), ASIDE)]
    assert damaged.recover().quarantined == [str(damaged.segment.name)]


def test_a_sidecar_nobody_knows(damaged: Damaged) -> None:
    damaged.sql("DELETE FROM segments WHERE seq = 1")
    damaged.audio.unlink()
    findings = [finding for finding in damaged.verify() if finding[0] != "tiling"]
    assert findings == [("unknown", place(damaged.meta), ASIDE)]
    assert damaged.recover().quarantined == [str(damaged.segment.name)]


@pytest.mark.parametrize(
    ("state", "present", "remedy"),
    [
        ("evicted", 1, GONE),
        ("lost", 0, GONE),
        ("acknowledged", 0, GONE),
        ("damaged", 1, ASIDE),
        ("quarantined", 0, ASIDE),
    ],
)
def test_a_file_that_should_have_gone(damaged: Damaged, state: str, present: int, remedy: str) -> None:
    damaged.sql(f"UPDATE segments SET state = '{state}', present = {present} WHERE seq = 1")  # noqa: S608 (ours)
    assert damaged.verify() == [("settled", place(damaged.audio), remedy)]
    done = damaged.recover()
    assert (done.quarantined if remedy == ASIDE else list(map(str, done.removed))) == [str(damaged.segment.name)]


def test_a_recording_that_the_ledger_misses_although_it_is_here(damaged: Damaged) -> None:
    damaged.sql("UPDATE segments SET present = 0 WHERE seq = 1")
    assert damaged.verify() == [("settled", place(damaged.audio), "recovery enters it")]
    assert damaged.recover().entered == [damaged.segment.name]
    assert damaged.verify() == []


def test_the_sidecar_of_a_recording_that_has_gone(damaged: Damaged) -> None:
    damaged.sql("UPDATE segments SET state = 'acknowledged' WHERE seq = 1")
    damaged.audio.unlink()
    assert damaged.verify() == [("settled", place(damaged.meta), GONE)]
    assert damaged.recover().removed == [damaged.segment.name]
    assert damaged.verify() == []


def test_an_uploaded_file_may_be_gone(damaged: Damaged) -> None:
    damaged.sql("UPDATE segments SET state = 'acknowledged' WHERE seq = 1")
    damaged.audio.unlink()
    damaged.meta.unlink()
    assert damaged.verify() == []


def test_files_of_others(damaged: Damaged) -> None:
    strangers = [damaged.layout.sealed / "notes.txt", damaged.layout.open / f"{damaged.segment.name}.flac"]
    for path in strangers:
        path.write_text("hello")
    assert sorted(damaged.verify()) == sorted(("stranger", place(path), ASIDE) for path in strangers)
    assert sorted(damaged.recover().quarantined) == sorted(path.name for path in strangers)


def unfinished(
    kiosk: Kiosk, change: Callable[[Path, Path], None]
) -> tuple[Path, list[tuple[str, str, str]], Recovered]:
    """A recorder dies in mid-segment, then `change` happens: what is left, findings, what recovery did."""
    room = WriterRoom(settings(kiosk.spool, segment_seconds=60), FakeClock())
    room.hear(noise(20))
    (part,) = room.layout.open.glob("*.part")
    room.ledger.close()
    meta = part.with_suffix(".meta")
    change(part, meta)
    left = part if part.exists() else meta
    answer = kiosk.run("verify", "--json")
    assert answer.status == 1
    found = [(finding["kind"], finding["place"], finding["remedy"]) for finding in answer.json()["findings"]]
    again = WriterRoom(settings(kiosk.spool), FakeClock(monotonic_s=1000))
    again.end()
    return left, found, again.recovered


def test_a_segment_that_was_never_finished(kiosk: Kiosk) -> None:
    records = []

    def look(_: Path, meta: Path) -> None:
        records.append(read_sidecar(meta).records[-1])

    part, found, recovered = unfinished(kiosk, look)
    length = f"{records[0].frames / RATE:.3g} s"
    assert found == [("unfinished", place(part), f"recovery keeps the {length} that are durable")]
    assert len(recovered.truncated) == 1
    assert kiosk.run("list", "--json").json()[0]["seconds"] == records[0].frames / RATE


def test_an_unfinished_segment_that_lost_its_end(kiosk: Kiosk) -> None:
    def cut(part: Path, meta: Path) -> None:
        part.write_bytes(part.read_bytes()[: read_sidecar(meta).records[2].size + 7])

    part, found, recovered = unfinished(kiosk, cut)
    kept_s = kiosk.run("list", "--json").json()[0]["seconds"]
    assert found == [("unfinished", place(part), f"recovery keeps the {kept_s:.3g} s that are durable")]
    assert len(recovered.truncated) == 1


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda part, _: part.write_bytes(b""), ASIDE),
        (lambda _, meta: meta.unlink(), ASIDE),
        (lambda _, meta: flip(meta, 3), ASIDE),
        (lambda part, _: part.unlink(), "recovery drops it: it has no audio file"),
        (lambda part, meta: (part.write_bytes(b""), meta.unlink()), "recovery drops it: it holds nothing"),
    ],
    ids=["no audio", "no sidecar", "broken sidecar", "no file", "nothing"],
)
def test_an_unfinished_segment_that_cannot_be_saved(
    kiosk: Kiosk, change: Callable[[Path, Path], None], remedy: str
) -> None:
    left, found, recovered = unfinished(kiosk, change)
    assert found == [("unfinished", place(left), remedy)]
    assert (len(recovered.quarantined), len(recovered.empty)) == ((1, 0) if remedy == ASIDE else (0, 1))


def test_a_segment_that_is_written_and_sealed_at_once(damaged: Damaged) -> None:
    part = damaged.layout.part(damaged.segment.name)
    part.write_bytes(b"what?")
    assert damaged.verify() == [("twice", place(part), ASIDE)]
    assert damaged.recover().quarantined == [str(damaged.segment.name)]


def test_a_broken_chain(damaged: Damaged) -> None:
    damaged.sql("UPDATE journal SET body = replace(body, '\"truncated\":false', '\"truncated\":true') WHERE seq = 5")
    (finding,) = damaged.verify()
    assert finding[:2] == ("chain", "state/ledger.db")
    assert "the journal's chain is broken at entry 5: it was altered or damaged" in damaged.kiosk.run("verify").out


def test_time_that_is_not_accounted_for(damaged: Damaged) -> None:
    damaged.sql("UPDATE segments SET end_ns = end_ns - 1000000000 WHERE seq = 1")
    kinds = [kind for kind, _, _ in damaged.verify()]
    assert kinds == ["tiling", "sidecar"]


def test_a_ledger_that_is_no_database(damaged: Damaged) -> None:
    with damaged.layout.ledger.open("r+b") as file:
        file.write(b"not a database at all")
    ((kind, where, remedy),) = damaged.verify()
    assert (kind, where) == ("ledger", "state/ledger.db")
    assert remedy == "the recorder sets it aside at its next start and makes a new one from the spool"
    assert sorted(damaged.recover().entered) == _names(damaged.layout)


def _names(layout: Layout) -> list[SegmentName]:
    files = (SegmentFile.parse(path.name) for path in layout.sealed.glob("*.flac"))
    return sorted(file.name for file in files if file is not None)


def test_a_ledger_with_pages_overwritten(damaged: Damaged) -> None:
    size = damaged.layout.ledger.stat().st_size
    with damaged.layout.ledger.open("r+b") as file:
        file.seek(2048)
        file.write(b"\xff" * (size - 4096))
    ((kind, _, _),) = damaged.verify()
    assert kind == "ledger"


def test_a_spool_beyond_its_cap(damaged: Damaged) -> None:
    damaged.kiosk.configure(spool='cap = "1MiB"')
    filler = damaged.layout.quarantine / "filler"
    filler.write_bytes(bytes(2**20))
    answer = damaged.kiosk.run("verify", "--json")
    assert [finding["kind"] for finding in answer.json()["findings"]] == ["cap"]
    assert answer.json()["quarantined_files"] == 1
    filler.write_bytes(bytes(2**20 - sum(p.stat().st_size for p in damaged.layout.sealed.iterdir())))
    assert damaged.verify() == []


def test_there_must_be_something_to_verify(kiosk: Kiosk) -> None:
    answer = kiosk.run("verify")
    assert answer.status == 2
    assert "open ledger" in answer.err


# While the recorder runs.


def test_a_running_recorder_and_its_open_segment_are_no_findings(kiosk: Kiosk, soundcard: Soundcard) -> None:
    kiosk.environment |= soundcard(noise(10), RATE, speed=20.0).environment
    kiosk.configure(capture='pcm = "simroom"', spool='cap = "200KiB"')
    kiosk.start("record")
    kiosk.recording()
    for _ in range(8):
        answer = kiosk.run("verify")
        assert (answer.status, answer.err) == (0, ""), answer.out
    assert len(kiosk.run("list", "--json", "--state", "evicted").json()) > 10


def watched(room: WriterRoom, meanwhile: Callable[[], None]) -> list[str]:
    """The kinds of findings when `meanwhile` happens after the first look, while a recorder is at work."""

    class Waiting(SystemClock):
        def wait(self, event: threading.Event, seconds: float) -> bool:  # noqa: ARG002 (it doesn't wait)
            if not happened:
                happened.append(True)
                meanwhile()
            return event.is_set()

    happened: list[bool] = []
    with Ledger(room.layout.ledger, room.clock, read_only=True) as ledger:
        inspection = Inspection(room.layout, ledger, Waiting(), lambda: True, hashing=True)
        found = inspection.segments(list(inspection.expected()), lambda _: None)
    assert happened
    return [finding.kind for finding in found]


def test_an_eviction_seen_half_way_is_no_finding(kiosk: Kiosk) -> None:
    room = WriterRoom(settings(kiosk.spool), FakeClock())
    room.hear(noise(8))
    first = room.sealed()[0]
    room.ledger.settle(first.name, "evicted", "cap")

    def finish() -> None:
        room.layout.audio(first.name).unlink()
        room.layout.meta(first.name).unlink()

    assert watched(room, finish) == []
    room.end()


def test_a_sealing_seen_half_way_is_no_finding(kiosk: Kiosk) -> None:
    room = WriterRoom(settings(kiosk.spool), FakeClock())
    room.hear(noise(4))
    first, second = room.sealed()
    with closing(sqlite3.connect(room.layout.ledger, isolation_level=None)) as database:
        database.execute("DELETE FROM segments WHERE seq = 1")

    def commit() -> None:
        room.ledger.seal(second)

    assert watched(room, commit) == []
    assert room.sealed() == [first, second]
    room.end()


def test_a_file_that_stays_missing_is_a_finding_also_while_recording(kiosk: Kiosk) -> None:
    room = WriterRoom(settings(kiosk.spool), FakeClock())
    room.hear(noise(4))
    room.layout.audio(room.sealed()[0].name).unlink()
    assert watched(room, lambda: None) == ["missing"]
    room.end()


def test_of_two_unfinished_segments_only_the_newest_is_being_written(kiosk: Kiosk) -> None:
    room = WriterRoom(settings(kiosk.spool), FakeClock())
    room.hear(noise(3))
    (part,) = room.layout.open.glob("*.part")
    old = room.layout.open / "00000000000a-000000.part"
    old.write_bytes(b"left behind by a card error")
    stamp = part.stat().st_mtime - 60
    os.utime(old, (stamp, stamp))
    assert watched(room, lambda: None) == ["unfinished"]
    room.end()
