"""Ten hours of a bad day: everything goes wrong now and then, and at the end nothing has grown and nothing is missing.

Recorder and courier both live by the room's clock, so ten hours of syncs, telemetry, retries and holds pass in minutes.
The microphone overruns, freezes and is unplugged by the room's script; between the courier and its real servers stand
doors that are shut, guarded or slammed; the broker is really ended and started again. Neither process is restarted:
what this looks for only shows in processes that live long. The spool lies in RAM: no disk syncs as often as that many
kiosks, and what a slow one makes wait in the recorder's ring would show as growth.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from agent.ledger import Ledger
from agent.spool import Layout, files_below
from agent.status import read_status
from bench import faults
from bench.accounting import Running
from bench.contenders import RAM, Sound, settings_for, start_module
from bench.door import Door
from bench.faults import Misfortune
from bench.machine import Bustle
from bench.reckoning import reckon
from hw.clock import SystemClock
from hw.simulated import RoomClock, SimulatedRoom
from hw.speech import speech_like
from tests.servers import mosquitto, seaweedfs

_SOURCE_S = 600
_SAMPLE_S = 60.0
"""Of the room."""
_LOOKS = 5
_UPLOADED_S = 180.0

GROWTH_MIB = 1.0
"""More growth than this from the second hour to the last isn't level."""

WHO = ("recorder", "courier")


def measure(sound: Sound, hours: float, speed: float, seed: int, scratch: Path) -> dict[str, Any]:
    """Run `hours` of `sound` at `speed` times real time, with the misfortunes of `seed`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-", dir=scratch)))
        ram = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiosk-bench-", dir=RAM)))
        source = speech_like(_SOURCE_S, sound.rate, sound.channels)
        script = faults.script(faults.schedule(faults.MICROPHONE, hours, seed), sound.rate)
        room = SimulatedRoom(
            folder / "room", source, sound.rate, sound.channels, speed=speed, patient=True, script=script
        )
        store = stack.enter_context(seaweedfs(ram))
        bucket = store.bucket()
        broker = stack.enter_context(_Broker(folder))
        store_door = stack.enter_context(Door(int(store.url.rpartition(":")[2])))
        broker_door = stack.enter_context(Door(broker.port))
        settings = settings_for(
            sound,
            room.pcm,
            ram / "kiosk",
            target=f"s3://{bucket.name}",
            endpoint_url=f"http://127.0.0.1:{store_door.port}",
            broker=f"mqtt://127.0.0.1:{broker_door.port}",
        )
        environment = {**room.environment, **store.kiosk.environment, "RUNTIME_DIRECTORY": str(ram)}
        clock_of_room = (str(room.directory / "state"), str(speed), str(time.time_ns()))
        bustle = Bustle()
        running = {who: start_module("bench.accelerated", settings, environment, who, *clock_of_room) for who in WHO}
        for process in running.values():
            stack.callback(process.kill)
        happened = Counter[str]()
        misfortune = Misfortune(
            room.clock(),
            faults.schedule(faults.NETWORK, hours, seed),
            begin={
                "store down": store_door.shut,
                "store busy": lambda: store_door.refuse(503),
                "store refusing": lambda: store_door.refuse(403),
                "store cut": store_door.cut,
                "broker down": broker.end,
                "broker cut": broker_door.cut,
            },
            end={
                "store down": store_door.open,
                "store busy": store_door.open,
                "store refusing": store_door.open,
                "broker down": broker.begin,
            },
            happened=happened,
        )
        layout = Layout(settings.spool.path)
        stack.callback(misfortune.stop)
        misfortune.start()
        samples = _watch(room.clock(), hours, running, layout, ram)
        misfortune.stop()
        recorder_ended = running["recorder"].stop()
        _await_upload(layout)
        courier_ended = running["courier"].stop()
        happened.update(_microphone_faults(room))
        return {
            "sound": str(sound),
            "hours": hours,
            "speed": speed,
            "seed": seed,
            "growth_mib": GROWTH_MIB,
            "machine_busy_pct": bustle.busy_pct(),
            "faults": dict(sorted(happened.items())),
            "account": reckon(layout, bucket, room, source),
            "exit_statuses": {"recorder": recorder_ended.status, "courier": courier_ended.status},
            "levels": {who: _levels(samples, who, hours) for who in WHO},
            "samples": samples,
        }


class _Broker:
    """A mosquitto that can be ended and started again where it was."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._life = ExitStack()
        self.port = 0
        """The same in every life."""

    def begin(self) -> None:
        self.port = self._life.enter_context(mosquitto(self._directory, port=self.port or None)).port

    def end(self) -> None:
        self._life.close()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def _watch(
    clock: RoomClock, hours: float, running: dict[str, Running], layout: Layout, runtime: Path
) -> list[dict[str, float]]:
    """A sample every minute of the room until it is `hours` old.

    `ring_s` is the most audio seen waiting in that minute: what the ring once held stays with the recorder's heap.
    """
    samples: list[dict[str, float]] = []
    began_ns = clock.monotonic_ns()
    never = threading.Event()
    while (hour := (clock.monotonic_ns() - began_ns) / 3.6e12) < hours:
        sample = {"hour": round(hour, 3), "ring_s": 0.0}
        for _ in range(_LOOKS):
            clock.wait(never, _SAMPLE_S / _LOOKS)
            status = read_status(runtime)
            if status is not None:
                sample["ring_s"] = max(sample["ring_s"], status.ring_seconds)
        for who, process in running.items():
            reading = process.read()
            sample[f"{who}_mib"] = round(reading.resident_bytes / 2**20, 2)
            sample[f"{who}_anonymous_mib"] = round(reading.anonymous_bytes / 2**20, 2)
            (pid,) = process.pids
            sample[f"{who}_descriptors"] = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            sample[f"{who}_threads"] = sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
        sample["ledger_mib"] = round(_bytes_of(layout.state) / 2**20, 3)
        sample["spool_mib"] = round(_bytes_of(layout.open, layout.sealed, layout.quarantine) / 2**20, 2)
        samples.append(sample)
    return samples


