"""`verify --repair` puts right what recovery would, and nothing else; a second look then finds only what is left."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import Ledger, Segment
from agent.sidecar import read_sidecar
from agent.spool import InstanceLock, Layout
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings
from tests.soundcard import Soundcard

NOBODY = 65534


def flip(path: Path, at: int = 5000) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


class Patient:
    """A spool of four segments and an unfinished one, the second of them to be damaged."""

    def __init__(self, kiosk: Kiosk) -> None:
        self.kiosk = kiosk
        room = WriterRoom(settings(kiosk.spool, sync_seconds=0.5, segment_seconds=4), FakeClock())
        room.hear(noise(19))
        self.segment: Segment = room.sealed()[1]
        self.layout = room.layout
        room.ledger.close()
        self.audio, self.meta = self.layout.audio(self.segment.name), self.layout.meta(self.segment.name)

    def finished(self) -> Patient:
        """The same without the unfinished segment."""
        WriterRoom(settings(self.kiosk.spool), FakeClock(monotonic_s=120)).ledger.close()
        return self

    def repair(self, *options: str) -> Any:  # noqa: ANN401 (a JSON document)
        answer = self.kiosk.run("verify", "--repair", "--json", *options)
        found = answer.json()
        assert answer.status == (1 if found["findings"] else 0), answer.err
        assert found["good"] is not bool(found["findings"])
        return found

    def sql(self, statement: str) -> None:
        with closing(sqlite3.connect(self.layout.ledger)) as database, database:
            database.execute(statement)

    def became(self, root: Path | None = None) -> tuple[list[Segment], dict[str, float], dict[str, bytes]]:
        """What a ledger says (but when), and every file of its spool."""
        layout = Layout(root or self.kiosk.spool)
        with Ledger(layout.ledger, FakeClock(), read_only=True) as ledger:
            segments = [replace(segment, settled_ns=None) for segment in ledger.segments()]
            counters = ledger.counters()
        paths = (path for path in layout.spool.rglob("*") if path.is_file())
        return segments, counters, {str(path.relative_to(layout.root)): path.read_bytes() for path in paths}


@pytest.fixture
def patient(kiosk: Kiosk) -> Patient:
    return Patient(kiosk)


def kinds(findings: list[dict[str, str]]) -> list[str]:
    return sorted(finding["kind"] for finding in findings)


def nothing(_: Patient) -> None:
    """An unfinished segment alone."""


def part(patient: Patient) -> Path:
    (found,) = patient.layout.open.glob("*.part")
    return found


def tear(patient: Patient) -> None:
    records = read_sidecar(part(patient).with_suffix(".meta")).records
    os.truncate(part(patient), records[-1].size - 1)


def settle(patient: Patient) -> None:
    patient.sql("UPDATE segments SET state = 'evicted' WHERE seq = 1")


def report_damage(patient: Patient) -> None:
    patient.sql("UPDATE segments SET state = 'damaged', reason = 'its hash differs' WHERE seq = 1")


def part_from_its_sidecar(patient: Patient) -> None:
    patient.meta.rename(patient.layout.open_meta(patient.segment.name))
    patient.sql("DELETE FROM segments WHERE seq = 1")


def a_stranger(patient: Patient) -> None:
    (patient.layout.sealed / "holiday.jpg").write_text("beach")


def write_what_is_sealed(patient: Patient) -> None:
    patient.layout.part(patient.segment.name).write_bytes(b"what?")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (nothing, ["unfinished"]),
        (tear, ["unfinished"]),
        (lambda patient: part(patient).with_suffix(".meta").unlink(), ["unfinished"]),
        (lambda patient: patient.audio.unlink(), ["missing", "unfinished"]),
        (lambda patient: patient.sql("DELETE FROM segments WHERE seq = 1"), ["unfinished", "unknown"]),
        (part_from_its_sidecar, ["unfinished", "unfinished", "unknown"]),
        (settle, ["settled", "unfinished"]),
        (report_damage, ["settled", "unfinished"]),
        (a_stranger, ["stranger", "unfinished"]),
        (write_what_is_sealed, ["twice", "unfinished"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_does_exactly_what_the_recorder_does_at_its_next_start(
    patient: Patient, damage: Callable[[Patient], None], found: list[str], tmp_path: Path
) -> None:
    damage(patient)
    restarted = tmp_path / "restarted"
    shutil.copytree(patient.kiosk.spool, restarted)
    answer = patient.repair()
    # Where SQL took an entry away, the time it stood for stays unaccounted until the entry is back: not in this look.
    assert [kind for kind in kinds(answer["repaired"]) if kind != "tiling"] == found
    assert answer["findings"] == []
    room = WriterRoom(settings(restarted), FakeClock(monotonic_s=1000))
    assert room.recovered
    assert patient.became() == patient.became(restarted)
    room.ledger.close()
    assert patient.repair()["repaired"] == []


@pytest.mark.parametrize("damage", [flip, lambda path: os.truncate(path, 9000)], ids=["bit", "end"])
def test_audio_that_is_not_what_was_recorded_goes_to_quarantine_and_counts(
    patient: Patient, damage: Callable[[Path], None]
) -> None:
    patient.finished()
    damage(patient.audio)
    content = patient.audio.read_bytes()
    before, counted, _ = patient.became()
    answer = patient.repair()
    assert kinds(answer["repaired"]) in (["hash"], ["size"])
    assert (answer["findings"], answer["quarantined_files"]) == ([], 2)
    after, counters, files = patient.became()
    assert [segment.state for segment in after] == ["pending", "quarantined", "pending", "pending", "pending"]
    assert [before[0], *before[2:]] == [after[0], *after[2:]]
    assert counters == counted | {"segment_errors_total": 1}
    assert files[f"spool/quarantine/{patient.audio.name}"] == content
    assert not patient.audio.exists()
    with Ledger(patient.layout.ledger, FakeClock(), read_only=True) as ledger:
        told = [entry.kind for entry in ledger.entries() if entry.body.get("seq") == 1]
    assert told == ["sealed", "damaged", "quarantined"]


def test_without_reading_only_lengths_are_judged(patient: Patient) -> None:
    flip(patient.finished().audio)
    assert patient.repair("--fast")["repaired"] == []
    assert patient.audio.exists()


def test_an_uploaded_recording_with_a_flipped_bit_is_left_to_its_end(patient: Patient) -> None:
    patient.finished().sql("UPDATE segments SET state = 'acknowledged' WHERE seq = 1")
    flip(patient.audio)
    answer = patient.repair()
    assert (kinds(answer["findings"]), answer["repaired"]) == (["hash"], [])
    assert patient.audio.exists()


def test_what_nothing_repairs_is_left_and_said(patient: Patient) -> None:
    patient.finished().meta.unlink()
    flip(patient.layout.audio(replace(patient.segment, seq=2).name))
    patient.sql("UPDATE journal SET body = replace(body, '\"truncated\":false', '\"truncated\":true') WHERE seq = 5")
    before = kinds(patient.kiosk.run("verify", "--json").json()["findings"])
    assert before == ["chain", "hash", "sidecar"]
    answer = patient.kiosk.run("verify", "--repair")
    assert answer.status == 1
    assert f"repaired: hash: spool/sealed/{patient.segment.run}-000002.flac isn't what was recorded" in answer.out
    assert "chain: state/ledger.db the journal's chain is broken at entry 5" in answer.out
    assert answer.out.splitlines()[-1] == "1 repaired, 2 left"


def test_a_ledger_that_is_no_database_is_kept_aside_and_made_anew(patient: Patient) -> None:
    recorded = {segment.name: segment.sha256 for segment in patient.finished().became()[0]}
    with patient.layout.ledger.open("r+b") as file:
        file.write(b"not a database at all")
    answer = patient.repair()
    assert (kinds(answer["repaired"]), answer["findings"]) == (["ledger"], [])
    assert {segment.name: segment.sha256 for segment in patient.became()[0]} == recorded
    (aside,) = patient.layout.state.glob("damaged-*-ledger.db")
    assert aside.read_bytes().startswith(b"not a database at all")


def test_a_ledger_that_is_gone_is_made_anew(patient: Patient) -> None:
    recorded = {segment.name: segment.sha256 for segment in patient.finished().became()[0]}
    shutil.rmtree(patient.layout.state)
    assert patient.kiosk.run("verify").status == 2
    answer = patient.repair()
    assert (kinds(answer["repaired"]), answer["findings"]) == (["ledger"], [])
    assert {segment.name: segment.sha256 for segment in patient.became()[0]} == recorded


def test_a_spool_over_its_cap_gives_nothing_up(patient: Patient) -> None:
    patient.finished()
    patient.kiosk.configure(spool='cap = "1MiB"')
    (patient.layout.quarantine / "filler").write_bytes(bytes(2**20))
    before = patient.became()
    assert kinds(patient.repair()["findings"]) == ["cap"]
    assert patient.became() == before


def test_the_recorder_goes_on_after_it_and_every_moment_is_accounted_for(patient: Patient) -> None:
    flip(patient.audio)
    patient.repair()
    room = WriterRoom(settings(patient.kiosk.spool), FakeClock(monotonic_s=1000))
    assert not room.recovered
    room.hear(noise(4))
    assert [segment.frames for segment in room.sealed()[-2:]] == [2 * RATE, 2 * RATE]
    room.end()
    assert patient.kiosk.run("timeline").status == 0
    assert patient.repair()["repaired"] == []


def test_a_running_recorder_is_not_disturbed(kiosk: Kiosk, soundcard: Soundcard) -> None:
    kiosk.environment |= soundcard(noise(10), RATE).environment
    kiosk.configure(capture='pcm = "simroom"')
    kiosk.start("record")
    pid = kiosk.recording()
    answer = kiosk.run("verify", "--repair")
    assert (answer.status, answer.out) == (2, "")
    assert f"a recorder runs here (process {pid})" in answer.err
    assert "systemctl stop kiosk-recorder" in answer.err
    assert kiosk.recording() == pid
    assert kiosk.run("verify").status == 0


def test_the_recorders_lock_is_free_again_afterwards(patient: Patient) -> None:
    patient.repair()
    InstanceLock(patient.layout, "recorder").close()


def test_where_no_recorder_ever_ran_nothing_is_made(kiosk: Kiosk) -> None:
    answer = kiosk.run("verify", "--repair")
    assert (answer.status, answer.out) == (2, "")
    assert "repair spool" in answer.err
    assert not kiosk.spool.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act for somebody else")
def test_root_leaves_nothing_behind_that_the_recorder_could_not_write() -> None:
    # Others may look into this directory, unlike pytest's own.
    with tempfile.TemporaryDirectory() as root, Kiosk(Path(root)) as kiosk:
        Path(root).chmod(0o755)
        patient = Patient(kiosk)
        patient.layout.ledger.write_bytes(b"garbage" * 1000)
        for path in (kiosk.spool, *kiosk.spool.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        assert kinds(patient.repair()["repaired"]) == ["ledger"]
        assert list(patient.layout.state.glob("damaged-*-ledger.db"))
        assert {path.stat().st_uid for path in kiosk.spool.rglob("*")} == {NOBODY}
