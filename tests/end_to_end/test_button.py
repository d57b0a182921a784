"""The button in the room, pressed on real recorders: what is said afterwards is nowhere, whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.contract.commands import compose
from agent.contract.signed import public_key, sign
from agent.ledger import Ledger
from agent.mailbox import Mailbox
from agent.recorder import light
from agent.settings import Capture, Commands, Device, Gpio, Settings, Spool
from agent.units import Size
from hw.clock import SystemClock
from hw.simulated import SimulatedRoom
from tests.choices import write_variants
from tests.end_to_end.kiosk import Kiosk, stop
from tests.soundcard import RATE, Soundcard, eventually, numbered

SEED = bytes(range(32))


class Scene:
    """One kiosk with a button and a light."""

    def __init__(self, kiosk: Kiosk, room: SimulatedRoom, directory: Path) -> None:
        self.kiosk = kiosk
        self.room = room
        self.directory = directory
        os.mkfifo(directory / "button")
        clock = SystemClock()
        kiosk.layout.create()
        with Ledger(kiosk.layout.ledger, clock, create=True) as ledger:
            ledger.begin_boot(clock.wall_ns() - clock.monotonic_ns(), "server")

    def record(self, state: str) -> subprocess.Popen[bytes]:
        recorder = self.kiosk.record_by(
            ["tests.end_to_end.buttoned_recorder", "{}", str(self.directory)], self.room.environment
        )

        def there() -> bool:
            status = self.kiosk.status()
            return status is not None and (status.pid, status.state) == (recorder.pid, state)

        eventually(there, f"the recorder is {state}", 30)
        return recorder

    def move(self, *moves: str) -> None:
        with (self.directory / "button").open("w") as pipe:
            pipe.write("".join(f"{move}\n" for move in moves))

    def state(self) -> str:
        status = self.kiosk.status()
        return status.state if status else ""

    def shown(self) -> list[tuple[tuple[float, float], list[list[str]]]]:
        """What the light was told, and what the card knew by then."""
        lines = map(json.loads, (self.directory / "light").read_text().splitlines())
        return [((on_s, off_s), kept) for on_s, off_s, kept in lines]

    def wait_for_light(self, sign: light.Sign) -> None:
        rhythm = (sign.rhythm.on_s, sign.rhythm.off_s)
        eventually(lambda: self.shown()[-1][0] == rhythm, f"the light is {sign.seen}", 30)

    def insist(self, verb: str) -> dict[str, Any]:
        """Tell it again while the recorder, only just started, doesn't know yet what its ledger knows of the time."""
        answers = (self.tell(verb) for _ in range(20))
        return next(answer for answer in answers if answer["error"] != "clock")

    def tell(self, verb: str, **args: int) -> dict[str, Any]:
        made = compose(verb, args, site="north", device="room-1", now_ns=time.time_ns(), lifetime_s=300)
        mailbox, found = Mailbox(self.kiosk.runtime), list[dict[str, Any]]()
        mailbox.hand_over(made["id"], sign("command", made, SEED))

        def answered() -> bool:
            answer = mailbox.answer(made["id"])
            found.extend([] if answer is None else [answer])
            return bool(found)

        eventually(answered, f"an answer to {verb}", 30)
        return found[0]


@pytest.fixture
def scene(tmp_path: Path, soundcard: Soundcard) -> Iterator[Scene]:
    settings = Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", segment_seconds=2, keep_free=Size(0)),
        commands=Commands(admin_keys=(public_key(SEED),)),
        gpio=Gpio(led=17, button=27),
    )
    with Kiosk(settings, beside=tmp_path) as kiosk:
        yield Scene(kiosk, soundcard(numbered(60_000 * 5)), tmp_path)


def test_what_is_said_while_the_button_mutes_is_nowhere_whatever_happens_to_the_recorder(scene: Scene) -> None:
    scene.record("recording")
    scene.wait_for_light(light.RECORDING)
    pressed_ns = time.monotonic_ns()
    scene.move("down", "up")
    scene.wait_for_light(light.QUIET)
    quiet_ns = time.monotonic_ns()
    _, kept = scene.shown()[-1]
    assert kept == [["muted", "button"]], "the card knew before the light did"
    recorders = [scene.kiosk.process(status.pid) for status in [scene.kiosk.status()] if status]
    for number in (signal.SIGKILL, signal.SIGTERM):
        recorders[-1].send_signal(number)
        recorders[-1].wait()
        recorders.append(scene.record("muted"))
        scene.wait_for_light(light.QUIET)
    status = scene.kiosk.status()
    assert status is not None
    assert status.quiet_until_ns is not None
    assert pressed_ns < status.quiet_until_ns - 30 * 60 * 10**9 < quiet_ns, "with what was left of its time"
    refused = scene.insist("resume")
    assert (refused["ok"], refused["error"]) == (False, "muted_in_room")
    assert scene.tell("mute", minutes=1)["output"]["by"] == "button"
    assert scene.state() == "muted"
    resumed_ns = time.monotonic_ns()
    scene.move("down")
    scene.wait_for_light(light.SOON)
    scene.move("up")
    assert scene.tell("resume")["ok"], "the mute by command goes, once the button's is taken back"
    eventually(lambda: scene.kiosk.segments()[-1].begin_ns > resumed_ns, "recording goes on", 30)
    stop(recorders[-1])
    for segment in scene.kiosk.segments():
        assert segment.end_ns <= quiet_ns or segment.begin_ns >= resumed_ns
    assert scene.kiosk.found_wrong() == []
    assert "muted" in {gap.reason for gap in scene.kiosk.gaps()}
    with scene.kiosk.ledger() as ledger:
        assert [entry.body["did"] for entry in ledger.entries() if entry.kind == "button"] == ["mute", "mute", "lift"]


def test_the_button_mutes_recordings_in_memory_too(scene: Scene) -> None:
    write_variants(scene.kiosk.runtime, scene.kiosk.layout.state, {"offline_recording": "off"})
    recorder = scene.record("recording")
    eventually(lambda: (status := scene.kiosk.status()) is not None and status.path == "direct", "memory is used", 30)
    scene.move("down", "up")
    scene.wait_for_light(light.QUIET)
    quiet_ns = time.monotonic_ns()
    recorder.kill()
    recorder.wait()
    recorder = scene.record("muted")
    stop(recorder)
    assert all(segment.end_ns <= quiet_ns for segment in scene.kiosk.segments())
    assert scene.kiosk.found_wrong() == []
    assert "muted" in {gap.reason for gap in scene.kiosk.gaps()}
