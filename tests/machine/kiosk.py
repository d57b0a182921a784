"""A kiosk in a guest: installed by install.sh, heard through the guest's sound card, asked by its own commands."""

from __future__ import annotations

import io
import json
import subprocess
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.machine.guest import HOST, SHARE, Guest
from tests.machine.release import Release
from tests.servers import Broker, Bucket, Key
from tests.soundcard import eventually

RATE: Final = 16000
RECORDER: Final = "kiosk-recorder.service"
COURIER: Final = "kiosk-courier.service"
SPOOL: Final = "/var/lib/kiosk-recorder"
CARD: Final = "KioskMic"
NOISE: Final = "noise.wav"
"""In the shared directory: what is played to the card."""

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
[upload]
target = "s3://{bucket}/rooms"
endpoint_url = "http://127.0.0.1:{store}"
[mqtt]
url = "mqtt://127.0.0.1:{broker}"
"""

_NEEDLE: Final = 16
"""So many samples of noise occur once."""

_VOUCH: Final = """
import ctypes
# struct timex: ADJ_STATUS | ADJ_MAXERROR, and the rest zero: no error, and no STA_UNSYNC.
timex = (ctypes.c_uint * 64)(0x14)
assert ctypes.CDLL(None).adjtimex(timex) == 0
"""

_SPEAKER: Final = "speaker.service"


@dataclass(frozen=True, slots=True)
class Kiosk:
    """What a technician and an admin can see of it."""

    guest: Guest
    bucket: Bucket
    broker: Broker
    noise: NDArray[np.int16]

    def prepare(self, root: Path, release: Release, key: Key) -> None:
        """Make a kiosk of a machine's disk, which is mounted at `root`: its configuration is /root/room.toml."""
        ports = {"store": self.bucket.store.port, "broker": self.broker.port}
        for name, port in ports.items():
            _forward(root, name, port)
        room = root / "root/room.toml"
        room.write_text(_CONFIGURATION.format(card=CARD, rate=RATE, bucket=self.bucket.name, **ports))
        # Where install.sh leaves it alone.
        (root / "etc/kiosk-recorder").mkdir()
        environment = "".join(f"{name}={value}\n" for name, value in key.environment.items())
        (root / "etc/kiosk-recorder/environment").write_text(environment)
        wheels = ["--offline", "--wheelhouse", str(release.directory / "wheels")]
        command = [str(release.directory / "install.sh"), "--root", str(root), *wheels, "--config", str(room)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def until_it_records(self) -> None:
        """Until both services say that they are ready, and sound is taken from the card."""
        self.guest.until(f"systemctl is-active {RECORDER} {COURIER}", 600)
        self.guest.until(f"grep -q RUNNING /proc/asound/{CARD}/pcm1c/sub0/status")

    def told(self, command: str) -> Any:  # noqa: ANN401 (what JSON holds)
        """The answer of a reading command of `kiosk-recorder`."""
        return json.loads(self.guest.run(f"kiosk-recorder {command} --json", 300))

    def vouch_for_the_clock(self) -> None:
        """As a time server would: the clock is right, for QEMU's is this machine's."""
        self.guest.run(f"python3 -c '{_VOUCH}'")

    def until_heard(self, count: int, since: datetime | None = None) -> NDArray[np.int16]:
        """The one sound of so many samples, or more, that was recorded `since` then, once it is in the store."""
        found: list[NDArray[np.int16]] = []

        def heard() -> bool:
            found[:] = [sound for run in self.runs(since).values() for sound in sounds(run) if len(sound) >= count]
            return bool(found)

        eventually(heard, f"{count} samples of noise are in the store", 600)
        assert len(found) == 1
        return found[0]

    def until_something_is_sealed(self) -> None:
        self.guest.until(f"ls {SPOOL}/spool/sealed/*.flac")

    def speak(self, seconds: float | None = None) -> None:
        """Play the noise from its beginning: for so long, or until it is told to be silent."""
        limit = "" if seconds is None else f"--samples={round(seconds * RATE)}"
        self.guest.run(
            f"systemctl reset-failed {_SPEAKER} 2>/dev/null; systemd-run --quiet --unit={_SPEAKER} "
            f"aplay --quiet --device=hw:CARD={CARD},DEV=0 --buffer-time=4000000 {limit} {SHARE}/{NOISE}"
        )

    def now(self) -> datetime:
        """The guest's wall clock."""
        return datetime.fromisoformat(self.guest.run("date --iso-8601=ns").strip().replace(",", "."))

    def property(self, unit: str, name: str) -> str:
        return self.guest.run(f"systemctl show --property={name} --value {unit}").strip()

    def runs(self, since: datetime | None = None) -> dict[str, NDArray[np.int16]]:
        """What is in the bucket, each run put together as far as no segment lacks: two are sent at a time.

        With `since`, runs that began before are left out.
        """
        parts: dict[str, list[NDArray[np.int16]]] = {}
        earliest = "" if since is None else since.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        for key, content in sorted(self.bucket.contents().items()):
            begin, run, seq, _ = key.rpartition("/")[2].split("_")
            if (int(seq) == 0 and begin < earliest) or int(seq) != len(parts.get(run, ())):
                continue
            samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
            assert rate == RATE
            parts.setdefault(run, []).append(samples)
        return {run: np.concatenate(segments) for run, segments in parts.items()}


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


def make_noise(directory: Path, seconds: float) -> NDArray[np.int16]:
    """Noise that never repeats and has no zero in it, as a file: what isn't zero in a recording was played.

    FLAC can't shrink it, so a page of a file is an eighth of a second.
    """
    generator = np.random.default_rng(12)
    count = round(seconds * RATE)
    samples = (generator.integers(1, 2**15, count) * generator.choice([-1, 1], count)).astype(np.int16)
    with wave.open(str(directory / NOISE), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return np.asarray(samples)


def sounds(run: NDArray[np.int16]) -> Iterator[NDArray[np.int16]]:
    """The stretches of a run in which something was heard."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], run != 0, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2):
        yield run[begin:end]
