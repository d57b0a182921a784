"""A kiosk in a guest: installed by install.sh, heard through the guest's sound card, asked by its own commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.machine.agent import Done
from tests.machine.arrivals import Arrivals
from tests.machine.guest import HOST, Guest
from tests.machine.release import Release
from tests.machine.sound import NOISE, RATE, Sound
from tests.servers import Broker, Key

RECORDER: Final = "kiosk-recorder.service"
COURIER: Final = "kiosk-courier.service"
SPOOL: Final = "/var/lib/kiosk-recorder"
CARD: Final = "KioskMic"

STICK: Final = "/root/stick"
PLAIN: Final = "/root/plain.toml"
SEALED: Final = "/root/sealed.toml"
"""Two configurations that differ in whether recordings are encrypted."""

_CONFIGURATION: Final = """
[device]
site = "north"
id = "room-12"
[capture]
pcm = "hw:CARD={card},DEV=1"
rate = {rate}
[spool]
cap = "256MiB"
keep_free = "64MiB"
segment_seconds = 10
keep_uploaded = "1h"
[seal]
recipients = {recipients}
[upload]
target = "s3://{bucket}/rooms"
endpoint_url = "http://127.0.0.1:{store}"
[mqtt]
url = "mqtt://127.0.0.1:{broker}"
"""

_VOUCH: Final = """
import ctypes
# struct timex: ADJ_STATUS | ADJ_MAXERROR, and the rest zero: no error, and no STA_UNSYNC.
timex = (ctypes.c_uint * 64)(0x14)
assert ctypes.CDLL(None).adjtimex(timex) == 0
"""

_SPEAKER: Final = "speaker.service"


@dataclass(frozen=True, slots=True)
class Interval:
    """A recording (`run` is set) or a gap (`reason` is set) of one boot, as `kiosk-recorder timeline` tells it."""

    boot: str
    begin: datetime
    end: datetime
    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kiosk:
    """What a technician and an admin can see of it."""

    guest: Guest
    arrivals: Arrivals
    broker: Broker
    noise: Sound

    def prepare(self, root: Path, stick: Path, release: Release, key: Key) -> None:
        """Make a kiosk of a machine's disk, which is mounted at `root`. It doesn't encrypt.

        The disk gets what is on the `stick`, too: releases, and the noise.
        """
        shutil.copytree(stick, root / STICK.lstrip("/"), copy_function=shutil.copy)
        bucket = self.arrivals.bucket
        ports = {"store": bucket.store.port, "broker": self.broker.port}
        for name, port in ports.items():
            _forward(root, name, port)
        for place, recipients in ((PLAIN, []), (SEALED, [self.arrivals.key.public])):
            text = _CONFIGURATION.format(
                card=CARD, rate=RATE, bucket=bucket.name, recipients=json.dumps(recipients), **ports
            )
            (root / place.lstrip("/")).write_text(text)
        # Where install.sh leaves it alone.
        (root / "etc/kiosk-recorder").mkdir()
        environment = "".join(f"{name}={value}\n" for name, value in key.environment.items())
        (root / "etc/kiosk-recorder/environment").write_text(environment)
        install_into(root, release, "--config", str(root / PLAIN.lstrip("/")))

    def install(self, release: Release, *options: str) -> Done:
        """What became of `install.sh` in the guest, from the stick."""
        place = f"{STICK}/{release.directory.name}"
        offline = ["--offline", "--wheelhouse", f"{place}/wheels"]
        done = self.guest.attempt(" ".join([f"{place}/install.sh", *offline, *options]), 900)
        return Done(done.status, done.output + done.error, "")

    def until_it_records(self) -> None:
        """Until both services say that they are ready, and sound is taken from the card."""
        # Of several units it takes one that is active for a success.
        self.guest.until(f"systemctl is-active {RECORDER} && systemctl is-active {COURIER}", 600)
        self.guest.until(f"grep -q RUNNING /proc/asound/{CARD}/pcm1c/sub0/status")

    def told(self, command: str) -> Any:  # noqa: ANN401 (what JSON holds)
        """The answer of a reading command of `kiosk-recorder`."""
        return json.loads(self.guest.run(f"kiosk-recorder {command} --json", 300))

    def timeline(self) -> list[Interval]:
        """In the order in which it happened."""
        return [
            Interval(
                told["boot"],
                datetime.fromisoformat(told["begin"]),
                datetime.fromisoformat(told["end"]),
                told.get("run", ""),
                told.get("reason", ""),
            )
            for told in self.told("timeline")["intervals"]
        ]

    def assert_spool_and_ledger_are_whole(self) -> None:
        """By the kiosk's own command, which reads and hashes everything."""
        self.guest.run("kiosk-recorder verify", 600)

    def vouch_for_the_clock(self) -> None:
        """As a time server would: the clock is right, for QEMU's is this machine's."""
        self.guest.run(f"python3 -c '{_VOUCH}'")

    def until_heard(self, count: int, since: datetime | None = None) -> Sound:
        """The one sound of so many samples, or more, that was recorded `since` then, once it is in the store."""
        found: list[Sound] = []

        def heard() -> bool:
            found[:] = [sound for sound in self.arrivals.sounds(since) if len(sound) >= count]
            return bool(found)

        self.arrivals.eventually(heard, f"{count} samples of noise are in the store")
        assert len(found) == 1
        return found[0]

    def until_something_is_sealed(self) -> None:
        self.guest.until(f"ls {SPOOL}/spool/sealed/*.flac*")

    def until_all_is_sent(self) -> None:
        """Until what lies sealed in the spool now is in the store, too."""
        names = {name.partition(".")[0] for name in self.guest.run(f"ls {SPOOL}/spool/sealed").split()}
        self.arrivals.eventually(lambda: names <= self.arrivals.names(), "everything is in the store")

    def speak(self, seconds: float | None = None) -> None:
        """Play the noise from its beginning: for so long, or until it is told to be silent."""
        limit = "" if seconds is None else f"--samples={round(seconds * RATE)}"
        self.guest.run(
            f"systemctl reset-failed {_SPEAKER} 2>/dev/null; systemd-run --quiet --unit={_SPEAKER} "
            f"aplay --quiet --device=hw:CARD={CARD},DEV=0 --buffer-time=4000000 {limit} {STICK}/{NOISE}"
        )

    def now(self) -> datetime:
        """The guest's wall clock."""
        return datetime.fromisoformat(self.guest.run("date --iso-8601=ns").strip().replace(",", "."))

    def boot_id(self) -> str:
        """Of this boot, as the ledger names it."""
        return self.guest.run("tr -d - </proc/sys/kernel/random/boot_id").strip()

    def property(self, unit: str, name: str) -> str:
        return self.guest.run(f"systemctl show --property={name} --value {unit}").strip()

    def configure(self, configuration: str) -> None:
        """What it's going to be from its next start on, durably."""
        self.guest.run(f"cp {configuration} /etc/kiosk-recorder/config.toml; sync /etc/kiosk-recorder/config.toml")

    def cut_power(self) -> datetime:
        """From one moment to the next. When that was, by the guest's clock: rather a moment later than sooner."""
        asked = time.monotonic()
        now = self.now()
        self.guest.cut_power()
        return now + timedelta(seconds=time.monotonic() - asked)


def install_into(root: Path, release: Release, *options: str) -> None:
    """Run a release's install.sh on a disk that is mounted at `root`."""
    offline = ["--offline", "--wheelhouse", str(release.directory / "wheels")]
    command = [str(release.directory / "install.sh"), "--root", str(root), *offline, *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _forward(root: Path, name: str, port: int) -> None:
    """127.0.0.1 of the guest then has that port of the host, as a tunnel would give it.

    A kiosk speaks to no other machine unencrypted.
    """
    units = root / "etc/systemd/system"
    (units / f"{name}.socket").write_text(f"[Socket]\nListenStream=127.0.0.1:{port}\n")
    (units / f"{name}.service").write_text(f"[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd {HOST}:{port}\n")
    wanted = units / "sockets.target.wants"
    wanted.mkdir(exist_ok=True)
    (wanted / f"{name}.socket").symlink_to(f"../{name}.socket")
