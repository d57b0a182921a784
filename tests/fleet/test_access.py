"""The shipped configuration of the broker, before a real courier, its admins and a kiosk that was taken."""

from __future__ import annotations

import getpass
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.contract.alerts import NAMES
from agent.contract.commands import compose
from agent.contract.signed import public_key, sign
from agent.settings import Commands, Mqtt
from hw.clock import SystemClock
from tests.courier.authority import Authority
from tests.courier.kiosk import Kiosk
from tests.courier.listener import Listener, listening
from tests.courier.process import courier
from tests.servers import Broker, free_ports, running
from tests.soundcard import eventually

ROOT = Path(__file__).parents[2]
ACCESS = ROOT / "fleet" / "access"
SEED = bytes(range(32))
BASE = "kiosk/v1/north/room-12"
KIOSKS_TOPICS = ("status", "birth", "telemetry", f"alert/{NAMES[0]}", "event", "cmd/result")


@dataclass
class House:
    """The broker with its two doors, and both authorities."""

    directory: Path
    kiosks: Authority
    people: Authority
    kiosk_port: int
    people_port: int
    made: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def options(self, authority: Authority, name: str) -> list[str]:
        """What mosquitto's clients need to be `name`."""
        who = (str(authority.directory), name)
        if who not in self.made:
            certificate, key = authority.certificate(name)
            self.made[who] = ["--cafile", str(self.kiosks.ca), "--cert", str(certificate), "--key", str(key)]
        return self.made[who]

    def publish(self, authority: Authority, name: str, topic: str, payload: str = "{}", *more: str) -> None:
        """Say it; whether it's let through, the listeners tell."""
        port = self.kiosk_port if authority is self.kiosks else self.people_port
        command = ["mosquitto_pub", "-V", "5", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-t", topic]
        subprocess.run(
            [*command, "-m", payload, *self.options(authority, name), *more], check=False, capture_output=True
        )

    @contextmanager
    def listening(self, authority: Authority, name: str, topic: str, *more: str) -> Iterator[Listener]:
        port = self.kiosk_port if authority is self.kiosks else self.people_port
        broker = Broker(port, 0, self.directory)
        with listening(broker, topic, [*self.options(authority, name), *more]) as listener:
            yield listener


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = furnished(tmp_path_factory.mktemp("house"))
    with open_house(made):
        yield made


def furnished(directory: Path) -> House:
    """The broker's files as docs/SECURITY.md has them copied."""
    directory.mkdir(exist_ok=True)
    kiosks, people = Authority(directory / "kiosks"), Authority(directory / "people")
    ports = free_ports(2)
    certificate, key = kiosks.certificate("broker")
    for source, name in (
        (kiosks.ca, "kiosks-ca.crt"),
        (people.ca, "people-ca.crt"),
        (certificate, "broker.crt"),
        (key, "broker.key"),
        (ACCESS / "kiosks.acl", "kiosks.acl"),
        (ACCESS / "people.acl", "people.acl"),
    ):
        shutil.copy(source, directory / name)
    shipped = (ACCESS / "mosquitto.conf").read_text().replace("/etc/mosquitto/kiosks", str(directory))
    for port, ours in zip((8883, 8884), ports, strict=True):
        shipped, found = re.subn(rf"^listener {port}$", f"listener {ours} 127.0.0.1", shipped, flags=re.MULTILINE)
        assert found == 1
    (directory / "mosquitto.conf").write_text(f"user {getpass.getuser()}\npersistence_location {directory}/\n{shipped}")
    return House(directory, kiosks, people, ports[0], ports[1])


@contextmanager
def open_house(house: House) -> Iterator[None]:
    """The broker runs."""
    log = house.directory / "mosquitto.log"
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with running([program, "-v", "-c", house.directory / "mosquitto.conf"], log) as process:

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with suppress(OSError):
                for port in (house.kiosk_port, house.people_port):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            return False

        eventually(listens, f"mosquitto listens: {log}")
        yield


@pytest.fixture(scope="module")
def told(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listener]:
    """What an admin hears while a real courier runs as room-12."""
    kiosk = Kiosk(tmp_path_factory.mktemp("kiosk") / "spool", SystemClock())
    kiosk.record()
    _, _, _, certificate, _, key = house.options(house.kiosks, "room-12")
    mqtt = Mqtt(
        url=f"mqtts://127.0.0.1:{house.kiosk_port}", ca=house.kiosks.ca, certificate=Path(certificate), key=Path(key)
    )
    settings = replace(kiosk.settings(""), mqtt=mqtt, commands=Commands(admin_keys=(public_key(SEED),)))
    with house.listening(house.people, "fleet-admin", "kiosk/#") as listener, courier(settings, {}) as process:
        eventually(lambda: bool(listener.on("room-12/telemetry")), f"telemetry: {process.log}", 30)
        yield listener
        assert process.end() == 0


def heard_next(house: House, listener: Listener) -> None:
    """Wait until something allowed that was said later has come."""
    before = len(listener.on("room-99/status"))

    def came() -> bool:
        # Again and again: who has only just begun to listen may have missed it.
        house.publish(house.kiosks, "room-99", "kiosk/v1/north/room-99/status", "online")
        return len(listener.on("room-99/status")) > before

    eventually(came, "what is allowed comes through")


def test_all_that_a_kiosk_says_comes_through(house: House, told: Listener) -> None:
    topics = {message.topic for message in told.heard if message.topic.startswith(BASE)}
    assert {f"{BASE}/{name}" for name in ("status", "birth", "telemetry")} <= topics
    alerts = {f"{BASE}/alert/{name}" for name in NAMES}
    eventually(lambda: alerts <= {message.topic for message in told.heard}, "each alert is told not to be raised")
    with house.listening(house.people, "home-assistant", "homeassistant/#") as home:
        eventually(lambda: bool(home.on("homeassistant/device/room-12/config")), "Home Assistant sees it")


def test_an_admin_s_command_comes_through_and_is_answered(house: House, told: Listener) -> None:
    made = compose("report", {}, site="north", device="room-12", now_ns=SystemClock().wall_ns(), lifetime_s=300)
    house.publish(house.people, "fleet-admin", f"{BASE}/cmd", sign("command", made, SEED).decode())
    eventually(lambda: any(made["id"] in answer for answer in told.said("/cmd/result")), "the answer", 30)
    eventually(lambda: bool(told.on("room-12/event")), "and the event of it", 30)


@pytest.mark.parametrize(
    "topic",
    [
        *(f"{BASE}/{name}" for name in KIOSKS_TOPICS),
        f"{BASE}/cmd",
        "kiosk/v1/north/room-13/cmd",
        "kiosk/v1/_fleet/flags",
        "kiosk/v1/_fleet/rollout",
        "kiosk/v1/_fleet/room-13/cmd",
        "homeassistant/device/room-12/config",
        "homeassistant/status",
    ],
)
def test_a_taken_kiosk_says_nothing_but_what_is_its_own(house: House, told: Listener, topic: str) -> None:
    with house.listening(house.people, "home-assistant", "#") as home:
        house.publish(house.kiosks, "room-13", topic, "stolen")
        house.publish(house.kiosks, "room-13", topic, "stolen", "-r")
        heard_next(house, told)
        heard_next(house, home)
    assert "stolen" not in [message.payload for message in (*told.heard, *home.heard)]


@pytest.mark.parametrize("name", ["+", "#", "room-12/", "+/room-12", "fleet-admin", "home-assistant"])
def test_no_name_in_a_kiosk_s_certificate_opens_more(house: House, told: Listener, name: str) -> None:
    for topic in (f"{BASE}/cmd", f"{BASE}/status", "kiosk/v1/_fleet/flags"):
        house.publish(house.kiosks, name, topic, "stolen")
    heard_next(house, told)
    assert "stolen" not in [message.payload for message in told.heard]


def test_a_taken_kiosk_hears_nothing_but_what_is_its_own(house: House, told: Listener) -> None:
    with house.listening(house.kiosks, "room-13", "#") as rogue:

        def reached(word: str) -> bool:
            house.publish(house.people, "fleet-admin", "kiosk/v1/north/room-13/cmd", word)
            return word in rogue.said("/cmd")

        eventually(lambda: reached("first"), "its own commands reach it")
        house.publish(house.people, "fleet-admin", f"{BASE}/cmd", "not for you")
        heard_next(house, told)
        eventually(lambda: reached("last"), "its own commands reach it")
    assert {message.topic for message in rogue.heard} <= {"kiosk/v1/north/room-13/cmd", "kiosk/v1/_fleet/flags"}


def test_a_taken_kiosk_takes_nobody_s_place(house: House, told: Listener) -> None:
    """A broker throws out whoever has the client id of somebody new; here that is the certificate's name."""
    house.publish(house.kiosks, "room-13", "kiosk/v1/north/room-13/status", "online", "-i", "room-12")
    eventually(lambda: bool(told.on("room-13/status")), "it is let in as itself")
    heard_next(house, told)
    assert told.said("room-12/status") == ["online"]


@pytest.mark.parametrize("who", ["a kiosk", "a stranger", "nobody"])
def test_the_people_s_door_opens_for_people_alone(house: House, who: str) -> None:
    names = {"a kiosk": house.options(house.kiosks, "room-13")}
    if who == "a stranger":
        stranger = house.directory / "stranger"
        names[who] = house.options(Authority(stranger), "fleet-admin")
    options = names.get(who, ["--cafile", str(house.kiosks.ca)])
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(house.people_port), "-t", "x", "-m", "x", "-q", "1"]
    assert subprocess.run([*command, *options], check=False, capture_output=True).returncode != 0
    admin = house.options(house.people, "fleet-admin")
    assert subprocess.run([*command, *admin], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("fleet-admin", f"{BASE}/status"),
        ("fleet-admin", f"{BASE}/event"),
        ("fleet-viewer", f"{BASE}/cmd"),
        ("fleet-viewer", "kiosk/v1/_fleet/flags"),
        ("home-assistant", f"{BASE}/cmd"),
        ("somebody", f"{BASE}/cmd"),
    ],
)
def test_people_say_nothing_but_what_is_theirs(house: House, told: Listener, name: str, topic: str) -> None:
    house.publish(house.people, name, topic, "stolen")
    heard_next(house, told)
    assert "stolen" not in [message.payload for message in told.heard]


