from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from agent.ledger import Gap, Ledger
from agent.recorder.recovery import recover
from agent.recorder.ring import TakenOver
from agent.recorder.succession import CardFailed, Succession
from agent.recorder.vitals import Noted
from agent.settings import Capture, Voice
from agent.spool import files_below
from agent.units import Duration, Size
from tests.clocks import BOOT, FakeClock
from tests.recorder.room import RATE, WriterRoom, noise, settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.ledger import NoteKind


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def room(tmp_path: Path, clock: FakeClock) -> WriterRoom:
    return WriterRoom(settings(tmp_path), clock)


def timeline(ledger: Ledger) -> list[tuple[int, int, str]]:
    """Every interval of the one boot there is, as (begin, end, what)."""
    recorded = [(segment.begin_ns, segment.end_ns, "recording") for segment in ledger.segments()]
    return sorted([*recorded, *((gap.begin_ns, gap.end_ns, gap.reason) for gap in ledger.gaps())])


def storage(room: WriterRoom) -> str:
    """What the writer says it is doing (asked anew each time: mypy believes attributes never change)."""
    return room.vitals.storage


def assert_tiles(ledger: Ledger) -> None:
    intervals = timeline(ledger)
    for before, after in itertools.pairwise(intervals):
        assert before[1] == after[0], (before, after)


def test_consecutive_segments_of_a_run_join_bit_for_bit(room: WriterRoom) -> None:
    played = noise(9.3)
    room.hear(played)
    room.ring.close()
    while room.writer.step():
        pass
    segments = room.sealed()
    assert [segment.frames / RATE for segment in segments] == [2, 2, 2, 2, 1.3]
    assert len({segment.run for segment in segments}) == 1
    np.testing.assert_array_equal(np.concatenate([room.audio(segment) for segment in segments]), played)
    assert_tiles(room.ledger)


def test_stereo_comes_back_as_it_went_in(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, capture=Capture(rate=48000, channels=2)), clock)
    played = noise(4.5, rate=48000, channels=2)
    room.hear(played)
    room.end()
    with Ledger(room.layout.ledger, clock) as ledger:
        decoded = np.concatenate([room.audio(segment) for segment in ledger.segments()])
    np.testing.assert_array_equal(decoded, played)


def test_full_and_short_segments_pass_flac_t_and_open_in_soundfile(room: WriterRoom) -> None:
    room.hear(noise(3.1))
    room.end()
    files = sorted(entry.path for entry in files_below(room.layout.sealed) if entry.name.endswith(".flac"))
    assert len(files) == 2
    for path in files:
        subprocess.run(["flac", "--test", "--silent", path], check=True)
    assert {soundfile.info(path).duration for path in files} == {2.0, 1.1}


def test_a_break_ends_the_run_and_the_gap_says_why_and_how_long(room: WriterRoom, clock: FakeClock) -> None:
    room.hear(noise(3))
    room.ring.interrupt("overrun", clock.monotonic_ns())
    clock.advance(0.7)
    room.hear(noise(3))
    room.ring.close()
    while room.writer.step():
        pass
    assert [gap.reason for gap in room.ledger.gaps()] == ["overrun"]
    gap = room.ledger.gaps()[0]
    assert gap.end_ns - gap.begin_ns == 700_000_000
    assert len({segment.run for segment in room.sealed()}) == 2
    assert room.ledger.counters()["overruns_total"] == 1
    assert room.ledger.counters()["gap_seconds_total"] == pytest.approx(0.7)
    assert_tiles(room.ledger)


def test_reasons_that_follow_each_other_in_one_silence_each_get_their_time(room: WriterRoom, clock: FakeClock) -> None:
    room.hear(noise(1))
    for reason, seconds in (("overrun", 1.0), ("unplugged", 5.0), ("schedule", 2.0)):
        room.ring.interrupt(reason, clock.monotonic_ns())  # type: ignore[arg-type]
        clock.advance(seconds)
    room.hear(noise(1))
    room.end()
    with Ledger(room.layout.ledger, clock) as ledger:
        assert [(gap.reason, (gap.end_ns - gap.begin_ns) / 1e9) for gap in ledger.gaps()] == [
            ("overrun", 1.0),
            ("unplugged", 5.0),
            ("schedule", 2.0),
        ]
        assert_tiles(ledger)


def test_a_silence_that_lasts_is_entered_piece_by_piece(room: WriterRoom, clock: FakeClock) -> None:
    room.hear(noise(1))
    room.ring.interrupt("unplugged", clock.monotonic_ns())
    for _ in range(3):
        room.writer.step()
        clock.advance(601)
    gaps = room.ledger.gaps()
    assert [gap.reason for gap in gaps] == ["unplugged", "unplugged"]
    assert_tiles(room.ledger)


def test_a_restart_in_the_same_boot_leaves_a_gap_called_restart(tmp_path: Path, clock: FakeClock) -> None:
    first = WriterRoom(settings(tmp_path), clock)
    first.hear(noise(3))
    first.end()
    clock.advance(12)
    second = WriterRoom(settings(tmp_path), clock)
    second.hear(noise(1))
    gap = second.ledger.gaps()[-1]
    assert gap.reason == "restart"
    assert gap.end_ns - gap.begin_ns == 12_000_000_000
    assert gap.previous_boot is None


