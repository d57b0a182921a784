"""What is wrong with the machine and its card: each alert is raised by its real cause, and cleared when that goes.

The card is a real ext4 file system. What only a Pi has (a thermometer, a voltage detector) is read from the
files in which the kernel tells it on a Pi (tests/hw/trees).
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.ledger import Boot
from agent.recorder.root import open_root
from agent.settings import Capture, Device, Mqtt, Settings, Spool, Upload
from agent.units import NS_PER_S, Duration, Size
from hw.clock import SystemClock
from tests.alerts.fleet import Fleet
from tests.card import Card, inserted
from tests.courier.kiosk import Kiosk
from tests.courier.process import courier
from tests.end_to_end.kiosk import Kiosk as EndToEnd
from tests.end_to_end.kiosk import stop
from tests.end_to_end.plan import Plan, Turn
from tests.hw.trees import TOP as TREES
from tests.recorder.room import noise
from tests.servers import Broker
from tests.soundcard import RATE, Soundcard, eventually

FAST = 60.0
"""A minute of the courier's is a second."""


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    """What the kernel tells on a Pi 4 that is well."""
    root = tmp_path / "pi"
    shutil.copytree(TREES / "pi4", root, symlinks=True)
    return root


@pytest.fixture
def roomy(tmp_path: Path) -> Iterator[Card]:
    """A card with room for thousands of files."""
    yield from inserted(tmp_path, 4096)


def write(file: Path, text: str) -> None:
    """As the kernel: the same file says something else."""
    file.resolve().write_text(text)


def test_temperature(kiosk: Kiosk, broker: Broker, fleet: Fleet, pi: Path) -> None:
    zone = pi / "sys/class/thermal/thermal_zone0/temp"
    with courier(kiosk.settings(mqtt=broker.url), {}, hasty=FAST, root=pi):
        write(zone, "83500\n")
        warning = fleet.sees("temperature", "warning")
        assert (warning["value"], warning["threshold"]) == (83.5, 80)
        assert "83.5 °C, more than 80 °C" in warning["text"]
        write(zone, "86000\n")
        assert fleet.sees("temperature", "critical")["value"] == 86
        write(zone, "60000\n")
        fleet.sees_cleared("temperature")


def test_undervoltage(kiosk: Kiosk, broker: Broker, fleet: Fleet, pi: Path) -> None:
    alarm = pi / "sys/class/hwmon/hwmon1/in0_lcrit_alarm"
    with courier(kiosk.settings(mqtt=broker.url), {}, hasty=FAST, root=pi):
        eventually(lambda: fleet.listener.said("/alert/undervoltage") == [""], "all is well")
        write(alarm, "1\n")
        assert "power supply" in fleet.sees("undervoltage", "warning")["text"]
        write(alarm, "0\n")
        fleet.sees_cleared("undervoltage")


def on(card: Card, broker: Broker) -> tuple[Kiosk, Settings]:
    kiosk = Kiosk(card.path / "kiosk", SystemClock())
    settings = kiosk.settings(mqtt=broker.url)
    return kiosk, replace(settings, spool=replace(settings.spool, keep_free=Size(16 << 20)))


def test_disk(roomy: Card, tmp_path: Path, broker: Broker, fleet: Fleet) -> None:
    _, settings = on(roomy, broker)
    with courier(settings, {}, hasty=FAST, beside=tmp_path):
        eventually(lambda: fleet.listener.said("/alert/disk") == [""], "all is well")
        roomy.fill()
        critical = fleet.sees("disk", "critical")
        assert critical["value"] < critical["threshold"] == 50
        roomy.repair()
        fleet.sees_cleared("disk")


def test_disk_of_a_card_without_room_for_more_files(roomy: Card, tmp_path: Path, broker: Broker, fleet: Fleet) -> None:
    _, settings = on(roomy, broker)
    with courier(settings, {}, hasty=FAST, beside=tmp_path):
        eventually(lambda: fleet.listener.said("/alert/disk") == [""], "all is well")
        roomy.use_up_inodes()
        assert fleet.sees("disk", "critical")["value"] < 50
        roomy.repair()
        fleet.sees_cleared("disk")


def test_disk_error(roomy: Card, tmp_path: Path, broker: Broker, fleet: Fleet) -> None:
    kiosk, settings = on(roomy, broker)
    with courier(settings, {}, hasty=FAST, beside=tmp_path) as process:
        eventually(lambda: fleet.listener.said("/alert/disk_error") == [""], "all is well")
        roomy.become_read_only()
        critical = fleet.sees("disk_error", "critical")
        assert critical["value"] >= 1
        # It holds files on the card, which can't be checked so.
        process.kill()
    kiosk.ledger.close()
    roomy.check()
    with courier(settings, {}, hasty=FAST, beside=tmp_path):
        fleet.sees_cleared("disk_error")
    assert fleet.changes("disk_error") == ["raised", "cleared"]


