from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from agent.spool import SegmentName
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings

if TYPE_CHECKING:
    from numpy.typing import NDArray


def heard(path: Path) -> NDArray[np.int16]:
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate == RATE
    return np.asarray(samples, np.int16)


@pytest.fixture
def room(kiosk: Kiosk) -> WriterRoom:
    """Five seconds in three segments of one run."""
    return kiosk.recorded(5)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.flac"


def sealed(room: WriterRoom) -> list[Path]:
    return sorted(room.layout.sealed.glob("*.flac"))


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".WAV"])
def test_a_run_is_joined_without_losing_a_sample(kiosk: Kiosk, room: WriterRoom, tmp_path: Path, suffix: str) -> None:
    run = sealed(room)[0].name.partition("-")[0]
    out = tmp_path / f"out{suffix}"
    answer = kiosk.run("open", "--run", run, "-o", out)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == f"{out}: 5 s, 8000 Hz × 1, from 3 segments\n"
    assert np.array_equal(heard(out), noise(5))


def test_what_is_written_is_a_perfect_flac_file(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    kiosk.run("open", *sealed(room), "-o", out, config=False)
    assert subprocess.run(["flac", "-t", "-s", str(out)], check=False).returncode == 0


def test_segments_are_found_by_their_names(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    names = [path.stem for path in sealed(room)[1:]]
    document = kiosk.run("open", *names, "-o", out, "--json").json()
    assert np.array_equal(heard(out), noise(5)[2 * RATE :])
    assert document == {
        "file": str(out),
        "begin": None,
        "seconds": 3.0,
        "silent_seconds": 0.0,
        "frames": 3 * RATE,
        "rate": RATE,
        "channels": 1,
        "segments": names,
        "cut": [],
    }


def test_files_of_the_bucket_are_known_by_their_keys(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    downloaded = []
    for number, path in enumerate(sealed(room)):
        run, _, seq = path.stem.partition("-")
        file = out.parent / f"20270115T08000{2 * number}Z_{run}_{seq}_0123456789abcdef.flac"
        file.write_bytes(path.read_bytes())
        downloaded.append(file)
    assert kiosk.run("open", *downloaded, "-o", out, config=False).status == 0
    assert np.array_equal(heard(out), noise(5))


@pytest.mark.parametrize("torn", [None, 0, 1])
@pytest.mark.parametrize("wish", [["--from", "2027-01-15T08:00:00Z", "--to", "2027-01-15T09:00:00Z"], ["--run"]])
def test_a_recording_that_lies_there_twice_is_heard_once(
    kiosk: Kiosk, room: WriterRoom, out: Path, torn: int | None, wish: list[str]
) -> None:
    downloaded = []
    for number, path in enumerate(sealed(room)):
        run, _, seq = path.stem.partition("-")
        for copy in (0, 1):
            file = out.parent / f"20270115T08000{2 * number}Z_{run}_{seq}_{copy:016x}.flac"
            content = path.read_bytes()
            file.write_bytes(content[:-3000] if copy == torn else content)
            downloaded.append(file)
    name = [run] if wish == ["--run"] else []
    answer = kiosk.run("open", *downloaded, *wish, *name, "-o", out, config=False)
    assert (answer.status, answer.err) == (0, "")
    assert np.array_equal(heard(out), noise(5))


@pytest.mark.parametrize("order", [(0, 2), (1, 0), (0, 0)])
def test_it_does_not_join_over_a_gap_unless_told_to(
    kiosk: Kiosk, room: WriterRoom, out: Path, order: tuple[int, int]
) -> None:
    pieces = [sealed(room)[number] for number in order]
    answer = kiosk.run("open", *pieces, "-o", out, config=False)
    assert answer.status == 2
    assert answer.err.startswith(f"join recordings: {pieces[1].name} doesn't follow {pieces[0].name}\n")
    assert not out.exists()
    assert kiosk.run("open", *pieces, "-o", out, "--over-gaps", config=False).status == 0
    assert np.array_equal(heard(out), np.concatenate([heard(piece) for piece in pieces]))


def test_a_run_with_a_segment_evicted_from_its_middle_has_a_gap(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    first, second, third = sealed(room)
    second.unlink()
    answer = kiosk.run("open", "--run", first.name.partition("-")[0], "-o", out)
    assert answer.status == 2
    assert f"{third.name} doesn't follow {first.name}" in answer.err


def test_the_segment_being_written_is_heard_as_far_as_it_is_durable(kiosk: Kiosk, out: Path) -> None:
    room = WriterRoom(settings(kiosk.spool, segment_seconds=15), FakeClock())
    samples = noise(25)
    room.hear(samples)
    run = room.sealed()[0].run
    answer = kiosk.run("open", "--run", run, "-o", out)
    assert answer.status == 0
    assert f"note: {run}-000001 ends early: it was cut off while it was being written" in answer.out
    found = heard(out)
    assert len(found) > 20 * RATE
    assert np.array_equal(found, samples[: len(found)])
    assert room.layout.part(SegmentName(run, 1)).exists()
    room.end()


def test_a_segment_that_has_only_just_begun_keeps_nobody_from_the_ones_before(kiosk: Kiosk, out: Path) -> None:
    room = WriterRoom(settings(kiosk.spool, segment_seconds=15), FakeClock())
    samples = noise(16)
    room.hear(samples)
    run = room.sealed()[0].run
    assert room.layout.part(SegmentName(run, 1)).stat().st_size == 0
    answer = kiosk.run("open", "--run", run, "-o", out)
    assert answer.status == 0, answer.err
    assert np.array_equal(heard(out), samples[: 15 * RATE])
    room.end()


def test_a_torn_file_in_the_middle_is_a_gap(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    first, second, _ = sealed(room)
    second.write_bytes(second.read_bytes()[:-3000])
    answer = kiosk.run("open", *sealed(room), "-o", out, config=False)
    assert answer.status == 2
    assert f"{second.name} was cut short, so " in answer.err
    assert not out.exists()
    assert kiosk.run("open", first, second, "-o", out, config=False).status == 0
    found = heard(out)
    assert 2 * RATE < len(found) < 4 * RATE
    assert np.array_equal(found, noise(5)[: len(found)])


def test_damage_in_the_middle_of_a_file_is_told_and_nothing_is_written(
    kiosk: Kiosk, room: WriterRoom, out: Path
) -> None:
    first = sealed(room)[0]
    data = bytearray(first.read_bytes())
    data[12_000:12_100] = bytes(100)
    first.write_bytes(data)
    answer = kiosk.run("open", first, "-o", out, config=False)
    assert answer.status == 2
    assert answer.err.startswith(f"decode recording {first}: it is damaged\n  → `flac -d -F`")
    assert list(out.parent.glob("*out.flac*")) == []


def test_nothing_is_overwritten_unless_forced(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    out.write_text("mine")
    answer = kiosk.run("open", *sealed(room), "-o", out, config=False)
    assert answer.status == 2
    assert answer.err == f"write {out}: is there already\n  → choose another name, or replace it with --force\n"
    assert out.read_text() == "mine"
    assert kiosk.run("open", *sealed(room), "-o", out, "--force", config=False).status == 0
    assert np.array_equal(heard(out), noise(5))


def test_a_failure_with_force_leaves_the_old_file(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    out.write_text("mine")
    (out.parent / "broken.flac").write_bytes(b"fLaC" + bytes(100))
    answer = kiosk.run("open", sealed(room)[0], out.parent / "broken.flac", "-o", out, "--force", "--over-gaps")
    assert answer.status == 2
    assert out.read_text() == "mine"


def test_recordings_of_different_formats_are_not_joined(kiosk: Kiosk, room: WriterRoom, out: Path) -> None:
    other = out.parent / "other.flac"
    soundfile.write(other, noise(1, channels=2), RATE, subtype="PCM_16")
    answer = kiosk.run("open", sealed(room)[0], other, "-o", out, "--over-gaps", config=False)
    assert answer.status == 2
    assert "other.flac has 8000 Hz × 2, not 8000 Hz × 1" in answer.err


def test_a_place_that_is_not_there_is_told(kiosk: Kiosk, room: WriterRoom, tmp_path: Path) -> None:
    answer = kiosk.run("open", sealed(room)[0], "-o", tmp_path / "nowhere" / "out.flac", config=False)
    assert answer.status == 2
    assert answer.err == f"write {tmp_path}/nowhere/out.flac: its directory doesn't exist\n"
