from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.ledger import Boot, Ledger, State
from agent.recorder.rebuild import open_recovered
from agent.recorder.recovery import recover
from agent.sidecar import HEADER_BYTES, RECORD_BYTES, read_sidecar
from agent.spool import Layout, SegmentName, files_below
from agent.timeline import read
from agent.units import NS_PER_S
from tests.clocks import BOOT, FakeClock
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


def test_a_flipped_bit_in_one_record_costs_nothing_that_a_later_one_vouches_for(
    killed: WriterRoom, clock: FakeClock
) -> None:
    _, meta = part_of(killed.layout)
    records = read_sidecar(meta).records
    assert len(records) == 2
    flip(meta, HEADER_BYTES + 20)
    room = WriterRoom(killed.settings, clock)
    *_, second = room.sealed()
    assert second.frames == records[-1].frames
    np.testing.assert_array_equal(room.audio(second), noise(7)[4 * RATE : 4 * RATE + second.frames])
    order = [segment.name for segment in room.sealed()]
    room.ledger.close()
    shutil.rmtree(room.layout.state)
    assert [segment.name for segment in WriterRoom(room.settings, clock).sealed()] == order


def test_audio_whose_only_record_has_a_flipped_bit_is_kept_for_a_person(killed: WriterRoom, clock: FakeClock) -> None:
    part, meta = part_of(killed.layout)
    os.truncate(meta, HEADER_BYTES + RECORD_BYTES)
    flip(meta, HEADER_BYTES + 20)
    content = part.read_bytes()
    room = WriterRoom(killed.settings, clock)
    assert room.recovered.quarantined == [part.stem]
    assert (room.layout.quarantine / part.name).read_bytes() == content


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


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


