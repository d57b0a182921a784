"""From exec to the first frame heard, into an empty spool and into one with many recordings."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.spool import Layout
from agent.status import RecorderStatus, read_status
from bench.accounting import Running
from bench.card import Card, can_mount
from bench.contenders import RAM, ROOT, Sound, settings_for, start_module
from bench.spools import blinks_of_audio, fill
from hw.simulated import SimulatedRoom
from hw.speech import speech_like

_SOUND = Sound(16000, 1)
_CARD_BYTES = 4 << 30
_DEADLINE_S = 120.0

_KIOSK_RECORDER = "import sys; from agent.cli import main; sys.exit(main())"
"""What the installed command `kiosk-recorder` consists of."""


def measure(counts: tuple[int, ...], repeats: int, scratch: Path) -> dict[str, Any]:
    """Start the recorder `repeats` times with each number of recordings in the spool, in turn, both ways."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="start-", dir=scratch)))
        ram = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiosk-bench-", dir=RAM)))
        cards: dict[int, Card | None] = {}
        places: dict[int, Path] = {}
        for count in counts:
            place = folder / f"kiosk-{count}"
            cards[count] = card = (
                stack.enter_context(Card(folder / f"{count}.img", place, _CARD_BYTES)) if can_mount() else None
            )
            places[count] = place
            if count:
                print(f"  making a spool of {count:,} recordings", flush=True)
                fill(Layout(place), blinks_of_audio(count))
        room = SimulatedRoom(folder / "room", speech_like(60, _SOUND.rate, 1), _SOUND.rate, 1)
        environment = {**room.environment, "RUNTIME_DIRECTORY": str(ram)}
        rows = []
        for repeat in range(repeats):
            for count in counts:
                for way in ("agent.recorder", "kiosk-recorder record"):
                    card = cards[count]
                    if card is not None:
                        card.remount()
                    row = _start(way, room, places[count], folder, environment, ram)
                    rows.append({"recordings": count, "way": way, "repeat": repeat, "cold": card is not None, **row})
        return {"rows": rows, "medians": _medians(rows)}


def _start(
    way: str, room: SimulatedRoom, place: Path, folder: Path, environment: Mapping[str, str], ram: Path
) -> dict[str, float]:
    (ram / "recorder.json").unlink(missing_ok=True)
    settings = settings_for(_SOUND, room.pcm, place)
    configuration = folder / "config.toml"
    configuration.write_text(
        f'[device]\nsite = "bench"\nid = "bench"\n[capture]\npcm = "{room.pcm}"\n'
        f'[spool]\npath = "{place}"\nkeep_free = "0B"\n'
    )
    command = [sys.executable, "-c", _KIOSK_RECORDER, "record", "--config", str(configuration)]
    began_ns = time.monotonic_ns()
    if way == "agent.recorder":
        running = start_module("agent.recorder", settings, environment)
    else:
        running = Running(command, environment={"PYTHONPATH": str(ROOT), **environment})
    heard = _wait_for(ram, running, lambda status: status.first_frame_ns is not None)
    writing = _wait_for(ram, running, lambda status: status.run is not None)
    reading = running.read()
    running.stop()
    assert heard.first_frame_ns is not None
    return {
        "first_frame_s": round((heard.first_frame_ns - began_ns) / 1e9, 3),
        "writing_s": round((writing.updated_ns - began_ns) / 1e9, 3),
        "cpu_s": round(reading.cpu_s, 3),
        "peak_mib": round(reading.peak_bytes / 2**20, 1),
    }


def _wait_for(ram: Path, running: Running, holds: Callable[[RecorderStatus], bool]) -> RecorderStatus:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        running.read()
        status = read_status(ram)
        if status is not None and holds(status):
            return status
        time.sleep(0.02)
    raise TimeoutError("the recorder heard nothing")


def _medians(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result = []
    for recordings, way in sorted({(row["recordings"], row["way"]) for row in rows}):
        own = [row for row in rows if (row["recordings"], row["way"]) == (recordings, way)]
        result.append(
            {
                "recordings": recordings,
                "way": way,
                "starts": len(own),
                "first_frame_s": statistics.median(row["first_frame_s"] for row in own),
                "slowest_s": max(row["first_frame_s"] for row in own),
                "writing_s": statistics.median(row["writing_s"] for row in own),
                "cpu_s": statistics.median(row["cpu_s"] for row in own),
                "peak_mib": max(row["peak_mib"] for row in own),
            }
        )
    return result
