"""Whatever happens between a kiosk and its broker: the room is recorded and uploaded, and the fleet hears the truth.

Each line of `FAULTS` is one fault. The connection to the broker is paho's, which keeps real time: these are played at
speed 1, all at once. Only the day without a broker passes faster, for the courier alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.settings import Mqtt
from hw.clock import SystemClock
from hw.memory import resident_bytes
from tests.courier.authority import Authority
from tests.courier.kiosk import Kiosk as SpoolOnly
from tests.courier.listener import Heard, Listener, listening
from tests.courier.process import courier
from tests.faults.broker_line import BrokerLine
from tests.faults.judge import MEMORY_BYTES, RECOVERY_S, assert_nothing_is_lost
from tests.faults.line import certified
from tests.faults.scene import Outcome, Scene, peak_bytes, play
from tests.faults.stage import Ground, Outcomes
from tests.faults.store_line import StoreLine
from tests.servers import Broker, S3Store, free_ports, mosquitto
from tests.soundcard import eventually

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WITHOUT = "WARNING recording and uploads go on without a broker"

USER, PASSWORD = "room", "right"
FLEET = "fleet"
"""Who listens, and is always let in."""


class Daemon:
    """A mosquitto that can be killed and started again on its port."""

    def __init__(self, directory: Path, options: str) -> None:
        self.directory = directory
        self._options = options
        (self._port,) = free_ports(1)
        self._running = ExitStack()
        self.start()

    @property
    def broker(self) -> Broker:
        return self._broker

    def start(self) -> None:
        self._broker = self._running.enter_context(mosquitto(self.directory, self._options, self._port))

    def kill(self) -> None:
        os.kill(self._broker.pid, signal.SIGKILL)
        self._running.close()

    def reload(self) -> None:
        os.kill(self._broker.pid, signal.SIGHUP)

    def close(self) -> None:
        self._running.close()


@dataclass
class Place:
    """Everything a fault of the broker's can be done to."""

    scene: Scene
    daemon: Daemon
    line: BrokerLine
    ears: Listener


Strike = Callable[[Place], contextlib.AbstractContextManager[object]]


def doubling(trouble_s: float) -> float:
    """Connections that an absent broker may cost: after 1, 2, 4, 8, 16 s, then one in 20 to 30 s."""
    return 7 + trouble_s / 20


def anew(trouble_s: float) -> float:
    """Connections that a broker may cost which takes us in and loses us: each success begins with 1 s again."""
    return 1 + trouble_s


@dataclass(frozen=True, slots=True)
class Told:
    """What a fleet heard besides what happened to the recordings."""

    outcome: Outcome
    connections: int
    """From the beginning of the fault to the end."""
    meanwhile: list[str]
    """What `status` was said to be while the fault lasted."""
    after: list[Heard]
    """What is retained when all is well again."""
    parting: str
    """The last `status` of all."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table."""

    name: str
    strike: Strike
    rate: Callable[[float], float] = doubling
    told: str = ""
    """What the courier says about it."""
    lasts_s: float = 33.0
    """Long enough for the wait between two attempts to have come to its ceiling."""
    from_start: bool = False
    will: bool = False
    """Whether the broker has to say for us, meanwhile, that we are gone."""
    options: Callable[[Path], str] = lambda _: "allow_anonymous true"
    mqtt: Callable[[Path, int], Mqtt] | None = None
    """How the kiosk speaks to the line's port, if not like everybody."""
    speed: float = 1.0

    def __str__(self) -> str:
        return self.name

    def live_through(self, ground: Ground) -> Told:
        """A kiosk of its own, with a broker of its own and somebody who listens there."""
        with ExitStack() as stack:
            daemon = Daemon(ground.directory, self.options(ground.directory))
            stack.callback(daemon.close)
            bucket = ground.store.bucket()
            store_line = stack.enter_context(StoreLine(bucket.store.port))
            line = stack.enter_context(BrokerLine(daemon.broker.port))
            options = ("-u", FLEET, "-P", FLEET) if self.options is with_passwords else ()
            ears = stack.enter_context(listening(daemon.broker, "kiosk/v1/#", options))
            url = f"mqtt://127.0.0.1:{line.port}"
            mqtt = self.mqtt(ground.directory, line.port) if self.mqtt else None
            scene = Scene(ground, bucket, store_line, url, mqtt=mqtt)
            place = Place(scene, daemon, line, ears)
            span: list[float] = []
            after: list[Heard] = []

            @contextlib.contextmanager
            def strike(_: Scene) -> Iterator[None]:
                span.append(time.monotonic())
                with self.strike(place):
                    yield
                    span.append(time.monotonic())

            def introduced(_: Scene, after_s: float) -> float | None:
                """When somebody listening at the broker heard who we are, and that we are there."""
                heard = [message for message in ears.on("/birth") if message.at_s > after_s]
                if heard and after_s and not after:
                    after.extend(retained(daemon.broker, options))
                return heard[0].at_s if heard else None

            outcome = play(scene, strike, self.lasts_s, from_start=self.from_start, sign=introduced)
            began_s, ended_s = span
            return Told(
                outcome,
                sum(at_s >= began_s for at_s in line.accepted),
                [message.payload for message in ears.on("/status") if began_s < message.at_s < ended_s],
                after,
                ears.said("/status")[-1],
            )


