from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.ledger import Ledger
from agent.recorder.recovery import recover
from agent.sidecar import HEADER_BYTES, RECORD_BYTES, read_sidecar
from agent.spool import Layout, SegmentName, files_below
from tests.clocks import FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def killed(tmp_path: Path, clock: FakeClock) -> WriterRoom:
    """A recorder that was killed 3 s into its second segment of 4 s, after syncing it twice."""
    room = WriterRoom(settings(tmp_path, sync_seconds=0.5, segment_seconds=4), clock)
    room.hear(noise(7))
    room.ledger.close()
    return room


def part_of(layout: Layout) -> tuple[Path, Path]:
    parts = [Path(entry.path) for entry in files_below(layout.open) if entry.name.endswith(".part")]
    assert len(parts) == 1
    return parts[0], parts[0].with_suffix(".meta")


def test_everything_up_to_the_last_sync_is_there_sealed_as_truncated(killed: WriterRoom, clock: FakeClock) -> None:
    _, meta = part_of(killed.layout)
    durable = read_sidecar(meta).records[-1].frames
    room = WriterRoom(killed.settings, clock)
    first, second = room.sealed()
    assert (first.truncated, second.truncated) == (False, True)
    assert second.frames == durable >= RATE // 2
    np.testing.assert_array_equal(room.audio(second), noise(7)[4 * RATE : 4 * RATE + durable])
    assert not list(files_below(room.layout.open))


def test_a_second_recovery_finds_nothing_to_do(killed: WriterRoom, clock: FakeClock) -> None:
    room = WriterRoom(killed.settings, clock)
    assert room.recovered.truncated
    assert not recover(room.layout, room.ledger)


def test_a_torn_sidecar_record_is_ignored(killed: WriterRoom, clock: FakeClock) -> None:
    _, meta = part_of(killed.layout)
    whole = read_sidecar(meta)
    with meta.open("ab") as file:
        file.write(b"\x01torn")
    room = WriterRoom(killed.settings, clock)
    assert room.sealed()[-1].frames == whole.records[-1].frames


def test_audio_that_the_card_lost_although_it_was_synced_steps_back_to_an_earlier_record(
    killed: WriterRoom, clock: FakeClock
) -> None:
    part, meta = part_of(killed.layout)
    records = read_sidecar(meta).records
    assert len(records) >= 2
    with part.open("r+b") as file:
        file.seek(records[-2].size + 10)
        file.write(b"\0" * 100)
    room = WriterRoom(killed.settings, clock)
    assert room.sealed()[-1].frames == records[-2].frames
    soundfile.read(room.layout.audio(room.sealed()[-1].name))


def test_a_segment_without_any_durable_frame_is_dropped_as_empty(killed: WriterRoom, clock: FakeClock) -> None:
    part, meta = part_of(killed.layout)
    os.truncate(meta, HEADER_BYTES)
    room = WriterRoom(killed.settings, clock)
    assert [str(name) for name in room.recovered.empty] == [part.stem]
    assert "empty" in [entry.kind for entry in room.ledger.entries()]
    assert not list(files_below(room.layout.open))


def test_audio_without_a_readable_sidecar_goes_to_quarantine_and_is_kept(killed: WriterRoom, clock: FakeClock) -> None:
    part, meta = part_of(killed.layout)
    content = part.read_bytes()
    meta.write_bytes(b"garbage" * 40)
    room = WriterRoom(killed.settings, clock)
    assert room.recovered.quarantined == [part.stem]
    assert (room.layout.quarantine / part.name).read_bytes() == content


