"""Feature flags as the fleet sees them: a real courier, a real broker, and documents that come over it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract.messages import FLAGS
from agent.flags import Variant, read_variants
from agent.settings import Flags, Settings
from agent.spool import Layout
from hw.clock import SystemClock
from tests.courier.admin import KEY, SECOND_KEY, attacks, decided
from tests.courier.kiosk import Kiosk
from tests.courier.listener import Listener, listening
from tests.courier.process import ROOT, Courier, courier
from tests.servers import Broker, mosquitto
from tests.soundcard import eventually

SWITCH = "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING"


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path / "kiosk", SystemClock())


def listening_to(kiosk: Kiosk, url: str, *keys: str) -> Settings:
    return replace(kiosk.settings(mqtt=url), flags=Flags(keys=keys or (KEY,)))


def publish(broker: Broker, payload: bytes, *options: str) -> None:
    """As an admin does, or somebody who got hold of the broker."""
    command = ["mosquitto_pub", "-V", "5", "-p", str(broker.port), "-q", "1", "-t", FLAGS, *(options or ("-r",))]
    command.append("-s" if payload else "-n")
    subprocess.run(command, input=payload, check=True)


def in_force(listener: Listener) -> tuple[str, int | None]:
    """What the newest telemetry says."""
    told = listener.on("/telemetry")
    return (told[-1].content["flags"], told[-1].content["flags_version"]) if told else ("", None)


def becomes(listener: Listener, flags: str, version: int | None, running: Courier) -> None:
    eventually(lambda: in_force(listener) == (flags, version), f"{flags} by {version}: {running.log}")


def events(listener: Listener, name: str) -> list[dict[str, object]]:
    return [message.content for message in listener.on("/event") if message.content["event"] == name]


def chosen(kiosk: Kiosk) -> Variant:
    return read_variants(kiosk.root / "run", kiosk.layout.state, {})["offline_recording"]


def test_a_decision_reaches_the_kiosk_the_recorder_and_the_fleet(kiosk: Kiosk, broker: Broker) -> None:
    with listening(broker, "kiosk/v1/north/#") as listener, courier(listening_to(kiosk, broker.url), {}) as running:
        becomes(listener, "offline_recording=on", None, running)
        publish(broker, decided(1, "off"))
        becomes(listener, "offline_recording=off", 1, running)
        assert chosen(kiosk) == Variant("off", "flags")
        eventually(lambda: len(events(listener, "flags")) == 1, "the event")
        assert events(listener, "flags")[0]["variants"] == {"offline_recording": "off"}
        # Not retained, and still an admin's.
        publish(broker, decided(2, "on"), "-i", "admin")
        becomes(listener, "offline_recording=on", 2, running)
        assert running.end() == 0


def test_a_document_that_waits_at_the_broker_is_heard_at_the_start(kiosk: Kiosk, broker: Broker) -> None:
    publish(broker, decided(3, "off"))
    with listening(broker, "kiosk/v1/north/#") as listener, courier(listening_to(kiosk, broker.url), {}) as running:
        becomes(listener, "offline_recording=off", 3, running)


def test_without_a_broker_the_last_decision_holds_and_no_older_one_takes_its_place(
    kiosk: Kiosk, tmp_path: Path
) -> None:
    with mosquitto(tmp_path) as broker, listening(broker, "kiosk/v1/north/#") as listener:
        publish(broker, decided(7, "off"))
        with courier(listening_to(kiosk, broker.url), {}) as running:
            becomes(listener, "offline_recording=off", 7, running)
            running.kill()
    for path in (kiosk.root / "run").glob("variants.json"):
        path.unlink()
    with courier(listening_to(kiosk, f"mqtt://127.0.0.1:{broker.port}"), {}) as running:
        eventually((kiosk.root / "run" / "variants.json").exists, f"after a reboot: {running.log}")
        assert chosen(kiosk) == Variant("off", "flags")
        # A broker that lost its memory, or was given an old one.
        with mosquitto(tmp_path, port=broker.port) as again, listening(again, "kiosk/v1/north/#") as listener:
            publish(again, decided(6, "on"))
            eventually(lambda: bool(events(listener, "flags_refused")), f"it is refused: {running.log}", 40)
            assert events(listener, "flags_refused")[0]["reason"] == "older_version"
            becomes(listener, "offline_recording=off", 7, running)


def test_no_attack_over_the_broker_chooses_anything(kiosk: Kiosk, broker: Broker) -> None:
    with listening(broker, "kiosk/v1/north/#") as listener, courier(listening_to(kiosk, broker.url), {}) as running:
        publish(broker, decided(7, "off"))
        becomes(listener, "offline_recording=off", 7, running)
        tried = attacks(8, "on")
        expected: list[str] = []
        for payload, reason in list(tried.values())[:10]:
            publish(broker, payload)
            expected.append(reason)
            eventually(lambda: len(events(listener, "flags_refused")) == len(expected), f"{reason}: {running.log}")
        assert [event["reason"] for event in events(listener, "flags_refused")] == expected
        for payload, _ in list(tried.values())[10:]:
            publish(broker, payload)
        publish(broker, b"")
        publish(broker, decided(8, "off"))
        becomes(listener, "offline_recording=off", 8, running)
        assert {message.content["flags"] for message in listener.on("/telemetry")} <= {
            "",
            "offline_recording=on",
            "offline_recording=off",
        }
        told = [message.content["flags_version"] for message in listener.on("/telemetry")]
        assert [version for version in dict.fromkeys(told) if version is not None] == [7, 8]
        assert running.process.poll() is None
        assert "Traceback" not in running.said


def test_a_key_taken_out_of_the_configuration_takes_its_decisions_along(kiosk: Kiosk, broker: Broker) -> None:
    publish(broker, decided(7, "off"))
    with listening(broker, "kiosk/v1/north/#") as listener:
        with courier(listening_to(kiosk, broker.url), {}) as running:
            becomes(listener, "offline_recording=off", 7, running)
            assert running.end() == 0
        with courier(listening_to(kiosk, broker.url, SECOND_KEY), {}) as running:
            becomes(listener, "offline_recording=on", None, running)
            eventually(lambda: len(events(listener, "flags_refused")) > 0, "it says why")
            assert events(listener, "flags_refused")[0]["reason"] == "wrong_key"
            assert chosen(kiosk) == Variant("on", "default")


def test_the_technicians_switch_wins_and_the_fleet_sees_it(kiosk: Kiosk, broker: Broker) -> None:
    publish(broker, decided(7, "on"))
    with (
        listening(broker, "kiosk/v1/north/#") as listener,
        courier(listening_to(kiosk, broker.url), {SWITCH: "off"}) as running,
    ):
        becomes(listener, "offline_recording=off", 7, running)
        assert listener.on("/birth")[-1].content["flags_by_environment"] == {"offline_recording": "off"}


def test_a_decision_is_seen_within_two_seconds(kiosk: Kiosk, broker: Broker, tell: Callable[[str], None]) -> None:
    variants = {1: "on", 0: "off"}
    took: list[float] = []
    with listening(broker, "kiosk/v1/north/#") as listener, courier(listening_to(kiosk, broker.url), {}) as running:
        becomes(listener, "offline_recording=on", None, running)
        for version in range(1, 21):
            variant = variants[version % 2]
            payload, begun = decided(version, variant), time.monotonic()
            publish(broker, payload)
            becomes(listener, f"offline_recording={variant}", version, running)
            seen = next(each for each in listener.on("/telemetry") if each.content["flags_version"] == version)
            took.append(seen.at_s - begun)
        assert running.end() == 0
    tell(
        f"flags: published to seen in telemetry: median {statistics.median(took):.2f} s, worst {max(took):.2f} s of 20"
    )
    assert max(took) <= 2.0


def killed(root: Path, payload: Path, after: int) -> bool:
    """Whether a desk that hears `payload` was killed before its `after`-th fsync or rename."""
    command: Sequence[str | Path] = [sys.executable, "-m", "tests.courier.killed_desk", root, payload, str(after)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode != 0


def test_wherever_the_courier_is_killed_the_next_start_has_a_whole_decision(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(decided(1, "on"))
    new.write_bytes(decided(2, "off"))
    seen: list[tuple[str, str]] = []
    for after in range(1, 100):
        root = tmp_path / f"kiosk-{after}"
        Layout(root).create()
        assert not killed(root, old, 0)
        died = killed(root, new, after)
        kept = json.loads((root / "state" / "flags.json").read_bytes())["signed"]
        version = json.loads(kept)["metadata"]["version"]
        seen.append((f"version {version}", _recorder_would(root)))
        old_or_new = {1: "on", 2: "off"}[version]
        assert not killed(root, new if version == 2 else old, 0)
        assert _recorder_would(root) == old_or_new, f"killed before {after}"
        if not died:
            break
    assert ("version 2", "on") in seen, "never between the document and what it chose"
    assert seen[0] == ("version 1", "on")
    assert seen[-1] == ("version 2", "off")


def _recorder_would(root: Path) -> str:
    """What the recorder would find after a power cut."""
    return read_variants(Path("/nowhere"), root / "state", {})["offline_recording"].name
