"""What the fleet hears, from a real courier through a real broker."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import agent
from agent.contract.metrics import NAMES
from agent.settings import Mqtt, Settings
from hw.board import identity
from hw.clock import SystemClock
from tests.courier.authority import Authority
from tests.courier.kiosk import Kiosk
from tests.courier.listener import Listener, listening
from tests.courier.process import courier
from tests.servers import Broker, free_ports, mosquitto
from tests.soundcard import eventually

BASE = "kiosk/v1/north/room-12"


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path / "kiosk", SystemClock())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    made = tmp_path / "disk"
    made.mkdir()
    return made


def with_mqtt(kiosk: Kiosk, disk: Path, mqtt: Mqtt) -> Settings:
    return replace(kiosk.settings(f"file://{disk}"), mqtt=mqtt)


def is_online(listener: Listener) -> bool:
    return listener.said("/status")[-1:] == ["online"]


def test_a_kiosk_says_that_it_is_there_who_it_is_and_how_it_is_doing(kiosk: Kiosk, disk: Path, broker: Broker) -> None:
    kiosk.record(2)
    with courier(kiosk.settings(f"file://{disk}", mqtt=broker.url), {}) as running:
        with listening(broker, "kiosk/#") as listener:
            eventually(lambda: bool(listener.on("/telemetry")), f"telemetry: {running.log}")
        # Retained: whoever comes late hears it, too.
        with listening(broker, "kiosk/#") as late:
            eventually(lambda: sum(message.retained for message in late.heard) >= 3, "everything retained")
        assert {message.topic for message in late.heard if message.retained} == {
            f"{BASE}/{name}" for name in ("status", "birth", "telemetry")
        }
        assert late.said("/status") == ["online"]
        birth = late.on("/birth")[0].content
        assert birth["boot"] == kiosk.clock.boot
        assert birth["versions"]["kiosk-recorder"] == agent.__version__
        assert birth["capture"] == {
            "format": "flac",
            "rate": 16000,
            "channels": 1,
            "mode": "continuous",
            "segment_seconds": 60,
        }
        assert (birth["model"], birth["serial"]) == (identity().model, identity().serial)
        assert len(birth["configuration"]) == 64
        assert len(birth["session"]) == 12
        telemetry = late.on("/telemetry")[0]
        assert list(telemetry.content) == ["ts", "seq", *NAMES]
        assert telemetry.content["recorder_state"] == "absent"
        assert telemetry.qos == 0
        assert telemetry.expiry_s is not None
        assert telemetry.expiry_s <= 150
        assert running.end() == 0


def test_a_kiosk_that_is_killed_is_reported_offline_by_its_will(kiosk: Kiosk, disk: Path, broker: Broker) -> None:
    with (
        listening(broker, f"{BASE}/status") as listener,
        courier(kiosk.settings(f"file://{disk}", mqtt=broker.url), {}) as running,
    ):
        eventually(lambda: is_online(listener), f"online: {running.log}")
        running.kill()
        eventually(lambda: listener.said("/status") == ["online", "offline"], "the will")
    with listening(broker, f"{BASE}/status") as late:
        eventually(lambda: late.said("/status") == ["offline"], "it is retained")


def test_a_kiosk_that_is_ended_says_goodbye_itself_and_leaves_no_will(kiosk: Kiosk, disk: Path, broker: Broker) -> None:
    with listening(broker, f"{BASE}/status") as listener:
        with courier(kiosk.settings(f"file://{disk}", mqtt=broker.url), {}) as running:
            eventually(lambda: is_online(listener), f"online: {running.log}")
            assert running.end() == 0
        subprocess.run(
            ["mosquitto_pub", "-p", str(broker.port), "-t", f"{BASE}/status", "-m", "online", "-q", "1", "-r"],
            check=True,
        )
        eventually(lambda: is_online(listener), "what came later")
        assert listener.said("/status") == ["online", "offline", "online"]


def test_uploads_go_on_without_a_broker_which_is_told_once_and_found_when_it_comes(
    kiosk: Kiosk, disk: Path, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    with courier(kiosk.settings(f"file://{disk}", mqtt=f"mqtt://127.0.0.1:{port}"), {}) as running:
        eventually(lambda: "connect to broker" in running.said, "it is told")
        kiosk.record(2)
        eventually(lambda: kiosk.states() == ["acknowledged"] * 2, "uploads go on")
        with mosquitto(tmp_path, port=port) as broker, listening(broker, "kiosk/#") as listener:
            eventually(lambda: bool(listener.on("/telemetry")), f"it is found: {running.log}")
            assert is_online(listener)
            assert listener.on("/birth")
            assert running.said.count("connect to broker") == 1
            assert running.end() == 0
    assert "refused" in running.said


def test_after_a_broker_was_away_everything_is_said_again(kiosk: Kiosk, disk: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with courier(kiosk.settings(f"file://{disk}", mqtt=f"mqtt://127.0.0.1:{port}"), {}) as running:
        for _ in range(2):
            # Its memory ends with it: nothing that is heard was retained from before.
            with mosquitto(tmp_path, port=port) as broker, listening(broker, "kiosk/#") as listener:
                eventually(
                    lambda: is_online(listener) and bool(listener.on("/birth")) and bool(listener.on("/telemetry")),
                    f"everything is said: {running.log}",
                    40,
                )
        assert running.end() == 0


@pytest.mark.parametrize("right", [True, False])
def test_a_broker_that_asks_for_a_password(kiosk: Kiosk, disk: Path, tmp_path: Path, right: bool) -> None:  # noqa: FBT001
    known = tmp_path / "known"
    subprocess.run(["mosquitto_passwd", "-c", "-b", known, "room-12", "secret"], check=True, capture_output=True)
    password = tmp_path / "password"
    password.write_text("secret\n" if right else "guess\n")
    password.chmod(0o600)
    with mosquitto(tmp_path, f"allow_anonymous false\npassword_file {known}") as broker:
        mqtt = Mqtt(url=broker.url, username="room-12", password_file=password)
        with courier(with_mqtt(kiosk, disk, mqtt), {}) as running:
            wanted = "connected to mqtt" if right else "it refuses us: Not authorized"
            eventually(lambda: wanted in running.said, f"{wanted}: {running.log}")
            kiosk.record()
            eventually(lambda: kiosk.states() == ["acknowledged"], "uploads go on")
            assert running.end() == 0
    assert "secret" not in running.said
    assert "guess" not in running.said


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def tls(authority: Authority) -> str:
    certificate, key = authority.certificate("broker")
    return (
        f"allow_anonymous false\nuse_identity_as_username true\nrequire_certificate true\n"
        f"cafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}"
    )


def test_a_broker_that_asks_for_a_certificate(kiosk: Kiosk, disk: Path, tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.certificate("room-12")
    with mosquitto(tmp_path, tls(authority)) as broker:
        mqtt = Mqtt(url=f"mqtts://127.0.0.1:{broker.port}", ca=authority.ca, certificate=certificate, key=key)
        with (
            listening(
                broker, "#", ["--cafile", str(authority.ca), "--cert", str(certificate), "--key", str(key)]
            ) as listener,
            courier(with_mqtt(kiosk, disk, mqtt), {}) as running,
        ):
            eventually(lambda: is_online(listener), f"online: {running.log}")
            assert running.end() == 0


def test_a_broker_that_somebody_else_vouches_for_is_not_believed(
    kiosk: Kiosk, disk: Path, tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path / "other")
    certificate, key = authority.certificate("room-12")
    with mosquitto(tmp_path, tls(authority)) as broker:
        mqtt = Mqtt(url=f"mqtts://127.0.0.1:{broker.port}", ca=other.ca, certificate=certificate, key=key)
        with courier(with_mqtt(kiosk, disk, mqtt), {}) as running:
            eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in running.said, f"it is told: {running.log}")
            kiosk.record()
            eventually(lambda: kiosk.states() == ["acknowledged"], "uploads go on")
            assert running.end() == 0


@pytest.mark.parametrize(
    ("mqtt", "clue"),
    [
        (Mqtt(url="mqtts://127.0.0.1:1", ca=Path("/nowhere/ca.crt")), "mqtt.ca"),
        (Mqtt(url="mqtt://127.0.0.1:1", username="x", password_file=Path("/nowhere/password")), "password_file"),
        (Mqtt(url="http://127.0.0.1:1"), "mqtt.url"),
    ],
)
def test_what_is_wrong_with_the_brokers_settings_is_told_and_uploads_go_on(
    kiosk: Kiosk, disk: Path, mqtt: Mqtt, clue: str
) -> None:
    kiosk.record()
    with courier(with_mqtt(kiosk, disk, mqtt), {}) as running:
        eventually(lambda: clue in running.said, "it is told")
        eventually(lambda: kiosk.states() == ["acknowledged"], "uploads go on")
        assert running.end() == 0
