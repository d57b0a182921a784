"""A kiosk that records in a room, a store, a broker, and an admin's machine: where documented commands are typed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.config.show import example
from hw.simulated import SimulatedRoom
from tests.documents.page import ROOT, blocks
from tests.keys import age_key
from tests.recorder.room import RATE, noise
from tests.servers import Broker, S3Store
from tests.soundcard import eventually

_PROGRAMS = {"kiosk-recorder": "agent.cli", "kiosk-fleet": "fleet.cli"}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a line ended and what it said, both streams together."""

    status: int
    said: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Room 12 of the clinic "north". Lines are typed in `desk`."""

    desk: Path
    kiosk: dict[str, str]
    """The environment of the kiosk's programs."""
    admin: dict[str, str]
    """Of the admin's: may do with the store what an admin may."""

    def type(self, line: str) -> Answer:
        """As a person with a shell. `kiosk-recorder open` listens with the admin's credentials, not with a kiosk's."""
        of_kiosk = line.startswith("kiosk-recorder") and not line.startswith("kiosk-recorder open")
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.desk,
            env=self.kiosk if of_kiosk else self.admin,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return Answer(done.returncode, done.stdout)


@contextlib.contextmanager
def scene(directory: Path, store: S3Store, broker: Broker) -> Iterator[Scene]:
    """The kiosk records, uploads and is connected when this begins."""
    desk, programs, home = (directory / name for name in ("desk", "bin", "home"))
    for each in (desk, programs, home / ".config"):
        each.mkdir(parents=True)
    for name, module in _PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {module} "$@"\n')
        program.chmod(0o755)
    (home / ".config" / "mosquitto_sub").write_text(f"-h 127.0.0.1\n-p {broker.port}\n")
    room = SimulatedRoom(directory / "room", noise(30, rate=RATE), RATE, 1)
    shared = {
        **os.environ,
        **room.environment,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "RUNTIME_DIRECTORY": str(directory / "runtime"),
        "KIOSK_RECORDER_CONFIG": str(directory / "config.toml"),
        "KIOSK_FLEET_BROKER": broker.url,
        "KIOSK_FLEET_KEY": "ours",
        "COLUMNS": "100",
    }
    made = Scene(
        desk,
        {**shared, **store.kiosk.environment},
        {**shared, **store.admin.environment, "AWS_ENDPOINT_URL": store.url},
    )
    signing = made.type("kiosk-fleet keys make ours 2>/dev/null").said.strip()
    listener = age_key(desk, "clinic")
    listener.secret.rename(desk / "clinic.key")
    with contextlib.closing(store.client()) as client:
        client.create_bucket(Bucket="clinic-north")
    (file,) = blocks("PROVISIONING", "toml")
    written = file.replace("age1…", listener.public).replace("ed25519:…", signing)
    (desk / "room-12.toml").write_text(written)
    (directory / "config.toml").write_text(_here(written, directory, room, store, broker))
    if "[custody]" in example():
        # Only a release that signs knows this section and this command.
        with (directory / "config.toml").open("a") as config:
            config.write(f'\n[custody]\nkey = "{directory / "device.key"}"\nmanifest_every = "10s"\n')
        made.type("mkdir enrolled && kiosk-recorder enrol --out enrolled/room-12.json")
    with _running(made, directory / "log"):
        eventually(lambda: bool(_uploaded(made)), "the kiosk uploads", 60)
        yield made


def _here(file: str, directory: Path, room: SimulatedRoom, store: S3Store, broker: Broker) -> str:
    """The documented file of a room, with this machine's microphone, card, store and broker."""
    broker_url, _, certificates = file.partition("[mqtt]\n")[2].partition("\n")
    mqtt = certificates.partition("\n\n")[0]
    return (
        file.replace('"hw:CARD=KioskMic"', f'"{room.pcm}"\nrate = {RATE}')
        .replace(f"{broker_url}\n{mqtt}", f'url = "{broker.url}"')
        .replace("[upload]", f'[upload]\nclock_wait = "1s"\nendpoint_url = "{store.url}"')
        .replace("groups = []", 'groups = ["internal"]')
        + f'\n[spool]\npath = "{directory / "card"}"\nsegment_seconds = 2\nkeep_free = "0B"\nkeep_uploaded = "1h"\n'
    )


@contextlib.contextmanager
def _running(made: Scene, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agent.cli", "run"], env=made.kiosk, stdout=output, stderr=output
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _uploaded(made: Scene) -> list[object]:
    answer = made.type("kiosk-recorder list --state acknowledged --json 2>/dev/null")
    if answer.status != 0:
        return []
    found: list[object] = json.loads(answer.said)
    return found
