"""At real-time pace: the recorder beside three other programs, all at once, each before a room of its own.

Every room plays the same file through the same alsa-lib plugin, so what disturbs the machine disturbs everybody alike.
All start within a second. CPU and bytes are taken between two moments, from the end of the warm-up to the end, so that
starting isn't counted into an hour of running; the totals including the start are reported beside.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accounting import Ended, Reading, Running
from bench.card import Card, can_mount
from bench.contenders import CONTENDERS, RAM, Contender, Sound
from bench.machine import Bustle
from hw.simulated import SimulatedRoom
from hw.speech import speech_like

WARM_UP_S = 10.0
_STAGGER_S = 0.13
"""Not a divisor of anybody's period: contenders shouldn't all wake at the same moment."""

_SOURCE_S = 600


@dataclass(slots=True)
class _Lane:
    """One contender while it runs."""

    name: str
    contender: Contender
    place: Path
    card: Card | None
    running: Running
    began_s: float = 0.0
    first: Reading | None = None
    first_kept: int = 0
    first_device: int = 0
    first_journal_s: float = 0.0


def compare(sound: Sound, minutes: float, replicas: int, scratch: Path) -> dict[str, Any]:
    """Run everybody `replicas` times at once for `minutes` after the warm-up."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paced-", dir=scratch)))
        ram = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiosk-bench-", dir=RAM)))
        source = folder / "source.s16"
        source.write_bytes(speech_like(_SOURCE_S, sound.rate, sound.channels).tobytes())
        names = [name for _ in range(replicas) for name in CONTENDERS]
        places = [_place(stack, folder, f"{number}-{name}") for number, name in enumerate(names)]
        bustle = Bustle()
        lanes: list[_Lane] = []
        for name, (place, card) in zip(names, places, strict=True):
            room = SimulatedRoom(folder / f"room-{len(lanes)}", source, sound.rate, sound.channels)
            environment = {**room.environment, "RUNTIME_DIRECTORY": str(ram / str(len(lanes)))}
            contender = CONTENDERS[name]
            began_s = time.monotonic()
            running = contender.begin(sound, room.pcm, place, environment)
            lanes.append(_Lane(name, contender, place, card, running, began_s))
            time.sleep(_STAGGER_S)
        measured = _measure(lanes, minutes * 60)
        return {
            "sound": str(sound),
            "seconds": minutes * 60,
            "replicas": replicas,
            "machine_busy_pct": bustle.busy_pct(),
            "lanes": measured,
            "medians": _medians(measured),
        }


def _place(stack: ExitStack, folder: Path, name: str) -> tuple[Path, Card | None]:
    if not can_mount():
        (folder / name).mkdir()
        return folder / name, None
    card = stack.enter_context(Card(folder / f"{name}.img", folder / name))
    return card.place, card


def _measure(lanes: list[_Lane], window_s: float) -> list[dict[str, Any]]:
    starts: list[float] = []
    for lane in lanes:
        time.sleep(max(0.0, lane.began_s + WARM_UP_S - time.monotonic()))
        if lane.card:
            lane.first_device, lane.first_journal_s = lane.card.written_bytes(), lane.card.journal_cpu_s()
        lane.first, lane.first_kept = lane.running.read(), lane.contender.kept_bytes(lane.place)
        starts.append(time.monotonic())
    rows = []
    for lane, started in zip(lanes, starts, strict=True):
        time.sleep(max(0.0, started + window_s - time.monotonic()))
        last, kept = lane.running.read(), lane.contender.kept_bytes(lane.place)
        elapsed = time.monotonic() - started
        rows.append((lane, elapsed, last, kept, _card_costs(lane, elapsed, kept)))
    result = []
    for lane, elapsed, last, kept, card_costs in rows:
        ended = lane.running.stop(lane.contender.stop)
        result.append(_row(lane, elapsed, last, kept, ended) | card_costs)
    return result


def _card_costs(lane: _Lane, elapsed: float, kept: int) -> dict[str, float]:
    """What the kernel does for the contender in nobody's name. The journal first: asking for the bytes makes some."""
    if lane.card is None:
        return {}
    journal_s = lane.card.journal_cpu_s() - lane.first_journal_s
    written = lane.card.written_bytes() - lane.first_device
    return {
        "journal_cpu_s_per_hour": round(journal_s * 3600 / elapsed, 3),
        "device_per_kept": round(written / max(1, kept - lane.first_kept), 3),
    }


def _row(lane: _Lane, elapsed: float, last: Reading, kept: int, ended: Ended) -> dict[str, Any]:
    first = lane.first
    assert first is not None
    hours = elapsed / 3600
    kept_in_window = kept - lane.first_kept
    kept_at_end = lane.contender.kept_bytes(lane.place)
    return {
        "contender": lane.name,
        "cpu_s_per_hour": round((last.cpu_s - first.cpu_s) / hours, 3),
        "user_s_per_hour": round((last.user_s - first.user_s) / hours, 2),
        "system_s_per_hour": round((last.system_s - first.system_s) / hours, 2),
        "start_cpu_s": round(first.cpu_s, 3),
        "total_cpu_s": round(ended.cpu_s, 3),
        "wakeups_per_s": round((last.wakeups - first.wakeups) / elapsed, 2),
        "peak_mib": round(last.peak_bytes / 2**20, 1),
        "resident_mib": round(last.resident_bytes / 2**20, 1),
        "anonymous_mib": round(last.anonymous_bytes / 2**20, 1),
        "kept_bytes": kept_at_end,
        "written_per_kept": round((last.written_bytes - first.written_bytes) / max(1, kept_in_window), 3),
        "written_per_kept_with_start": round(ended.written_bytes / max(1, kept_at_end), 3),
        "exit_status": ended.status,
    }


def _medians(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Each contender's median row, and the recorder's CPU as a ratio to the others'."""
    medians: dict[str, dict[str, float]] = {}
    for name in CONTENDERS:
        own = [row for row in rows if row["contender"] == name]
        medians[name] = {
            key: statistics.median(row[key] for row in own)
            for key, value in own[0].items()
            if isinstance(value, float | int) and key != "exit_status"
        }
    for median in medians.values():
        median["recorder_cpu_ratio"] = round(medians["recorder"]["cpu_s_per_hour"] / median["cpu_s_per_hour"], 3)
    return medians
