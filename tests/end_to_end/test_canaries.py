"""A secret in every place that holds one, everything goes wrong that can, and no trace of a secret comes out anywhere.

Real recorder and courier at log level "debug", a real broker with TLS and passwords, a real store, the command lines of
the kiosk and of the fleet. Each canary is looked for as it is, and in the spellings in which it could slip out.
"""

from __future__ import annotations

import base64
import io
import os
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from agent.config.show import as_toml
from agent.contract import seeds
from agent.contract.messages import FLAGS
from agent.ledger import Ledger
from agent.settings import Capture, Commands, Custody, Device, Flags, Log, Mqtt, Seal, Settings, Spool, Upload
from agent.units import Size
from fleet import keyring
from hw.clock import SystemClock
from tests.courier.authority import Authority
from tests.courier.listener import Listener, listening
from tests.end_to_end.kiosk import ROOT, Kiosk, stop
from tests.keys import age_key
from tests.servers import Broker, Bucket, free_ports, mosquitto
from tests.soundcard import RATE, Soundcard, eventually, numbered

_PERSON: Final = "alice"
_KIOSK: Final = "room-12"
_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")


def spellings(secret: bytes) -> set[bytes]:
    """How a secret of a dozen bytes or more could stand somewhere: as it is, in hex, in base64 wherever it begins."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for lead in range(3):
        inner = base64.b64encode(bytes(lead) + secret)[4 if lead else 0 : -4]
        found |= {inner, inner.translate(_URLSAFE)}
    return found


def private_parts(key: Path) -> list[bytes]:
    """The number that is the secret of a key on P-256 in PEM, and the lines in which it is written."""
    form = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", str(key), "-outform", "DER"]
    der = subprocess.run(form, check=True, capture_output=True).stdout
    at = der.index(b"\x04\x20") + 2
    return [der[at : at + 32], *(line for line in key.read_bytes().splitlines() if b"-----" not in line)]


@dataclass
class Cage:
    """The canaries, by name."""

    birds: dict[str, list[bytes]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A new one, for a secret that is text."""
        text = f"canary{secrets.token_hex(12)}"
        self.birds[name] = [text.encode()]
        return text

    def file(self, name: str, path: Path) -> Path:
        """A new one in a file of its own."""
        path.write_text(f"{self.text(name)}\n")
        path.chmod(0o600)
        return path

    def heard_in(self, content: bytes) -> list[str]:
        """The names of those that got there."""
        return [
            name
            for name, parts in self.birds.items()
            if any(form in content for part in parts for form in _forms(part))
        ]


def _forms(part: bytes) -> Iterable[bytes]:
    return spellings(part) if len(part) >= 12 else ()


