"""Ten hours of audio through recorder and courier, faster than real time, their memory sampled all the while.

The recorder lives by the room's clock, so it syncs, seals and reports as often as in ten real hours; the courier is the
shipped process beside it: it uploads everything to a real S3 server, so that the recorder also deletes, and tells a
real broker how the kiosk is doing.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from agent.ledger import Ledger
from agent.spool import Layout
from agent.status import read_status
from bench.accounting import Ended, Running
from bench.card import Card, can_mount
from bench.contenders import RAM, Sound, settings_for, start_module
from bench.machine import Bustle
from hw.clock import SystemClock
from hw.simulated import RoomClock, SimulatedRoom
from hw.speech import speech_like
from tests.servers import mosquitto, seaweedfs

_SOURCE_S = 600
_UPLOADED_S = 120.0
_LOOKS = 5
FLAT_MIB = 1.0
"""More growth than this from the second hour to the last isn't flat."""


def measure(sound: Sound, hours: float, speed: float, scratch: Path) -> dict[str, Any]:
    """Run `hours` of `sound` at `speed` times real time."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="endurance-", dir=scratch)))
        ram = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiosk-bench-", dir=RAM)))
        place = folder / "kiosk"
        card = stack.enter_context(Card(folder / "card.img", place, 4 << 30)) if can_mount() else None
        source = speech_like(_SOURCE_S, sound.rate, sound.channels)
        room = SimulatedRoom(folder / "room", source, sound.rate, sound.channels, speed=speed, patient=True)
        store = stack.enter_context(seaweedfs(ram))
        bucket = store.bucket()
        broker = stack.enter_context(mosquitto(folder))
        target = f"s3://{bucket.name}"
        settings = settings_for(sound, room.pcm, place, target=target, endpoint_url=store.url, broker=broker.url)
        runtime = {"RUNTIME_DIRECTORY": str(ram)}
        bustle = Bustle()
        recorder = start_module(
            "bench.accelerated",
            settings,
            {**room.environment, **runtime},
            "recorder",
            str(room.directory / "state"),
            str(speed),
            str(time.time_ns()),
        )
        courier = start_module("agent.courier", settings, {**store.kiosk.environment, **runtime})
        device_before = card.written_bytes() if card else 0
        samples = _watch(room.clock(), hours, recorder, courier, ram)
        recorder_ended = recorder.stop()
        device_after = card.written_bytes() if card else 0
        segments, uploaded, gaps = _await_upload(Layout(place))
        courier_ended = courier.stop()
        return {
            "sound": str(sound),
            "hours": hours,
            "speed": speed,
            "flat_mib": FLAT_MIB,
            "machine_busy_pct": bustle.busy_pct(),
            "segments": segments["count"],
            "uploaded": uploaded,
            "arrived": len(bucket.keys()),
            "gaps": gaps,
            "samples": samples,
            "recorder": _summary(samples, "recorder", recorder_ended, hours),
            "courier": _summary(samples, "courier", courier_ended, hours),
            "written_per_kept": round(recorder_ended.written_bytes / segments["bytes"], 3),
            "device_per_kept": round((device_after - device_before) / segments["bytes"], 3) if card else None,
        }


def _watch(
    clock: RoomClock, hours: float, recorder: Running, courier: Running, runtime: Path
) -> list[dict[str, float]]:
    """A sample every real second until the room is `hours` old.

    `ring_s` is the most audio seen waiting in that second: a machine busy with others makes the ring fill at this
    speed, and what the ring once held stays with the heap.
    """
    samples: list[dict[str, float]] = []
    began = clock.monotonic_ns()
    while (hour := (clock.monotonic_ns() - began) / 3.6e12) < hours:
        sample = {"hour": round(hour, 3), "ring_s": 0.0}
        for _ in range(_LOOKS):
            time.sleep(1 / _LOOKS)
            status = read_status(runtime)
            if status is not None:
                sample["ring_s"] = max(sample["ring_s"], status.ring_seconds)
        for name, running in (("recorder", recorder), ("courier", courier)):
            reading = running.read()
            sample[f"{name}_mib"] = round(reading.resident_bytes / 2**20, 2)
            sample[f"{name}_anonymous_mib"] = round(reading.anonymous_bytes / 2**20, 2)
            sample[f"{name}_peak_mib"] = round(reading.peak_bytes / 2**20, 2)
        samples.append(sample)
    return samples


def _await_upload(layout: Layout) -> tuple[dict[str, int], int, int]:
    """Wait until everything is acknowledged: segments and their bytes, how many were uploaded, how many gaps."""
    deadline = time.monotonic() + _UPLOADED_S
    while True:
        with Ledger(layout.ledger, SystemClock(), read_only=True) as ledger:
            segments = list(ledger.segments())
            gaps = sum(gap.reason not in ("restart", "power_off") for gap in ledger.gaps())
        uploaded = sum(segment.state == "acknowledged" for segment in segments)
        if uploaded == len(segments) or time.monotonic() > deadline:
            return {"count": len(segments), "bytes": sum(segment.bytes for segment in segments)}, uploaded, gaps
        time.sleep(0.5)


def _summary(samples: list[dict[str, float]], name: str, ended: Ended, hours: float) -> dict[str, Any]:
    def over(begin: float, end: float) -> float:
        return statistics.mean(sample[f"{name}_mib"] for sample in samples if begin <= sample["hour"] <= end)

    early, late = over(hours * 0.1, hours * 0.2), over(hours * 0.9, hours)
    return {
        "peak_mib": max(sample[f"{name}_peak_mib"] for sample in samples),
        "second_tenth_mib": round(early, 2),
        "last_tenth_mib": round(late, 2),
        "growth_mib": round(late - early, 2),
        "flat": late - early <= FLAT_MIB,
        "cpu_s_per_hour": round(ended.cpu_s / hours, 3),
        "exit_status": ended.status,
    }
