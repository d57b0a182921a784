"""Real servers on free ports of 127.0.0.1, ended by their own process ids.

Take the fixtures in a conftest.py: `from tests.servers import broker, s3_store  # noqa: F401`.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.soundcard import eventually
from tests.witness import witnessed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_bucket_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Key:
    """Static credentials of one identity."""

    access: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """What boto3's own chain reads first."""
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            # What this machine's user has configured has no say here.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }


@dataclass(frozen=True, slots=True)
class S3Store:
    """A running SeaweedFS."""

    url: str
    pid: int
    admin: Key = Key("admin", "admin-secret")
    """May do everything."""
    kiosk: Key = Key("kiosk", "kiosk-secret")
    """May write objects, nothing else."""
    visitor: Key = Key("visitor", "visitor-secret")
    """May read objects, nothing else."""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self) -> S3Client:
        """The admin's client; close it."""
        return boto3.session.Session(self.admin.access, self.admin.secret, region_name="us-east-1").client(
            "s3",
            endpoint_url=self.url,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def bucket(self) -> Bucket:
        """A new bucket."""
        bucket = Bucket(self, f"bucket-{next(_bucket_numbers):04d}")
        with contextlib.closing(self.client()) as client:
            client.create_bucket(Bucket=bucket.name)
        return bucket


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, seen with the admin's eyes."""

    store: S3Store
    name: str

    def keys(self) -> list[str]:
        """Every key in it."""
        with contextlib.closing(self.store.client()) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def contents(self) -> dict[str, bytes]:
        """Every object in it."""
        with contextlib.closing(self.store.client()) as client:
            return {key: client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in self.keys()}

    def get(self, key: str) -> tuple[bytes, dict[str, str]]:
        """An object's content and metadata."""
        with contextlib.closing(self.store.client()) as client:
            answer = client.get_object(Bucket=self.name, Key=key)
            return answer["Body"].read(), answer["Metadata"]


@dataclass(frozen=True, slots=True)
class Broker:
    """A running mosquitto."""

    port: int
    pid: int
    directory: Path = field(repr=False)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that is ended, by its own process id, when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def seaweedfs(directory: Path, nobodies: Sequence[Key] = ()) -> Iterator[S3Store]:
    """A SeaweedFS with its data below `directory`. It knows `nobodies`, who have no right but what a policy gives."""
    weed = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    names = [f"{part}.port{kind}" for part in ("s3", "master", "volume", "filer", "admin") for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    store = S3Store(f"http://127.0.0.1:{ports['s3.port']}", 0)
    identities = directory / "identities.json"
    identities.write_text(
        json.dumps(
            {
                "identities": [
                    {
                        "name": key.access,
                        "credentials": [{"accessKey": key.access, "secretKey": key.secret}],
                        "actions": actions,
                    }
                    for key, actions in (
                        (store.admin, ["Admin", "Read", "Write", "List"]),
                        (store.kiosk, ["Write"]),
                        (store.visitor, ["Read"]),
                        *((nobody, []) for nobody in nobodies),
                    )
                ]
            }
        )
    )
    (directory / "data").mkdir()
    command = [
        weed,
        "-logtostderr",
        "mini",
        f"-dir={directory / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{name}={port}" for name, port in ports.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        f"-s3.config={identities}",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]
    log = directory / "weed.log"
    with running(command, log) as process:
        store = S3Store(store.url, process.pid)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                bucket = store.bucket()
                with contextlib.closing(store.client()) as client:
                    client.put_object(Bucket=bucket.name, Key="ready", Body=b"yes")
            except (BotoCoreError, ClientError):
                return False
            return True

        eventually(answers, f"SeaweedFS takes objects: {log}", 60)
        yield store


@contextlib.contextmanager
def mosquitto(
    directory: Path, options: str = "allow_anonymous true", port: int | None = None, *, admins: bool = False
) -> Iterator[Broker]:
    """A mosquitto whose listener has `options`. AssertionError at the end if a kiosk said anything wrong over it.

    What `admins` say is judged, too, if you wish.
    """
    own_port, witness_port = free_ports(2)
    port = port or own_port
    configuration = directory / "mosquitto.conf"
    configuration.write_text(
        f"user {getpass.getuser()}\nper_listener_settings true\n"
        f"listener {witness_port} 127.0.0.1\nallow_anonymous true\nlistener {port} 127.0.0.1\n{options}\n"
    )
    log = directory / "mosquitto.log"
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with running([program, "-v", "-c", configuration], log) as process:

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        eventually(listens, f"mosquitto listens: {log}")
        with witnessed(witness_port, directory / f"witness-{port}.txt", admins=admins):
            yield Broker(port, process.pid, directory)


@pytest.fixture(scope="session")
def s3_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """SeaweedFS for the whole session: take a bucket of your own from it."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as store:
        yield store


@pytest.fixture
def bucket(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket of this test's own; this process has the kiosk's credentials for it."""
    for name, value in s3_store.kiosk.environment.items():
        monkeypatch.setenv(name, value)
    return s3_store.bucket()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A mosquitto of this test's own (it starts at once) that lets everybody in."""
    with mosquitto(tmp_path) as running_broker:
        yield running_broker
