"""The fleet's line, to a real mosquitto."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from agent.contract.messages import FLAGS, Message
from agent.errors import KioskError
from fleet.broker import Address, Line
from tests.servers import Broker, broker, free_ports, mosquitto  # noqa: F401


def test_what_is_said_is_kept_and_heard(broker: Broker) -> None:  # noqa: F811
    address = Address(broker.url)
    with Line(address) as line:
        line.publish(Message(FLAGS, b"{}", qos=1, retain=True))
        line.publish(Message("kiosk/v1/north/room-1/status", b"online", qos=1, retain=True))
    with Line(address) as late:
        assert late.retained("kiosk/v1/#", settle_s=3) == {FLAGS: b"{}", "kiosk/v1/north/room-1/status": b"online"}


def test_an_answer_is_waited_for(broker: Broker) -> None:  # noqa: F811
    with Line(Address(broker.url)) as line:
        line.listen("kiosk/v1/+/+/cmd/result")
        topic = "kiosk/v1/north/room-1/cmd/result"
        said = '{"id":"0123456789abcdef","ok":true}'
        subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-t", topic, "-m", said, "-q", "1"], check=True)
        heard = line.wait_for(10, lambda heard: heard.topic == topic)
        assert heard is not None
        assert (heard.payload, heard.retained) == (said.encode(), False)
        assert line.wait_for(0.1, lambda _: True) is None


def test_without_a_broker_there_is_one_clear_error() -> None:
    (port,) = free_ports(1)
    with (
        pytest.raises(KioskError, match=": Connection refused\n  → is the broker up"),
        Line(Address(f"mqtt://127.0.0.1:{port}")),
    ):
        pass


@pytest.mark.parametrize("option", ["ca", "certificate", "key", "password_file"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, option: str) -> None:
    missing = tmp_path / "missing.pem"
    address = Address("mqtts://127.0.0.1", **{option: missing})  # type: ignore[arg-type]
    with pytest.raises(KioskError, match=f": {missing}: No such file"), Line(address):
        pass


@pytest.mark.parametrize("url", ["", "broker", "http://broker", "mqtt://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(KioskError, match="scheme and a host"), Line(Address(url)):
        pass


def test_a_broker_that_goes_away_is_noticed(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as one, Line(Address(one.url)) as line:
        line.listen("kiosk/#")
        os.kill(one.pid, signal.SIGKILL)
        with pytest.raises(KioskError, match="lost"):
            line.wait_for(30, lambda _: False)


def test_a_password_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o644)
    with (
        pytest.raises(KioskError, match="others may read it"),
        Line(Address("mqtt://127.0.0.1", username="alice", password_file=password)),
    ):
        pass
