"""Ten hours of a room in which everything goes wrong, drawn by lot, and every frame accounted for.

The room waits for its reader while it is heard, so the hours pass in seconds and no busy machine loses a frame that the
script doesn't lose. While the microphone is gone or frozen the room keeps real time, so that absences are noticed and
ended as they would be: they make up nearly all of this test's run time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from agent.settings import Capture, Device, Settings, Spool
from agent.units import Size
from tests.end_to_end.account import PERIOD_S, judge, losses
from tests.end_to_end.kiosk import Kiosk, stop
from tests.soundcard import Soundcard, eventually

RATE = 16000
HOURS = 10

SLOT_S = 20
"""Faults keep at least this distance, so that each has its own effect; a burst is one fault."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How many of each kind."""

    bursts: int = 40
    suspensions: int = 40
    unplugs: int = 4
    freezes: int = 2
    stalls: int = 3
    silences: int = 20
    drifts: int = 60
    short_reads: int = 60


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    settings = Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", segment_seconds=60, sync_seconds=60, keep_free=Size(0)),
    )
    with Kiosk(settings) as made:
        yield made
    shutil.rmtree(settings.spool.path)  # a few hundred megabytes


def script(faults: Faults, seed: int) -> tuple[list[str], int]:
    """The script of these hours, and how many losses are in it."""
    draw = np.random.default_rng(seed)
    kinds = [kind for kind in Faults.__slots__ for _ in range(getattr(faults, kind))]
    draw.shuffle(kinds)
    slots = np.sort(draw.choice(np.arange(1, HOURS * 3600 // SLOT_S), len(kinds), replace=False)).tolist()
    drawn = [drawn_at(slot * SLOT_S * RATE, kind, draw) for slot, kind in zip(slots, kinds, strict=True)]
    lines = [line for these in drawn for line in these]
    lost = sum(line.split()[2] in ("overrun", "suspend", "unplug", "freeze", "restless") for line in lines)
    return [*lines, f"at {HOURS * 3600 * RATE} freeze"], lost


def drawn_at(at: int, kind: str, draw: np.random.Generator) -> list[str]:
    """One fault of a kind, from frame `at` on."""

    def frames(least_s: float, most_s: float) -> int:
        return round(draw.uniform(least_s, most_s) * RATE)

    if kind == "bursts":
        lines = []
        for _ in range(draw.integers(2, 9)):
            length = frames(0.001, 1.2)
            lines.append(f"at {at} overrun {length}")
            at += length + frames(0.01, 0.8)
        return lines
    at += frames(0, 1)
    lines_of = {
        "suspensions": [f"at {at} suspend {frames(0.01, 15)}"],
        "unplugs": [f"at {at} unplug {frames(0.2, 4)}"],
        "freezes": [f"at {at} {draw.choice(['freeze', 'restless'])} {frames(3.2, 4.5)}"],
        "stalls": [f"at {at} freeze {frames(0.7, 1.6)}"],
        "silences": [f"at {at} zeros", f"at {at + frames(1, 15)} sound"],
        "drifts": [f"at {at} drift {draw.uniform(-300, 300):.1f}"],
        "short_reads": [f"at {at} short {draw.integers(1, 2000)} {draw.integers(1, 40)}"],
    }
    return lines_of[kind]


def assert_accounted(soundcard: Soundcard, kiosk: Kiosk, faults: Faults, seed: int, within_s: float) -> None:
    lines, lost = script(faults, seed)
    sound = np.random.default_rng(seed).integers(-3, 4, (61 * RATE, 1)).astype(np.int16)
    room = soundcard(sound, RATE, speed=0, script=lines)
    recorder = kiosk.record(room, room_time=True)
    end = HOURS * 3600 * RATE

    def played() -> bool:
        assert recorder.poll() is None, kiosk.log.read_text()
        history = room.history()
        return bool(history) and history[-1].position >= end

    eventually(played, "ten hours are played", within_s)
    assert stop(recorder) == 0
    assert len(losses(room)) == lost, "nothing that was drawn was missed"
    verdict = judge(kiosk, room, sound)
    assert verdict.recorded + verdict.lost == end
    assert abs(verdict.all_gaps_s) <= PERIOD_S, "the ledger's gaps make up what was lost, all together to a period"


@pytest.mark.timeout(300)
def test_ten_hours_of_faults_are_accounted_for_to_the_frame(soundcard: Soundcard, kiosk: Kiosk) -> None:
    assert_accounted(soundcard, kiosk, Faults(), 2026, 240)


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_hours_of_many_more_faults_are_accounted_for_to_the_frame(
    soundcard: Soundcard, kiosk: Kiosk, seed: int
) -> None:
    many = Faults(bursts=300, suspensions=300, unplugs=60, freezes=30, stalls=30, silences=100, drifts=300)
    assert_accounted(soundcard, kiosk, many, seed, 1200)