def test_another_boot_leaves_a_gap_called_power_off_that_names_both(tmp_path: Path, clock: FakeClock) -> None:
    first = WriterRoom(settings(tmp_path), clock)
    first.hear(noise(3))
    end_ns = clock.monotonic_ns()
    first.end()
    clock.reboot("c" * 32, off_s=3600)
    second = WriterRoom(settings(tmp_path), clock)
    begin_ns = clock.monotonic_ns()
    second.hear(noise(1))
    assert second.ledger.gaps()[-1] == Gap("c" * 32, end_ns, begin_ns, "power_off", BOOT)


def test_only_whole_pages_reach_the_card_before_the_end(tmp_path: Path, clock: FakeClock) -> None:
    room = WriterRoom(settings(tmp_path, segment_seconds=10, sync_seconds=0.5), clock)
    room.hear(noise(3))
    (size,) = [entry.stat().st_size for entry in files_below(room.layout.open) if entry.name.endswith(".part")]
    assert size > 0
    assert size % 4096 == 0


def next_writer(room: WriterRoom, root: Path, succession: Succession) -> WriterRoom:
    """Another writer on another spool, at the same ring: what `paths` makes when the card fails."""
    return WriterRoom(settings(root), room.clock, room.ring, succession)


def everything(*rooms: WriterRoom) -> NDArray[np.int16]:
    """All that was recorded, in order of time."""
    found = []
    for room in rooms:
        with Ledger(room.layout.ledger, room.clock) as ledger:
            found += [(segment.begin_ns, room.audio(segment)) for segment in ledger.segments()]
    return np.concatenate([audio for _, audio in sorted(found, key=lambda pair: pair[0])])


def meet(before: WriterRoom, after: WriterRoom) -> bool:
    """Whether the account of one ends exactly where the other's begins."""
    with Ledger(before.layout.ledger, before.clock) as one, Ledger(after.layout.ledger, after.clock) as other:
        return timeline(one)[-1][1] == timeline(other)[0][0]


@pytest.mark.parametrize("seconds", [1, 2, 3, 4.2])
def test_a_card_that_fails_costs_nothing_because_the_next_writer_goes_on_at_the_frame(
    room: WriterRoom, tmp_path: Path, seconds: float
) -> None:
    played = noise(20)
    room.hear(played[: round(seconds * RATE)])
    room.layout.sealed.rename(room.layout.root / "away")
    with pytest.raises(CardFailed) as failure:
        room.hear(played[round(seconds * RATE) : 8 * RATE])
    heard = room.heard_frames
    (room.layout.root / "away").rename(room.layout.sealed)
    succession = failure.value.succession
    assert succession.cut is not None
    direct = next_writer(room, tmp_path / "direct", succession)
    direct.hear(played[heard:])
    direct.end()
    recover(room.layout, room.ledger, [succession.cut])
    np.testing.assert_array_equal(everything(room, direct), played)
    assert meet(room, direct)


def test_a_writer_that_is_stuck_is_taken_over_and_finishes_when_the_card_lets_it(
    room: WriterRoom, tmp_path: Path
) -> None:
    played = noise(12)
    room.hear(played[: 3 * RATE])
    room.ring.hand_to("whoever comes next")
    succession = room.writer.surrender()
    assert succession is not None
    direct = next_writer(room, tmp_path / "direct", succession)
    direct.hear(played[3 * RATE : 8 * RATE])
    with pytest.raises(TakenOver):
        room.writer.step()
    room.writer.wind_up()
    direct.hear(played[8 * RATE :])
    direct.end()
    np.testing.assert_array_equal(everything(room, direct), played)
    assert meet(room, direct)