@dataclass
class Scene:
    """Room 12, its broker, its store, its admin, and all that any of them said."""

    kiosk: Kiosk
    root: Path
    cage: Cage
    broker: Broker
    heard: Listener
    fleet_environment: dict[str, str]
    said: dict[str, bytes] = field(default_factory=dict)

    def run(self, module: str, *arguments: str, status: int | None = None, **environment: str) -> bytes:
        """A command line; what it says is kept to be looked at."""
        own = {"RUNTIME_DIRECTORY": str(self.kiosk.runtime), "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, **self.kiosk.environment, **own, **environment},
            capture_output=True,
            check=False,
            cwd=ROOT,
        )
        name = " ".join([module, *arguments])
        self.said[f"{name} ({len(self.said)})"] = done.stdout + done.stderr
        assert status is None or done.returncode == status, (name, done.stdout, done.stderr)
        return done.stdout

    def tell(self, *arguments: str, status: int | None = None) -> bytes:
        """A command of the kiosk's."""
        configured = ["--config", str(self.root / "config.toml")]
        return self.run("agent.cli", *arguments, *configured, status=status, KIOSK_RECORDER_DEBUG="1")

    def order(self, *arguments: str, status: int | None = None, **environment: str) -> bytes:
        """A command of the fleet's."""
        chosen = {**self.fleet_environment, **environment}
        return self.run("fleet.cli", *arguments, status=status, **chosen)

    def logged(self, text: str) -> None:
        eventually(lambda: text in self.kiosk.log.read_text(), f"the log says {text!r}", 60)

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Everything that got out, and where."""
        yield from self.said.items()
        for message in list(self.heard.heard):
            yield f"MQTT, {message.topic}", f"{message.topic} {message.payload}".encode()
        yield "the log", self.kiosk.log.read_bytes()
        for directory in (self.kiosk.runtime, self.kiosk.layout.root):
            yield from ((str(path), path.read_bytes()) for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def scene(tmp_path: Path, bucket: Bucket) -> Iterator[Scene]:
    cage, held = Cage(), tmp_path / "held"
    held.mkdir(mode=0o700)
    authority = Authority(tmp_path / "authority")
    certificates = {name: authority.certificate(name) for name in ("broker", _KIOSK, _PERSON)}
    for name in (_KIOSK, _PERSON):
        cage.birds[f"certificate key of {name}"] = private_parts(certificates[name][1])
        certificates[name][1].chmod(0o600)
    passwords = {name: cage.file(f"password of {name}", held / f"{name}-password") for name in (_KIOSK, _PERSON)}
    cage.birds["device key"] = [seeds.make(held / "device.key")]
    identity = age_key(held)
    cage.birds["age identity"] = [identity.secret.read_bytes().splitlines()[-1]]
    admin = keyring.make(held / "keys", _PERSON)
    stranger = keyring.make(held / "strangers", "mallory")
    cage.birds |= {"signing key of the admin": [admin.seed], "signing key of a stranger": [stranger.seed]}
    known = tmp_path / "passwords"
    known.touch(0o600)
    for name, file in passwords.items():
        command = ["mosquitto_passwd", "-b", str(known), name, file.read_text().strip()]
        subprocess.run(command, check=True, capture_output=True)
    certificate, key = certificates["broker"]
    options = (
        f"cafile {authority.ca}\ncertfile {certificate}\nkeyfile {key}\nrequire_certificate true\n"
        f"allow_anonymous false\npassword_file {known}"
    )
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(tmp_path, options))
        url = f"mqtts://127.0.0.1:{broker.port}"
        mine = [str(part) for part in certificates[_PERSON]]
        line = ["--cafile", str(authority.ca), "--cert", mine[0], "--key", mine[1]]
        line += ["-u", _PERSON, "-P", passwords[_PERSON].read_text().strip()]
        heard = stack.enter_context(listening(broker, "#", line))
        settings = Settings(
            device=Device(site="north", id=_KIOSK),
            capture=Capture(pcm="simroom", rate=RATE),
            spool=Spool(path=tmp_path / "kiosk", segment_seconds=2, keep_free=Size(0)),
            seal=Seal(recipients=(identity.public,)),
            upload=Upload(target=f"s3://{bucket.name}/clinic", endpoint_url=bucket.store.url),
            mqtt=Mqtt(
                url=url,
                ca=authority.ca,
                certificate=certificates[_KIOSK][0],
                key=certificates[_KIOSK][1],
                username=_KIOSK,
                password_file=passwords[_KIOSK],
            ),
            commands=Commands(admin_keys=(admin.public,)),
            flags=Flags(keys=(admin.public,)),
            custody=Custody(key=held / "device.key"),
            log=Log(level="debug"),
        )
        aws = {
            "AWS_SECRET_ACCESS_KEY": cage.text("AWS secret"),
            "AWS_SESSION_TOKEN": cage.text("AWS session token"),
        }
        (tmp_path / "config.toml").write_text(as_toml(settings))
        (tmp_path / "environment").write_text("".join(f"{name}={value}\n" for name, value in aws.items()))
        kiosk = stack.enter_context(Kiosk(settings, environment=aws, beside=tmp_path / "beside"))
        kiosk.runtime.mkdir(parents=True)
        _journal_of(kiosk, tmp_path / "bin")
        clock = SystemClock()
        kiosk.layout.create()
        with Ledger(kiosk.layout.ledger, clock, create=True) as ledger:
            ledger.begin_boot(clock.wall_ns() - clock.monotonic_ns(), "server")
        fleet = {
            "KIOSK_FLEET_DEBUG": "1",
            "KIOSK_FLEET_BROKER": url,
            "KIOSK_FLEET_CA": str(authority.ca),
            "KIOSK_FLEET_CERT": mine[0],
            "KIOSK_FLEET_CERT_KEY": mine[1],
            "KIOSK_FLEET_USERNAME": _PERSON,
            "KIOSK_FLEET_PASSWORD_FILE": str(passwords[_PERSON]),
            "KIOSK_FLEET_KEYS": str(held / "keys"),
        }
        yield Scene(kiosk, tmp_path, cage, broker, heard, fleet)


def _journal_of(kiosk: Kiosk, directory: Path) -> None:
    """What stands in for systemd's journal holds what the two processes said."""
    directory.mkdir()
    (directory / "journalctl").write_text(f'#!/bin/sh\nexec cat "{kiosk.log}"\n')
    (directory / "journalctl").chmod(0o755)


