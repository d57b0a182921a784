"""A real mosquitto with access lists that are right, too tight and too open."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.checkup import broker as area
from agent.checkup.finding import Finding
from agent.contract.alerts import Raised
from agent.settings import Mqtt
from agent.status import CourierStatus, FarEnd, write_courier_status
from tests.checkup.kiosk import found, kiosk, verdicts, visit
from tests.cli.kiosk import ROOT
from tests.servers import Broker, free_ports, mosquitto

SHIPPED = (ROOT / "fleet" / "access" / "kiosks.acl").read_text()


@contextmanager
def guarded(directory: Path, access: str) -> Iterator[Broker]:
    """A mosquitto that knows the kiosk by its password and lets it do what `access` says."""
    passwords = directory / "passwords"
    passwords.touch()
    for name, password in (("room-1", "open sesame"), ("room-2", "sesame too")):
        subprocess.run(["mosquitto_passwd", "-b", passwords, name, password], check=True, capture_output=True)
    (directory / "acl").write_text(access)
    passwords.chmod(0o600)
    (directory / "acl").chmod(0o600)
    (directory / "secret").write_text("open sesame\n")
    (directory / "secret").chmod(0o600)
    options = f"allow_anonymous false\npassword_file {passwords}\nacl_file {directory}/acl"
    with mosquitto(directory, options) as broker:
        yield broker


def checked(broker: Broker, root: Path, **mqtt: object) -> dict[str, Finding]:
    identity = {"username": "room-1", "password_file": root / "secret"} | mqtt
    return found(area.look, visit(kiosk(root, mqtt=Mqtt(url=broker.url, **identity))))  # type: ignore[arg-type]


def another_kiosk_speaks(broker: Broker) -> None:
    command = ["mosquitto_pub", "-p", str(broker.port), "-u", "room-2", "-P", "sesame too", "-q", "1", "-r"]
    subprocess.run([*command, "-t", "kiosk/v1/north/room-2/status", "-m", "online"], check=True)


def test_the_shipped_access_list_is_good(tmp_path: Path) -> None:
    with guarded(tmp_path, SHIPPED) as broker:
        another_kiosk_speaks(broker)
        findings = checked(broker, tmp_path)
    assert verdicts(findings) == dict.fromkeys(
        ("connection", "own topics", "others' topics", "hearing others"), "green"
    )
    assert "Not authorized" in findings["others' topics"].text


def test_a_list_that_lets_everybody_write_everywhere_is_red(tmp_path: Path) -> None:
    with guarded(tmp_path, "user room-1\ntopic write kiosk/#\n") as broker:
        findings = checked(broker, tmp_path)
    assert verdicts(findings)["others' topics"] == "red"
    assert verdicts(findings)["hearing others"] == "green"


def test_a_list_that_lets_everybody_read_everything_is_red(tmp_path: Path) -> None:
    with guarded(tmp_path, SHIPPED + "user room-1\ntopic read kiosk/#\n") as broker:
        another_kiosk_speaks(broker)
        findings = checked(broker, tmp_path)
    assert verdicts(findings)["others' topics"] == "green"
    assert verdicts(findings)["hearing others"] == "red"
    assert "kiosk/v1/north/room-2/status" in findings["hearing others"].text


def test_reading_back_what_it_said_is_a_sign_of_an_open_list(tmp_path: Path) -> None:
    with guarded(tmp_path, SHIPPED + "user room-1\ntopic read kiosk/#\n") as broker:
        assert checked(broker, tmp_path)["hearing others"].verdict == "yellow"


def test_a_list_that_lets_the_kiosk_say_nothing_is_red(tmp_path: Path) -> None:
    with guarded(tmp_path, "pattern read kiosk/v1/+/%u/cmd\n") as broker:
        findings = checked(broker, tmp_path)
    assert findings["own topics"].verdict == "red"
    assert "fleet/access/kiosks.acl" in findings["own topics"].way_out


def test_a_broker_without_a_list_is_red(broker: Broker, tmp_path: Path) -> None:
    findings = checked(broker, tmp_path, username="", password_file=None)
    assert verdicts(findings) == {
        "connection": "green",
        "own topics": "green",
        "others' topics": "red",
        "hearing others": "red",
    }


def test_a_wrong_password_is_red_and_nothing_else_is_claimed(tmp_path: Path) -> None:
    with guarded(tmp_path, SHIPPED) as broker:
        (tmp_path / "secret").write_text("wrong\n")
        findings = checked(broker, tmp_path)
    assert verdicts(findings) == {"connection": "red", "access list": "grey"}
    assert "[mqtt]" in findings["connection"].way_out


def test_a_password_file_that_is_missing_is_red(broker: Broker, tmp_path: Path) -> None:
    findings = checked(broker, tmp_path, password_file=tmp_path / "nowhere")
    assert "nowhere" in findings["connection"].text


def test_a_broker_that_is_not_there_is_red(tmp_path: Path) -> None:
    mqtt = Mqtt(url=f"mqtt://127.0.0.1:{free_ports(1)[0]}")
    findings = found(area.look, visit(kiosk(tmp_path, mqtt=mqtt)))
    assert findings["connection"].verdict == "red"
    assert "refused" in findings["connection"].text


def test_no_broker_is_yellow(tmp_path: Path) -> None:
    assert verdicts(found(area.look, visit(kiosk(tmp_path)))) == {"connection": "yellow"}


@pytest.mark.parametrize(
    ("far_ends", "verdict"),
    [({}, "green"), ({"broker": FarEnd(0, "connect to broker: refused\n  → is it up?")}, "red")],
)
def test_a_running_courier_is_asked_and_left_alone(
    broker: Broker, tmp_path: Path, far_ends: dict[str, FarEnd], verdict: str
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    checked = visit(kiosk(tmp_path, mqtt=Mqtt(url=broker.url)), courier_pid=7)
    assert found(area.look, checked)["connection"].verdict == "grey"
    write_courier_status(runtime, CourierStatus(7, checked.clock.boot, far_ends))
    assert verdicts(found(area.look, checked)) == {"connection": verdict, "access list": "grey"}
    assert "room-1-check" not in (broker.directory / "mosquitto.log").read_text()


def test_an_alert_that_is_raised_is_not_cleared(broker: Broker, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    raised = Raised("warning", 0, "the journal isn't what it was", 1, 0)
    write_courier_status(runtime, CourierStatus(7, "b" * 32, {}, {"custody": raised}))
    checked(broker, tmp_path, username="", password_file=None)
    said = (broker.directory / f"witness-{broker.port}.txt").read_text()
    assert "room-1/alert/" in said
    assert "room-1/alert/custody" not in said
