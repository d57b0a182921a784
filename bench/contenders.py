"""Who is compared: the same alsa-lib PCM in, FLAC at level 5 out, by four programs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.handover import hand_over
from agent.settings import Capture, Device, Mqtt, Seal, Settings, Spool, Upload
from agent.units import Size
from bench.accounting import Running

ROOT = Path(__file__).resolve().parent.parent

_RECIPIENTS = (
    "age1ww6dxhhx4cm2cwz853axw8z9qskfx7cxfpasf2trn2gv2y0jpphqs7e88h",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC8w/spydhOKpEB5wxEurZ0t69LI4lfIuQgtoYLzNjtF",
)
"""Two, as a clinic and its supplier would be; nobody holds a key to them."""

RAM = Path("/dev/shm")  # noqa: S108 (the status picture lives in RAM, as on a kiosk)


@dataclass(frozen=True, slots=True)
class Sound:
    """A capture format."""

    rate: int
    channels: int

    def __str__(self) -> str:
        return f"{self.rate / 1000:g} kHz {('mono', 'stereo')[self.channels - 1]}"


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that records: how it is started, how it is ended, where its audio lies."""

    title: str
    begin: Callable[[Sound, str, Path, Mapping[str, str]], Running]
    """Starts it: format, PCM, directory to write to, environment."""
    stop: signal.Signals = signal.SIGTERM
    audio: tuple[str, ...] = ("*.flac",)
    """Patterns of the files that hold audio, finished or not."""
    ours: bool = False
    """Whether it is the recorder."""

    def kept_bytes(self, place: Path) -> int:
        """Bytes of audio on the card now."""
        return sum(path.stat().st_size for pattern in self.audio for path in place.glob(pattern))


def settings_for(
    sound: Sound,
    pcm: str,
    place: Path,
    *,
    target: str = "",
    endpoint_url: str = "",
    broker: str = "",
    recipients: tuple[str, ...] = (),
) -> Settings:
    """The recorder's own defaults; only the room left to others is none, because an image is small."""
    return Settings(
        device=Device(site="bench", id="bench"),
        capture=Capture(pcm=pcm, rate=sound.rate, channels=sound.channels),
        spool=Spool(path=place, keep_free=Size(0)),
        seal=Seal(recipients=recipients),
        upload=Upload(target=target, endpoint_url=endpoint_url, parallel=4),
        mqtt=Mqtt(url=broker),
    )


def start_module(module: str, settings: Settings, environment: Mapping[str, str], *options: str) -> Running:
    """Start one of our processes as `kiosk-recorder` does: lean, with its settings in an inherited memory file."""
    descriptor = hand_over(settings)
    try:
        return Running(
            [sys.executable, "-P", "-m", module, "--settings-fd", str(descriptor), *options],
            environment={"PYTHONPATH": str(ROOT), **environment},
            pass_fds=[descriptor],
        )
    finally:
        os.close(descriptor)


def _recorder(sound: Sound, pcm: str, place: Path, environment: Mapping[str, str]) -> Running:
    return start_module("agent.recorder", settings_for(sound, pcm, place), environment)


def _encrypting(sound: Sound, pcm: str, place: Path, environment: Mapping[str, str]) -> Running:
    settings = settings_for(sound, pcm, place, recipients=_RECIPIENTS)
    return start_module("agent.recorder", settings, environment)


def _arecord_flac(sound: Sound, pcm: str, place: Path, environment: Mapping[str, str]) -> Running:
    hear = ["arecord", "-q", "-D", pcm, "-f", "S16_LE", "-r", str(sound.rate), "-c", str(sound.channels), "-t", "raw"]
    raw = ["--force-raw-format", "--endian=little", "--sign=signed", "--bps=16"]
    form = [f"--sample-rate={sound.rate}", f"--channels={sound.channels}"]
    encode = ["flac", "-5", "--silent", *raw, *form, "-o", str(place / "audio.flac"), "-"]
    return Running(hear, encode, environment=environment)


def _ffmpeg(sound: Sound, pcm: str, place: Path, environment: Mapping[str, str]) -> Running:
    hear = ["-f", "alsa", "-sample_rate", str(sound.rate), "-channels", str(sound.channels), "-i", pcm]
    keep = ["-c:a", "flac", "-f", "segment", "-segment_time", "60", str(place / "audio-%05d.flac")]
    return Running(["ffmpeg", "-nostdin", "-nostats", "-loglevel", "error", *hear, *keep], environment=environment)


def _sox(sound: Sound, pcm: str, place: Path, environment: Mapping[str, str]) -> Running:
    hear = ["-t", "alsa", "-r", str(sound.rate), "-c", str(sound.channels), "-b", "16", "-e", "signed", pcm]
    command = ["sox", "-q", *hear, "-C", "5", str(place / "audio.flac")]
    return Running(command, environment={**environment, "AUDIODRIVER": "alsa"})


CONTENDERS = {
    "recorder": Contender("recorder", _recorder, audio=("spool/sealed/*.flac", "spool/open/*.part"), ours=True),
    "encrypted": Contender(
        "recorder, encrypting", _encrypting, audio=("spool/sealed/*.flac.age", "spool/open/*.part"), ours=True
    ),
    "arecord": Contender("arecord | flac -5", _arecord_flac, stop=signal.SIGINT),
    "ffmpeg": Contender("ffmpeg -f segment", _ffmpeg, stop=signal.SIGINT),
    "sox": Contender("sox", _sox, stop=signal.SIGINT),
}