def test_custody_of_a_broken_chain(kiosk: Kiosk, broker: Broker, fleet: Fleet) -> None:
    kiosk.record(3)
    with contextlib.closing(sqlite3.connect(kiosk.layout.ledger)) as forger, forger:
        (body,) = forger.execute("SELECT body FROM journal WHERE seq = 3").fetchone()
        forger.execute("UPDATE journal SET body = replace(body, '16000', '16001') WHERE seq = 3")
    with courier(kiosk.settings(mqtt=broker.url), {}, hasty=FAST):
        assert "chain of custody" in fleet.sees("custody", "critical")["text"]
        with contextlib.closing(sqlite3.connect(kiosk.layout.ledger)) as forger, forger:
            forger.execute("UPDATE journal SET body = ? WHERE seq = 3", (body,))
        fleet.sees_cleared("custody")


def test_custody_of_a_ledger_that_was_damaged(kiosk: Kiosk, broker: Broker, fleet: Fleet) -> None:
    settings, clock = kiosk.settings(mqtt=broker.url), SystemClock()
    kiosk.record(3)
    kiosk.ledger.close()
    with courier(settings, {}, hasty=FAST):
        eventually(lambda: fleet.listener.said("/alert/custody") == [""], "all is well")
        kiosk.layout.ledger.write_bytes(b"no database at all" * 1000)
        with open_root(settings, clock, Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "synchronised")):
            fleet.sees("custody", "warning")


def test_custody_of_a_damaged_ledger_that_was_saved_elsewhere(kiosk: Kiosk, broker: Broker, fleet: Fleet) -> None:
    settings, clock = kiosk.settings(mqtt=broker.url), SystemClock()
    kiosk.record(3)
    kiosk.ledger.close()
    kiosk.layout.ledger.write_bytes(b"no database at all" * 1000)
    with open_root(settings, clock, Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "synchronised")):
        pass
    with courier(settings, {}, hasty=FAST):
        assert "save state/damaged-*" in fleet.sees("custody", "warning")["text"]
        for aside in kiosk.layout.state.glob("damaged-*"):
            aside.unlink()
        fleet.sees_cleared("custody")


def test_clock_unsynchronised(tmp_path: Path, kiosk: Kiosk, broker: Broker, fleet: Fleet) -> None:
    """In the machine's own time: a plan says when the kernel calls its clock synchronised."""
    settings, clock = kiosk.settings(mqtt=broker.url), SystemClock()
    limits = replace(
        settings.alerts.clock_unsynchronised, warning=Duration(3), critical=Duration(7), clear_after=Duration(0)
    )
    settings = replace(settings, alerts=replace(settings.alerts, clock_unsynchronised=limits))
    now_s, wall_s = clock.monotonic_ns() / NS_PER_S, clock.wall_ns() / NS_PER_S
    plan = Plan(clock.boot, 0.0, (Turn(0.0, wall_s - now_s, False), Turn(now_s + 25, wall_s + 25, True)))
    with EndToEnd(settings, beside=tmp_path) as machine:
        machine.upload_by(plan, None)
        assert fleet.sees("clock_unsynchronised", "warning")["threshold"] == 3
        fleet.sees("clock_unsynchronised", "critical")
        fleet.sees_cleared("clock_unsynchronised")


def test_evicted_unsent(tmp_path: Path, broker: Broker, fleet: Fleet, soundcard: Soundcard) -> None:
    """A store that isn't there, and a spool for a few seconds. A recording that is given up counts for an hour."""
    room = soundcard(noise(30, rate=RATE), RATE)
    settings = Settings(
        device=Device(site="north", id="room-12"),
        capture=Capture(pcm=room.pcm, rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", cap=Size(400_000), segment_seconds=1, keep_free=Size(0)),
        upload=Upload(target="file:///nowhere/at/all"),
        mqtt=Mqtt(url=broker.url),
    )
    with EndToEnd(settings, beside=tmp_path) as machine:
        recorder = machine.record(room)
        machine.wait_for_recording()
        with courier(settings, {}, hasty=4 * FAST, beside=tmp_path):
            critical = fleet.sees("evicted_unsent", "critical")
            assert critical["value"] >= 1
            assert "given up before they were uploaded" in critical["text"]
            assert stop(recorder) == 0
            fleet.sees_cleared("evicted_unsent")