def test_a_sealed_segment_keeps_its_sidecar_whatever_lies_in_open_under_its_name(
    tmp_path: Path, clock: FakeClock
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    sidecar = room.layout.meta(segment.name).read_bytes()
    room.layout.part(segment.name).write_bytes(b"what?")
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert again.recovered.quarantined == [str(segment.name)]
    assert again.layout.meta(segment.name).read_bytes() == sidecar


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


def test_a_rebuilt_ledger_is_in_order_whatever_was_done_to_the_wall_clock_meanwhile(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Or the oldest wouldn't go first, and the time from the wrong segment on would be accounted for twice."""
    room = WriterRoom(settings(tmp_path), clock)
    for _ in range(3):
        room.hear(noise(2))
        room.ring.interrupt("overrun", clock.monotonic_ns())
        room.writer.step()
        clock.step(-4000)
    order = [segment.name for segment in room.sealed()]
    room.ledger.close()
    shutil.rmtree(room.layout.state)
    again = WriterRoom(room.settings, clock)
    assert [segment.name for segment in again.sealed()] == order
    again.hear(noise(2))
    assert read(again.ledger).faults == []


def test_in_a_rebuilt_ledger_this_boot_is_the_last_although_it_woke_up_in_1970(
    tmp_path: Path, clock: FakeClock
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    room.end()
    clock.reboot("c" * 32, off_s=-clock.wall_ns() / NS_PER_S)
    room = WriterRoom(room.settings, clock)
    room.hear(noise(2))
    order = [segment.name for segment in room.sealed()]
    room.end()
    shutil.rmtree(room.layout.state)
    again = WriterRoom(room.settings, clock)
    assert [segment.name for segment in again.sealed()] == order
    again.hear(noise(2))
    assert read(again.ledger).faults == []


def test_a_rebuilt_ledger_dates_each_boot_by_the_time_its_clock_was_right(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    clock.is_synchronised = False
    room.hear(noise(2))
    clock.step(1000)
    clock.is_synchronised = True
    room.hear(noise(2))
    clock.step(-77)
    clock.is_synchronised = False
    room.hear(noise(2))
    clock.step(77)
    room.ledger.close()
    shutil.rmtree(room.layout.state)
    again = WriterRoom(room.settings, clock)
    assert again.ledger.boots() == [Boot(BOOT, clock.wall_ns() - clock.monotonic_ns(), "synchronised")]


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


def in_the_index(content: bytes) -> bytes:
    at = content.rindex(b"\x01pending") if content.count(b"\x01pending") else content.rindex(b"pending")
    return content[: at + 2] + b"x" + content[at + 3 :]


@pytest.mark.parametrize(
    "flip",
    [
        lambda content: content.replace(b"segments_kept", b"segments_kepu"),
        lambda content: content.replace(b"epoch TEXT", b"epocj TEXT"),
        lambda content: content.replace(b"pending", b"pendin\xe7"),
        lambda content: content.replace(b"pending", b"pendinc"),
        lambda content: content.replace(BOOT.encode(), b"c" + BOOT.encode()[1:], 1),
        lambda content: content.replace(b"synchronised", b"synchronise`"),
        lambda content: content[:18] + b"\x03" + content[19:],
        in_the_index,
    ],
    ids=["name of an index", "name of a column", "undecodable", "state", "boot", "clock", "read-only", "index"],
)
def test_a_flipped_bit_in_the_ledger_neither_stops_the_recorder_nor_costs_a_recording(
    tmp_path: Path, clock: FakeClock, flip: Callable[[bytes], bytes]
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(5))
    room.end()
    audio = {path.name: path.read_bytes() for path in room.layout.sealed.glob("*.flac")}
    content = room.layout.ledger.read_bytes()
    assert flip(content) != content
    room.layout.ledger.write_bytes(flip(content))
    again = WriterRoom(room.settings, clock)
    assert {path.name: path.read_bytes() for path in again.layout.sealed.glob("*.flac")} == audio
    assert {segment.state for segment in again.sealed()} == {"pending"}
    before = len(audio)
    again.hear(noise(4))
    assert len(again.sealed()) == before + 2
    assert again.vitals.storage == "recording"
    assert list(again.layout.state.glob("damaged-*-ledger.db"))


def test_a_pending_recording_that_the_ledger_misses_although_it_is_here_is_kept(
    tmp_path: Path, clock: FakeClock
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.ledger.forget_files([segment.name])
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert again.recovered.entered == [segment.name]
    assert again.sealed() == [segment]
    assert again.layout.audio(segment.name).exists()


def test_a_ledger_that_can_not_be_used_now_is_not_set_aside(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or failing card is no reason to begin anew."""
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    room.end()
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL

    def refuse(*_: object) -> None:
        raise full

    monkeypatch.setattr("agent.recorder.rebuild.recover", refuse)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        open_recovered(room.layout, clock)
    assert not list(room.layout.state.glob("damaged-*"))


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


def test_a_lost_segment_leaves_no_sidecar_behind(tmp_path: Path, clock: FakeClock) -> None:
    """A file that nothing counts would take the spool beyond its cap."""
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.layout.audio(segment.name).unlink()
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert not list(files_below(again.layout.sealed))
    assert again.retention.used == 0
    assert not recover(again.layout, again.ledger)


def test_what_is_acknowledged_in_the_moment_its_file_is_missed_is_not_lost(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    (segment,) = room.sealed()
    room.layout.audio(segment.name).unlink()
    real = Ledger.settle

    def settle(ledger: Ledger, name: SegmentName, state: State, reason: str) -> bool:
        ledger.acknowledge(name, "stored")
        return real(ledger, name, state, reason)

    monkeypatch.setattr(Ledger, "settle", settle)
    assert not recover(room.layout, room.ledger)
    after = room.ledger.segment(segment.name)
    assert after is not None
    assert (after.state, after.present) == ("acknowledged", False)
    assert "segment_errors_total" not in room.ledger.counters()


@pytest.mark.parametrize("present", [True, False])
def test_what_the_courier_found_damaged_while_no_recorder_ran_goes_to_quarantine_and_counts(
    tmp_path: Path, clock: FakeClock, *, present: bool
) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(4))
    damaged, sound = room.sealed()
    room.ledger.settle(damaged.name, "damaged", "its SHA-256 is another")
    if not present:
        room.ledger.forget_files([damaged.name])
    content = room.layout.audio(damaged.name).read_bytes()
    room.ledger.close()
    again = WriterRoom(room.settings, clock)
    assert again.recovered.quarantined == [str(damaged.name)]
    after = again.ledger.segment(damaged.name)
    assert after is not None
    assert (after.state, after.reason, after.present) == ("quarantined", "its SHA-256 is another", False)
    assert (again.layout.quarantine / again.layout.audio(damaged.name).name).read_bytes() == content
    assert again.ledger.counters()["segment_errors_total"] == 1
    assert again.ledger.segment(sound.name) == sound


def test_each_segment_that_recovery_sets_aside_or_misses_is_counted_once(killed: WriterRoom, clock: FakeClock) -> None:
    next(killed.layout.sealed.glob("*.flac")).unlink()
    _, meta = part_of(killed.layout)
    meta.unlink()
    (killed.layout.sealed / "holiday.jpg").write_bytes(b"no segment")
    again = WriterRoom(killed.settings, clock)
    assert again.ledger.counters()["segment_errors_total"] == 2
    recover(again.layout, again.ledger)
    assert again.ledger.counters()["segment_errors_total"] == 2


def test_a_segment_whose_entry_the_power_cut_took_counts_as_sealed(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path), clock)
    room.hear(noise(2))
    before = room.ledger.counters()
    room.ledger.close()
    shutil.rmtree(room.layout.state)
    after = WriterRoom(room.settings, clock).ledger.counters()
    counted = ("segments_total", "captured_seconds_total")
    assert [after[name] for name in counted] == [before[name] for name in counted] == [1, 2]


def test_what_lies_in_quarantine_is_never_replaced_by_another_of_its_name(tmp_path: Path, clock: FakeClock) -> None:
    layout = Layout(tmp_path)
    layout.create()
    for directory in (layout.sealed, layout.open, layout.quarantine):
        (directory / "notes.txt").write_text(directory.name)
    WriterRoom(settings(tmp_path), clock)
    kept = {path.name: path.read_text() for path in layout.quarantine.iterdir()}
    assert kept == {"notes.txt": "quarantine", "notes.txt.2": "sealed", "notes.txt.3": "open"}


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