def test_a_crash_between_mending_the_header_and_the_last_record_is_recovered(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(settings(tmp_path, sync_seconds=0.5, segment_seconds=4), clock)
    room.hear(noise(2.6))
    monkeypatch.setattr("agent.recorder.segment.hash_file", _power_cut)
    with pytest.raises(_PowerCutError):
        room.end()
    monkeypatch.undo()
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    (sealed,) = again.sealed()
    np.testing.assert_array_equal(again.audio(sealed), noise(2.6)[: sealed.frames])
    assert sealed.frames >= RATE // 2


class _PowerCutError(Exception):
    pass


def _power_cut(*_: object) -> None:
    raise _PowerCutError


@pytest.mark.parametrize("moved", [".meta", ".part"])
def test_a_move_into_sealed_that_was_cut_in_between_is_finished(tmp_path: Path, clock: FakeClock, moved: str) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.close()
    shutil.rmtree(room.layout.state)
    layout, name = room.layout, segment.name
    if moved == ".meta":
        layout.audio(name).rename(layout.part(name))
    else:
        layout.meta(name).rename(layout.open_meta(name))
    again = WriterRoom(room.settings, clock)
    (found,) = again.sealed()
    assert (found.name, found.sha256, found.truncated) == (name, segment.sha256, False)
    assert not list(files_below(layout.open))


def test_a_lost_ledger_is_rebuilt_from_the_spool(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(9))
    before = [(s.name, s.sha256, s.begin_ns, s.end_ns, s.frames, s.bytes, s.meta_bytes) for s in room.sealed()]
    epoch = room.ledger.epoch()
    room.ledger.close()
    shutil.rmtree(room.layout.state)
    again = WriterRoom(room.settings, clock)
    after = [(s.name, s.sha256, s.begin_ns, s.end_ns, s.frames, s.bytes, s.meta_bytes) for s in again.sealed()]
    assert after[: len(before)] == before
    assert again.ledger.epoch() != epoch


def test_a_damaged_ledger_is_kept_aside_and_rebuilt(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(5))
    known = [segment.name for segment in room.sealed()]
    room.ledger.close()
    damaged = b"not a database" * 1000
    room.layout.ledger.write_bytes(damaged)
    for suffix in ("-wal", "-shm"):
        room.layout.ledger.with_name(room.layout.ledger.name + suffix).unlink(missing_ok=True)
    again = WriterRoom(room.settings, clock)
    assert [segment.name for segment in again.sealed()][: len(known)] == known
    (aside,) = room.layout.state.glob("damaged-*-ledger.db")
    assert aside.read_bytes() == damaged


def test_a_pending_segment_whose_file_is_gone_is_marked_lost(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.layout.audio(segment.name).unlink()
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert again.recovered.lost == [segment.name]
    (after,) = again.sealed()
    assert (after.state, after.present) == ("lost", False)
    assert not recover(again.layout, again.ledger)
    assert not list(files_below(again.layout.sealed))


def test_a_file_the_ledger_gave_up_before_the_power_cut_is_removed(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(4))
    evicted, kept = room.sealed()
    room.ledger.settle(evicted.name, "evicted", "cap")
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert again.recovered.removed == [evicted.name]
    assert not room.layout.audio(evicted.name).exists()
    assert room.layout.audio(kept.name).exists()


def test_an_acknowledged_file_that_came_back_after_its_removal_goes_again(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.acknowledge(segment.name, "stored")
    room.ledger.forget_files([segment.name])
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert again.recovered.removed == [segment.name]
    assert not list(files_below(room.layout.sealed))


@pytest.mark.parametrize("kept", [".flac", ".meta"])
def test_an_acknowledged_pair_of_which_a_power_cut_kept_one_file_goes(
    tmp_path: Path, clock: FakeClock, kept: str
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.acknowledge(segment.name, "stored")
    room.ledger.close()
    for entry in files_below(room.layout.sealed):
        if not entry.name.endswith(kept):
            Path(entry.path).unlink()
    again = WriterRoom(room.settings, clock)
    assert again.recovered.removed == [segment.name]
    assert not list(files_below(again.layout.sealed))


def test_an_acknowledged_pair_that_is_whole_stays(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.acknowledge(segment.name, "stored")
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert not again.recovered
    assert again.layout.audio(segment.name).exists()


def test_what_a_cut_start_left_to_try_the_card_is_gone_after_the_next(tmp_path: Path, clock: FakeClock) -> None:
    layout = Layout(tmp_path)
    layout.create()
    (layout.open / ".probe").write_bytes(b"")
    room = WriterRoom(settings(tmp_path), clock)
    assert not room.recovered
    assert not list(files_below(layout.open))


def test_a_sealed_file_that_is_not_what_its_sidecar_vouches_for_goes_to_quarantine(
    tmp_path: Path, clock: FakeClock
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.close()
    shutil.rmtree(room.layout.state)
    with room.layout.audio(segment.name).open("r+b") as file:
        file.seek(1000)
        file.write(b"flip")
    again = WriterRoom(room.settings, clock)
    assert again.recovered.quarantined == [str(segment.name)]
    assert not again.sealed()


def test_strangers_in_the_spool_are_set_aside(tmp_path: Path, clock: FakeClock) -> None:
    layout = Layout(tmp_path)
    layout.create()
    (layout.sealed / "holiday.jpg").write_bytes(b"x")
    (layout.open / "a.tmp").write_bytes(b"y")
    room = WriterRoom(settings(tmp_path), clock)
    assert sorted(room.recovered.quarantined) == ["a.tmp", "holiday.jpg"]
    assert (layout.quarantine / "holiday.jpg").exists()


def test_recovery_survives_its_own_crash_after_any_step(killed: WriterRoom, clock: FakeClock, tmp_path: Path) -> None:
    """Cut the recovery short before its n-th rename, for every n, on a copy each; the next one ends the same."""
    reference = WriterRoom(_moved(killed, tmp_path / "reference"), clock)
    expected = [(s.name, s.sha256, s.frames, s.truncated) for s in reference.sealed()]
    for cut in range(10):
        chosen = _moved(killed, tmp_path / f"cut-{cut}")
        finished = _recover_with_a_cut(chosen.spool.path, clock, cut)
        again = WriterRoom(chosen, clock)
        assert [(s.name, s.sha256, s.frames, s.truncated) for s in again.sealed()] == expected
        if finished:
            assert cut > 0, "the first cut must come before recovery is done"
            return
    pytest.fail("recovery never finished")


def _moved(room: WriterRoom, root: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
    shutil.copytree(room.layout.root, root, ignore=shutil.ignore_patterns("reference", "cut-*"))
    return settings(root, sync_seconds=0.5, segment_seconds=4)


def _recover_with_a_cut(root: Path, clock: FakeClock, cut: int) -> bool:
    layout = Layout(root)
    left = cut
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise _PowerCutError
        left -= 1
        return real(path, target)

    with pytest.MonkeyPatch.context() as patch, Ledger(layout.ledger, clock, create=True) as ledger:
        patch.setattr(Path, "rename", rename)
        try:
            recover(layout, ledger)
        except _PowerCutError:
            return False
    return True


def test_sidecar_layout_is_as_documented() -> None:
    assert (HEADER_BYTES, RECORD_BYTES) == (128, 64)
    assert str(SegmentName("0" * 12, 7)) == "000000000000-000007"


def test_a_segment_whose_beginning_was_damaged_goes_to_quarantine_and_is_kept(
    killed: WriterRoom, clock: FakeClock
) -> None:
    part, _ = part_of(killed.layout)
    with part.open("r+b") as file:
        file.seek(100)
        file.write(b"damage")
    room = WriterRoom(killed.settings, clock)
    assert room.recovered.quarantined == [part.stem]
    assert (room.layout.quarantine / part.name).exists()


def test_a_segment_sealed_but_not_yet_entered_counts_like_any_other(
    killed: WriterRoom, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counters tell the fleet what was captured; a kill right after the seal must not hide a segment from it."""
    before = WriterRoom(killed.settings, clock)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "seal", _killed)
        with pytest.raises(KeyboardInterrupt):
            before.hear(noise(5))
    before.ledger.close()
    room = WriterRoom(killed.settings, clock)
    assert len(room.recovered.entered) == 1
    counters = room.ledger.counters()
    assert counters["segments_total"] == len(room.sealed())
    assert counters["captured_seconds_total"] == pytest.approx(sum(segment.seconds for segment in room.sealed()))


def test_a_start_that_was_killed_leaves_nothing_for_the_quarantine(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start tries whether it may write; what a kill leaves of that try is nobody's riddle."""
    layout = Layout(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _killed)
        patch.setattr(os, "getpid", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            layout.create()
    assert list(files_below(layout.open))
    room = WriterRoom(settings(tmp_path), clock)
    assert not room.recovered
    assert not list(files_below(room.layout.quarantine))


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