@contextlib.contextmanager
def refused(place: Place) -> Iterator[None]:
    """Nobody listens at the broker's port."""
    place.line.refuse()
    yield
    place.line.listen()


@contextlib.contextmanager
def killed(place: Place) -> Iterator[None]:
    """kill -9, and nothing of what it retained survives."""
    place.daemon.kill()
    yield
    place.daemon.start()


@contextlib.contextmanager
def vanished(place: Place) -> Iterator[None]:
    """Both ends believe that they are connected; nothing comes through."""
    place.line.vanish()
    yield
    place.line.come_back()


@contextlib.contextmanager
def flapping(place: Place) -> Iterator[None]:
    """The way comes and goes."""
    over = threading.Event()

    def flap() -> None:
        while not over.is_set():
            with refused(place):
                over.wait(2)
            over.wait(4)

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def unknown_to_the_broker(place: Place) -> Iterator[None]:
    """The broker has another password for us; then somebody corrects it there."""
    passwords = place.daemon.directory / "passwords"
    enter(passwords, "another")
    place.daemon.reload()
    yield
    enter(passwords, PASSWORD)
    place.daemon.reload()


@contextlib.contextmanager
def mistyped_here(place: Place) -> Iterator[None]:
    """The kiosk's own password file is wrong; then somebody corrects it here."""
    remember(place.daemon.directory, "mistyped")
    yield
    remember(place.daemon.directory, PASSWORD)


@contextlib.contextmanager
def expired(place: Place) -> Iterator[None]:
    """The broker's certificate has expired; then it is renewed."""
    authority = Authority(place.daemon.directory / "authority")
    place.line.certificate = certified(authority.certificate("expired", days=-1))
    yield
    place.line.certificate = certified(authority.certificate("renewed"))


def enter(passwords: Path, password: str) -> None:
    """Let the broker know a password of ours."""
    fresh = passwords.with_suffix(".new")
    fresh.write_text(f"{USER}:{password}\n{FLEET}:{FLEET}\n")
    subprocess.run(["mosquitto_passwd", "-U", fresh], check=True, capture_output=True)
    fresh.chmod(0o644)
    fresh.replace(passwords)


def remember(directory: Path, password: str) -> None:
    """Let the kiosk know a password, and nobody else on its machine."""
    file = directory / "password"
    file.touch(0o600)
    file.write_text(f"{password}\n")


def with_passwords(directory: Path) -> str:
    """A broker that lets nobody in without one."""
    enter(directory / "passwords", PASSWORD)
    remember(directory, PASSWORD)
    return f"allow_anonymous false\npassword_file {directory / 'passwords'}"


def by_password(directory: Path, port: int) -> Mqtt:
    return Mqtt(url=f"mqtt://127.0.0.1:{port}", username=USER, password_file=directory / "password")


def over_tls(directory: Path, port: int) -> Mqtt:
    return Mqtt(url=f"mqtts://127.0.0.1:{port}", ca=directory / "authority" / "ca.crt")


FAULTS = [
    Fault("the port refuses", refused, will=True),
    Fault("it is killed and comes back without a memory", killed),
    Fault("it vanishes without a word", vanished, lasts_s=35, will=True),
    Fault("it takes connections and says nothing", vanished, lasts_s=35, from_start=True),
    Fault("the way comes and goes", flapping, rate=anew, will=True),
    Fault(
        "it doesn't know our password",
        unknown_to_the_broker,
        told="it refuses us: Not authorized",
        from_start=True,
        options=with_passwords,
        mqtt=by_password,
    ),
    Fault(
        "our password is mistyped",
        mistyped_here,
        told="it refuses us: Not authorized",
        from_start=True,
        options=with_passwords,
        mqtt=by_password,
    ),
    Fault("its certificate has expired", expired, told="certificate has expired", from_start=True, mqtt=over_tls),
]


