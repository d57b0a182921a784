"""Tries what a service may not do, as that service: the unit as it is installed, with this program in it instead."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.machine.guest import HOST
from tests.machine.kiosk import SPOOL, Kiosk

_PROGRAM: Final = """
import json, os, socket
from pathlib import Path

SPOOL, STORE = Path("{spool}"), ("{host}", {port})
recording = sorted((SPOOL / "spool/sealed").glob("*.flac"))[0]

def touch(directory):
    (directory / "probe").touch()
    (directory / "probe").unlink()

ATTEMPTS = {{
    "reach the store": lambda: socket.create_connection(STORE, 20).close(),
    "make an IPv4 socket": lambda: socket.socket(socket.AF_INET).close(),
    "make an IPv6 socket": lambda: socket.socket(socket.AF_INET6).close(),
    "make a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "open the microphone": lambda: os.close(os.open("/dev/snd/controlC0", os.O_RDWR)),
    "read a recording": lambda: recording.read_bytes(),
    "change a recording": lambda: recording.open("r+b").close(),
    "make a recording": lambda: touch(recording.parent),
    "remove a recording": lambda: recording.rename(recording.with_suffix(".gone")).rename(recording),
    "write to state": lambda: touch(SPOOL / "state"),
    "write to the system": lambda: touch(Path("/opt/kiosk-recorder")),
}}

def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"

print(json.dumps({{name: outcome(attempt) for name, attempt in ATTEMPTS.items()}}))
"""


def tried(kiosk: Kiosk, unit: str) -> dict[str, str]:
    """What became of each attempt: "done", or the error's class."""
    program = _PROGRAM.format(spool=SPOOL, host=HOST, port=kiosk.arrivals.bucket.store.port)
    kiosk.guest.run(f"cat >/usr/local/lib/probe.py <<'END'\n{program}\nEND")
    # Everything of the unit holds but what it runs, and how systemd knows that it's well.
    kiosk.guest.run(
        f"sed -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 /usr/local/lib/probe.py|' -e 's|^Type=.*|Type=oneshot|' "
        f"-e '/^Restart/d' -e '/^Watchdog/d' -e '/^\\[Install\\]/,$d' /etc/systemd/system/{unit} "
        f">/run/systemd/system/probe.service; "
        f"printf '[Service]\\nStandardOutput=truncate:/run/probe.json\\n' >>/run/systemd/system/probe.service; "
        "systemctl daemon-reload; systemctl start probe.service",
        600,
    )
    outcomes: dict[str, Any] = json.loads(kiosk.guest.run("cat /run/probe.json"))
    return outcomes