def test_a_kiosk_that_is_gone_is_turned_away_by_the_commands_that_security_md_gives(tmp_path: Path) -> None:
    house = furnished(tmp_path / "house")
    page = (ROOT / "docs" / "SECURITY.md").read_text().partition("## A kiosk is gone\n")[2]
    typed = page.partition("```sh\n")[2].partition("```")[0]
    typed = typed.replace("sudo ", "").replace("-o root -g mosquitto ", "").replace("fleet/access", str(ACCESS))
    typed = typed.replace("/etc/mosquitto/kiosks", str(house.directory))
    typed = typed.replace("/etc/mosquitto/conf.d/kiosks.conf", str(house.directory / "mosquitto.conf"))
    typed, restarts = re.subn(r"^systemctl restart mosquitto$", "", typed, flags=re.MULTILINE)
    assert restarts == 1
    desk = house.kiosks.directory
    (desk / "kiosks-ca.crt").symlink_to("ca.crt")
    (desk / "kiosks-ca.key").symlink_to("ca.key")

    def let_in(name: str) -> bool:
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(house.kiosk_port), "-t", "x", "-m", "x", "-q", "1"]
        options = house.options(house.kiosks, name)
        return subprocess.run([*command, *options], check=False, capture_output=True).returncode == 0

    with open_house(house):
        assert [let_in(name) for name in ("room-11", "room-12", "room-13")] == [True] * 3
    for gone in ("room-12", "room-13"):
        lines = typed.replace("room-12.crt", f"{gone}.crt")
        subprocess.run(["bash", "-euc", lines], cwd=desk, check=True, capture_output=True, text=True)
        with open_house(house):
            assert let_in("room-11")
            assert not let_in(gone)
    with open_house(house):
        assert not let_in("room-12")