def retained(broker: Broker, options: tuple[str, ...]) -> list[Heard]:
    """What somebody hears who has only just come."""
    with listening(broker, "kiosk/v1/#", options) as newcomer:
        deadline_s = time.monotonic() + 10
        while not (newcomer.on("/status") and newcomer.on("/birth")) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return list(newcomer.heard)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_recordings_are_uploaded_and_the_fleet_hears_the_truth_when(
    fault: Fault, outcomes: Outcomes, source: NDArray[np.int16], tell: Callable[[str], None]
) -> None:
    told: Told = outcomes[fault].result()
    outcome, said = told.outcome, told.outcome.log
    tell(
        f"{fault}: well again after {outcome.recovery_s:.1f} s; attempts {told.connections}, "
        f"allowed {fault.rate(outcome.trouble_s):.0f}; {outcome.peak_bytes >> 20} MiB"
    )
    assert_nothing_is_lost(outcome, source)
    assert outcome.arrived_meanwhile >= 5, "uploads suffered"
    assert outcome.failures == 0, said
    assert outcome.recovery_s <= RECOVERY_S, said
    assert told.connections <= fault.rate(outcome.trouble_s), said
    if fault.told:
        assert fault.told in said
        assert said.count(_WITHOUT) == 1, "told once, not at every attempt"
    if fault.will:
        assert "offline" in told.meanwhile
    status, birth = (next(each for each in told.after if each.topic.endswith(end)) for end in ("/status", "/birth"))
    assert (status.payload, status.retained) == ("online", True)
    assert json.loads(birth.payload)["capture"]["segment_seconds"] == 3
    assert told.parting == "offline"


DAY_S, DAY_IN_S = 86_400.0, 30.0


def test_a_day_without_a_broker_costs_neither_recordings_nor_memory_and_ends_by_itself(
    s3_store: S3Store, tmp_path: Path
) -> None:
    """The courier's clock makes a day of half a minute: it would have said 2,880 times how it is doing.

    A recording an hour is laid into the spool as the recorder does it. Only paho's attempts to connect keep real time.
    """
    kiosk, bucket = SpoolOnly(tmp_path / "kiosk", SystemClock()), s3_store.bucket()
    daemon = Daemon(tmp_path, "allow_anonymous true")
    with ExitStack() as stack:
        stack.callback(daemon.close)
        line = stack.enter_context(BrokerLine(daemon.broker.port))
        settings = kiosk.settings(
            f"s3://{bucket.name}/rooms", endpoint_url=s3_store.url, mqtt=f"mqtt://127.0.0.1:{line.port}"
        )
        running = stack.enter_context(courier(settings, s3_store.kiosk.environment, hasty=DAY_S / DAY_IN_S))
        pid = running.process.pid
        kiosk.record()
        eventually(lambda: kiosk.states() == ["acknowledged"], "all is well at first")
        before = stack.enter_context(listening(daemon.broker, "kiosk/v1/#"))
        eventually(lambda: bool(before.on("/telemetry")), "telemetry at first")
        memory_bytes = resident_bytes(pid) or 0
        line.refuse()
        daemon.kill()
        gone_s = time.monotonic()
        for hour in range(1, 25):
            kiosk.record(first=hour)
            eventually(lambda hour=hour: kiosk.states() == ["acknowledged"] * (hour + 1), "uploads go on")  # type: ignore[misc]
            eventually(lambda hour=hour: time.monotonic() - gone_s >= hour * DAY_IN_S / 24, "an hour passes")  # type: ignore[misc]
        grown_bytes = (resident_bytes(pid) or 0) - memory_bytes
        daemon.start()
        line.listen()
        back_s = time.monotonic()
        after = stack.enter_context(listening(daemon.broker, "kiosk/v1/#"))
        eventually(lambda: bool(after.on("/telemetry")), f"it comes back\n{running.said}", RECOVERY_S)
        recovery_s = time.monotonic() - back_s
        # What happened meanwhile (an alert, for one) is told by another thread, at its own time.
        said = [message.topic.rpartition("/")[2] for message in after.heard if not message.topic.endswith("/event")]
        assert said[:3] == ["status", "birth", "telemetry"]
        assert after.said("/status") == ["online"]
        assert running.said.count(_WITHOUT) <= 3, "an absence is told once, not all day"
        assert peak_bytes(pid) <= MEMORY_BYTES
        assert grown_bytes <= 4 << 20, "what nobody hears is not kept"
        assert recovery_s <= RECOVERY_S
        assert running.end() == 0
    objects = bucket.contents()
    assert sorted(objects) == sorted(str(segment.key) for segment in kiosk.ledger.segments())
    hashes = {hashlib.sha256(content).hexdigest() for content in objects.values()}
    assert hashes == {segment.sha256 for segment in kiosk.ledger.segments()}