def _bytes_of(*directories: Path) -> int:
    total = 0
    for directory in directories:
        for entry in files_below(directory):
            with contextlib.suppress(FileNotFoundError):
                total += entry.stat().st_size
    return total


def _levels(samples: list[dict[str, float]], who: str, hours: float) -> dict[str, dict[str, float]]:
    """What mustn't grow: means of the first, the second and the last hour, and the highest ever seen.

    Growth counts from the second hour: in the first one everything happens for the first time, good and bad.
    """
    levels = {}
    for what in ("descriptors", "threads", "mib", "anonymous_mib"):
        seen = [(sample["hour"], sample[f"{who}_{what}"]) for sample in samples]
        first, second, last = (
            round(statistics.mean(value for hour, value in seen if end_h - 1 < hour <= end_h), 2)
            for end_h in (1, 2, hours)
        )
        levels[what] = {
            "first": first,
            "second": second,
            "last": last,
            "growth": round(last - second, 2),
            "highest": max(value for _, value in seen),
        }
    return levels


def _await_upload(layout: Layout) -> None:
    """Wait until everything is acknowledged, or as long as that may take."""
    deadline = time.monotonic() + _UPLOADED_S
    while time.monotonic() < deadline:
        with Ledger(layout.ledger, SystemClock(), read_only=True) as ledger:
            if all(segment.state == "acknowledged" for segment in ledger.segments()):
                return
        time.sleep(0.5)


def _microphone_faults(room: SimulatedRoom) -> Counter[str]:
    """What the microphone really did: what was scripted while no stream ran breaks none."""
    names = {"overrun": "overrun", "suspend": "suspend", "broken": "broken", "gone": "unplug", "freeze": "freeze"}
    return Counter(names[happening.what] for happening in room.history() if happening.what in names)