def test_what_was_ordered_while_the_card_had_a_writer_stuck_is_entered_by_whoever_goes_on(
    room: WriterRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = noise(12)
    first, second, other = (Noted("button", {"did": "mute", "minutes": 30}) for _ in range(3))
    noted = room.vitals.noted
    successors: list[WriterRoom] = []
    enter = room.ledger.note

    def stuck(kind: NoteKind, body: dict[str, object]) -> None:
        enter(kind, body)
        if not successors:
            room.ring.hand_to("whoever comes next")
            succession = room.writer.surrender()
            assert succession is not None
            successors.append(next_writer(room, tmp_path / "direct", succession))
            successors[0].vitals.noted = noted
            successors[0].hear(played[4 * RATE : 6 * RATE])
            noted.append(other)

    room.hear(played[: 3 * RATE])
    monkeypatch.setattr(room.ledger, "note", stuck)
    noted.extend((first, second))
    room.hear(played[3 * RATE : 4 * RATE])
    with pytest.raises(TakenOver):
        room.writer.step()
    room.writer.wind_up()
    assert list(noted) == [other], "what came later is not taken for what was entered"
    (direct,) = successors
    direct.hear(played[6 * RATE :])
    direct.end()
    assert not noted
    np.testing.assert_array_equal(everything(room, direct), played)


def test_a_writer_that_is_asked_to_leave_hands_over_without_a_gap(room: WriterRoom, tmp_path: Path) -> None:
    played = noise(9)
    room.hear(played[: 3 * RATE])
    room.writer.leave()
    assert not room.writer.step()
    direct = next_writer(room, tmp_path / "direct", room.writer.succession())
    direct.hear(played[3 * RATE :])
    direct.end()
    np.testing.assert_array_equal(everything(room, direct), played)
    assert meet(room, direct)


def test_a_writer_that_gets_stuck_while_it_leaves_is_taken_over_once(
    room: WriterRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = noise(9)
    room.hear(played[: 3 * RATE])
    successions: list[Succession | None] = []
    commit = room.retention.commit_removals

    def stuck() -> None:
        if not successions:
            room.ring.hand_to("whoever comes next")
            successions.append(room.writer.surrender())
        commit()

    monkeypatch.setattr(room.retention, "commit_removals", stuck)
    room.writer.leave()
    with pytest.raises(TakenOver):
        room.writer.step()
    (succession,) = successions
    assert succession is not None
    monkeypatch.undo()
    room.writer.wind_up()
    assert not room.writer.left
    direct = next_writer(room, tmp_path / "direct", succession)
    direct.hear(played[3 * RATE :])
    direct.end()
    np.testing.assert_array_equal(everything(room, direct), played)
    assert meet(room, direct)


def test_a_writer_that_has_left_has_nothing_to_surrender(room: WriterRoom) -> None:
    room.hear(noise(3))
    room.writer.leave()
    assert not room.writer.step()
    assert room.writer.left
    assert room.writer.surrender() is None


def test_gaps_that_the_card_did_not_take_are_entered_by_the_next_writer(
    room: WriterRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.hear(noise(3))
    room.ring.interrupt("unplugged", room.clock.monotonic_ns())
    room.writer.step()
    room.clock.advance(5)
    room.ring.interrupt("schedule", room.clock.monotonic_ns())

    def refuse(_: Gap) -> None:
        raise OSError(5, "the card is gone")

    monkeypatch.setattr(room.ledger, "gap", refuse)
    with pytest.raises(CardFailed) as failure:
        room.writer.step()
    direct = next_writer(room, tmp_path / "direct", failure.value.succession)
    room.clock.advance(7)
    direct.hear(noise(2))
    direct.end()
    with Ledger(direct.layout.ledger, room.clock) as ledger:
        gaps = [(gap.reason, (gap.end_ns - gap.begin_ns) / 1e9) for gap in ledger.gaps()]
    assert gaps == [("unplugged", 5.0), ("schedule", 7.0)]


def test_stop_when_full_gives_up_nothing_and_resumes_with_hysteresis(tmp_path: Path, clock: FakeClock) -> None:
    reserve = settings(tmp_path).segment_reserve_bytes
    room = WriterRoom(settings(tmp_path, cap=Size(reserve * 3), when_full="stop", quarantine_cap=Size(0)), clock)
    room.hear(noise(30))
    assert storage(room) == "spool_full"
    kept = room.sealed()
    assert all(segment.present and segment.state == "pending" for segment in kept)
    for segment in kept[:1]:
        room.ledger.acknowledge(segment.name, "stored")
    room.hear(noise(2))
    assert storage(room) == "spool_full"
    for segment in kept[1:]:
        room.ledger.acknowledge(segment.name, "stored")
    room.hear(noise(12))
    assert storage(room) == "recording"
    room.end()
    with Ledger(room.layout.ledger, clock) as ledger:
        assert [gap.reason for gap in ledger.gaps()] == ["spool_full"]
        assert_tiles(ledger)


def test_voice_mode_keeps_what_is_said_with_preroll_and_hangover(tmp_path: Path, clock: FakeClock) -> None:
    chosen = settings(tmp_path, capture=Capture(rate=RATE, mode="voice"))
    assert chosen.voice == Voice(preroll=Duration(3), hangover=Duration(5))
    room = WriterRoom(chosen, clock)
    quiet, said = noise(20) // 50, noise(4, seed=7)
    played = np.concatenate([quiet, said, quiet])
    room.hear(played)
    room.end()
    with Ledger(room.layout.ledger, clock) as ledger:
        decoded = np.concatenate([room.audio(segment) for segment in ledger.segments()])
        assert_tiles(ledger)
        assert {gap.reason for gap in ledger.gaps()} == {"voice"}
    begin = 20 * RATE - 3 * RATE
    np.testing.assert_array_equal(decoded, played[begin : begin + len(decoded)])
    assert 3 + 4 + 5 <= len(decoded) / RATE <= 3 + 4 + 5 + 1


def test_levels_are_those_of_the_last_second(room: WriterRoom) -> None:
    room.hear(np.full((RATE, 1), 16384, np.int16))
    levels = room.vitals.levels
    assert levels is not None
    assert levels.rms_dbfs == pytest.approx(-6.02, abs=0.01)
    assert not levels.silent
    room.hear(np.zeros((RATE, 1), np.int16))
    assert room.vitals.levels is not None
    assert room.vitals.levels.silent