@pytest.mark.timeout(400)
def test_no_secret_gets_out_whatever_goes_wrong(scene: Scene, soundcard: Soundcard) -> None:
    kiosk, held = scene.kiosk, scene.root / "held"
    recorder = kiosk.record(soundcard(numbered(60_000 * 5)))
    scene.said["command lines"] = Path(f"/proc/{recorder.pid}/cmdline").read_bytes()
    _live_badly(scene)
    courier = kiosk.upload()
    scene.said["command lines"] += Path(f"/proc/{courier.pid}/cmdline").read_bytes()
    eventually(lambda: bool(scene.heard.on("/birth")), "the courier is connected", 60)
    scene.logged("403")
    _order_badly(scene)
    eventually(lambda: any(message.content["ok"] for message in scene.heard.on("/cmd/result")), "a command is obeyed")
    eventually(lambda: any('"custody_head"' in told for told in scene.heard.said("/telemetry")), "it signs", 60)
    _look_around(scene)
    identity, sealed = held / "key.txt", next(kiosk.layout.sealed.glob("*.age"))
    scene.tell("open", str(sealed), "-i", str(identity), "-o", str(scene.root / "heard.flac"), status=0)
    scene.tell("open", str(sealed), "-i", str(held / "device.key"), "-o", str(scene.root / "no.flac"), status=2)
    for process in (courier, recorder):
        stop(process)
    escaped = {place: names for place, content in scene.places() if (names := scene.cage.heard_in(content))}
    assert escaped == {}


def _live_badly(scene: Scene) -> None:
    """A life of the courier with the wrong password, and a store that isn't there."""
    kiosk = scene.kiosk
    (port,) = free_ports(1)
    settings = kiosk.settings
    wrong = scene.cage.file("wrong password", scene.root / "held" / "wrong")
    kiosk.settings = replace(
        settings,
        mqtt=replace(settings.mqtt, password_file=wrong),
        upload=replace(settings.upload, endpoint_url=f"http://127.0.0.1:{port}"),
    )
    courier = kiosk.upload()
    scene.logged("it refuses us")
    scene.logged(f"127.0.0.1:{port}")
    stop(courier)
    kiosk.settings = settings


def _order_badly(scene: Scene) -> None:
    """Commands and flags that are refused, keys and passwords that are wrong, and one command that is right."""
    held = scene.root / "held"
    scene.order("command", _KIOSK, "report", status=0)
    scene.order("command", _KIOSK, "mute", KIOSK_FLEET_KEYS=str(held / "strangers"), status=1)
    scene.order("keys", "list", status=0)
    scene.order("command", _KIOSK, "report", KIOSK_FLEET_PASSWORD_FILE=str(held / "wrong"), status=2)
    scene.order("command", _KIOSK, "report", "--key", str(held / f"{_PERSON}-password"), status=2)
    scene.order("flags", "set", "offline_recording", "off", "--yes", KIOSK_FLEET_KEYS=str(held / "strangers"))
    environment = scene.fleet_environment
    line = ["--cafile", environment["KIOSK_FLEET_CA"], "--cert", environment["KIOSK_FLEET_CERT"]]
    line += ["--key", environment["KIOSK_FLEET_CERT_KEY"], "-u", _PERSON]
    line += ["-P", (held / f"{_PERSON}-password").read_text().strip()]
    publish = ["mosquitto_pub", "-V", "5", "-h", "127.0.0.1", "-p", str(scene.broker.port), *line]
    subprocess.run([*publish, "-q", "1", "-t", FLAGS, "-m", '{"signed": "{}", "signature": "AA=="}'], check=True)


def _look_around(scene: Scene) -> None:
    """Everything that shows how a kiosk is."""
    for words in (("config", "show"), ("status",)):
        scene.tell(*words)
        scene.tell(*words, "--json")
    scene.tell("config", "check")
    bundle = scene.root / "bundle.tar.gz"
    scene.tell("support-bundle", str(bundle), "--environment", str(scene.root / "environment"), status=0)
    with tarfile.open(bundle) as archive:
        for member in archive.getmembers():
            scene.said[f"bundle: {member.name}"] = (archive.extractfile(member) or io.BytesIO()).read()
    assert b"it refuses us" in scene.said["bundle: bundle/log-courier.txt"]


@pytest.mark.parametrize("lead", range(4))
@pytest.mark.parametrize(
    "written",
    [
        bytes,
        lambda content: content.hex().encode(),
        lambda content: content.hex().upper().encode(),
        base64.b64encode,
        base64.urlsafe_b64encode,
    ],
)
def test_a_canary_is_heard_in_every_spelling(written: Callable[[bytes], bytes], lead: int) -> None:
    cage = Cage({"bird": [secrets.token_bytes(32)], "other": [secrets.token_bytes(32)]})
    content = secrets.token_bytes(lead) + cage.birds["bird"][0] + b"and more"
    assert cage.heard_in(b"before " + written(content) + b" after") == ["bird"]
