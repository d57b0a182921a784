"""A simulated room with a microphone, for machines without one: tests, benchmarks and `kiosk-recorder try`.

The room is a capture PCM of our own behind the real alsa-lib (`hw/simulated_pcm.c`), so a recorder, arecord, ffmpeg or
sox reads it as it would read a sound card. It plays a file of S16_LE frames; frame n of the room is frame n of the
file (`at_end` says what comes after the last). The room doesn't wait: what is played while nobody listens, or while the
stream is broken, is missed. Its clock begins when capture first starts, or with the first refused open.

A room lives in a directory: `asound.conf` (defines the PCM, includes the system's own), `script` (what goes wrong and
when), `journal` (what really happened), `state` (the room's clock). Any process may open the PCM, one at a time.

The script has one event a line and may be appended to at any time; readers that wait in poll are woken:

    at <frame> <event> [arguments]      exactly before this frame of the room
    now <event> [arguments]             as soon as the device looks

| event | what it does |
|---|---|
| `overrun L` | the stream breaks with EPIPE; exactly L frames are skipped |
| `suspend L` | as the system going to sleep: ESTRPIPE; exactly L frames are skipped |
| `broken` | reads fail with EIO until the PCM is opened again |
| `unplug [L]` | ENODEV; opening fails too until L frames have passed or `replug`. `at 0`: absent from the start |
| `replug` | the microphone is back |
| `freeze [L]` | neither frames nor error, until L frames have passed (lost silently) or `thaw` |
| `restless [L]` | as `freeze`, but poll says that there is something to read |
| `thaw` | frames flow again |
| `zeros [L]` | digital silence, for L frames or until `sound` |
| `sound` | ends `zeros` |
| `drift PPM` | the card's crystal runs that much faster than the clock |
| `short F N` | the next N reads get F frames each, fewer than a period |

Everything before the frame of an event is heard, nothing after: what ends a stream shows when the reader has taken all
frames before. `speed` 1 is real time; 50 is fifty times faster; 0 plays as fast as it is read and never overruns
(while the microphone is gone or frozen the room then runs in real time). A `patient` room keeps its pace but waits
when the reader is late, where another would overrun.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agent.errors import KioskError
from agent.units import NS_PER_S, Frames, Nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

_SOURCE = Path(__file__).with_name("simulated_pcm.c")
_SYSTEM_CONF = Path("/usr/share/alsa/alsa.conf")
_NEEDS = "apt-get install gcc libc6-dev libasound2-dev"


def default_cache() -> Path:
    """Where the plugin is kept once built: `${XDG_CACHE_HOME:-~/.cache}/kiosk-recorder`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kiosk-recorder"


def build_plugin(cache: Path | None = None) -> Path:
    """The compiled PCM plugin, built unless `cache` has it already for this source and machine.

    Builders don't clash: each compiles to a file of its own and renames it. Raises KioskError without a C compiler
    or alsa-lib's headers.
    """
    cache = cache or default_cache()
    source = _SOURCE.read_bytes()
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise KioskError("build the simulated microphone", cause="no C compiler", hint=_NEEDS)
    options = ("-O2", "-shared", "-fPIC", "-DPIC")
    digest = hashlib.sha256(b"\0".join((source, platform.machine().encode(), *(o.encode() for o in options))))
    plugin = cache / f"simulated_pcm-{digest.hexdigest()[:16]}.so"
    if plugin.exists():
        return plugin
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        built = Path(scratch) / plugin.name
        command = [compiler, *options, "-o", str(built), str(_SOURCE), "-lasound", "-lm"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            lines = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()[-1:]
            raise KioskError(
                "build the simulated microphone", place=str(_SOURCE), cause="; ".join(lines[:1]), hint=_NEEDS
            )
        built.replace(plugin)
    return plugin


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a room's journal: what the device really did.

    `what` is open, start, resume, close, refused (an open), overrun, suspend, broken, gone, returned, freeze, thaw,
    zeros, sound, drift, short, or missed (what would have broken a stream while none ran). `position` is the frame of
    the room at which it happened. `lost` (of start, resume, thaw) counts the frames played but not heard since the last
    one heard. `details` holds the other figures: `unread` of a real overrun, `skips` of a scripted one, the granted
    format of a start.
    """

    at_ns: Nanoseconds
    what: str
    position: Frames
    lost: Frames
    details: dict[str, str]


def _happening(line: str) -> Happening:
    at_ns, what, *pairs = line.split()
    details = dict(pair.split("=", 1) for pair in pairs)
    position, lost = details.pop("position"), details.pop("lost", "0")
    return Happening(Nanoseconds(int(at_ns)), what, Frames(int(position)), Frames(int(lost)), details)


_ARGUMENTS = {
    "overrun": (1,),
    "suspend": (1,),
    "broken": (0,),
    "unplug": (0, 1),
    "replug": (0,),
    "freeze": (0, 1),
    "restless": (0, 1),
    "thaw": (0,),
    "zeros": (0, 1),
    "sound": (0,),
    "drift": (1,),
    "short": (2,),
}


def _checked(line: str) -> str:
    """`line`, if the plugin will understand it. Raises ValueError."""
    match = re.fullmatch(r"(?:now|at \d+) (\w+)((?: -?\d+(?:\.\d+)?)*) *", line)
    if match is None or len(match[2].split()) not in _ARGUMENTS.get(match[1], ()):
        raise ValueError(f"not a line of a simulated room's script: {line!r}")
    return f"{line}\n"


def _quoted(value: str | Path) -> str:
    text = str(value)
    if set(text) & set('"\\\n'):
        raise KioskError("set up a simulated room", place=text, cause="alsa-lib can't read such a path")
    return f'"{text}"'


@dataclass(frozen=True, slots=True)
class Card:
    """What the sound card has. A reader that asks for something else is refused or granted this, as by a real card."""

    rates: tuple[int, ...] = ()
    """Frames per second; () is the source's. Another rate plays the same frames at that rate, without resampling."""
    channels: tuple[int, ...] = ()
    """() is the source's. More channels repeat the source's, fewer leave some out."""
    format: Literal["S16_LE", "S32_LE"] = "S16_LE"
    period_least_bytes: int = 64
    period_most_bytes: int = 512 << 10
    buffer_most_bytes: int = 1 << 20
    """Limits of periods and buffer; by default those of a USB microphone (snd-usb-audio)."""


class SimulatedRoom:
    """A room whose microphone is the PCM `pcm` for every process started with `environment`."""

    def __init__(  # noqa: PLR0913 - independent settings of one room, nearly all with a default
        self,
        directory: Path,
        source: Path | NDArray[np.int16],
        rate: int,
        channels: int,
        *,
        pcm: str = "simroom",
        speed: float = 1.0,
        patient: bool = False,
        drift_ppm: float = 0.0,
        at_end: Literal["loop", "silence", "stall", "unplug"] = "loop",
        script: Iterable[str] = (),
        card: Card | None = None,
        cache: Path | None = None,
    ) -> None:
        """Set up the room in `directory` (made if missing; a room already there is replaced).

        `source` is a raw file of S16_LE frames, a 16-bit WAV file, or an array of shape (frames, channels). `rate` and
        `channels` are the source's; the card grants just these unless `card` says otherwise. Raises KioskError.
        """
        card = card or Card()
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self.pcm = pcm
        self.rate = rate
        self.channels = channels
        self.speed = speed
        if set(str(self.directory)) & set(" :"):
            raise KioskError(
                "set up a simulated room",
                place=str(self.directory),
                cause="ALSA_CONFIG_PATH takes no blanks or colons in a path",
                hint="choose another directory",
            )
        if not _SYSTEM_CONF.exists():
            hint = "apt-get install libasound2-data"
            raise KioskError("set up a simulated room", place=str(_SYSTEM_CONF), cause="missing", hint=hint)
        plugin = build_plugin(cache)
        for name in ("state", "journal", "script"):
            (self.directory / name).unlink(missing_ok=True)
        path, offset, size = self._lay_down(source)
        self.frames = Frames(size // (2 * channels))
        if self.frames == 0:
            raise KioskError("set up a simulated room", place=str(path), cause="the source has no frames")
        settings = {
            "room": _quoted(self.directory),
            "source": _quoted(path),
            "source_offset": offset,
            "source_frames": self.frames,
            "source_channels": channels,
            "rates": _listed(card.rates or (rate,)),
            "channels": _listed(card.channels or (channels,)),
            "format": _quoted(card.format),
            "period_least": card.period_least_bytes,
            "period_most": card.period_most_bytes,
            "buffer_most": card.buffer_most_bytes,
            "speed": float(speed),
            "drift_ppm": float(drift_ppm),
            "patient": "true" if patient else "false",
            "at_end": _quoted(at_end),
            "hint": '{ show on description "A simulated room" }',
        }
        body = "\n".join(f"    {key} {value}" for key, value in settings.items())
        conf = self.directory / "asound.conf"
        draft = self.directory / "asound.conf.new"
        draft.write_text(
            f"<{_SYSTEM_CONF}>\n"
            f"pcm_type.simulated_room {{ lib {_quoted(plugin)} }}\n"
            f"pcm.{_quoted(pcm)} {{\n    type simulated_room\n{body}\n}}\n"
        )
        draft.replace(conf)
        self.environment = {"ALSA_CONFIG_PATH": str(conf)}
        (self.directory / "script").write_text("".join(map(_checked, script)))

    def _lay_down(self, source: Path | NDArray[np.int16]) -> tuple[Path, int, int]:
        """The file to play, and where in it the frames lie: offset and length in bytes."""
        if not isinstance(source, Path):
            path = self.directory / "source.s16"
            path.write_bytes(source.astype("<i2", copy=False).tobytes())
            return path, 0, path.stat().st_size
        path = source.resolve()
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(12)
            if head[:4] != b"RIFF" or head[8:] != b"WAVE":
                return path, 0, size
            while len(chunk := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", chunk)
                if name == b"data":
                    return path, file.tell(), min(length, size - file.tell())
                body = file.read(length + length % 2)
                if name == b"fmt " and (form := struct.unpack_from("<HHIIHH", body))[1:3] + form[5:] != (
                    self.channels,
                    self.rate,
                    16,
                ):
                    cause = f"has {form[1]} channels of {form[5]} bits at {form[2]} Hz"
                    raise KioskError("set up a simulated room", place=str(path), cause=cause)
        raise KioskError("set up a simulated room", place=str(path), cause="a WAV file without data")

    def tell(self, line: str) -> None:
        """Append one line to the script, such as "at 48000 overrun 1600" or "now unplug". Raises ValueError."""
        text = _checked(line)
        fd = os.open(self.directory / "script", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def overrun(self, frames: int) -> None:
        """Lose exactly `frames` now, with EPIPE."""
        self.tell(f"now overrun {frames}")

    def suspend(self, frames: int) -> None:
        """Lose exactly `frames` now, with ESTRPIPE."""
        self.tell(f"now suspend {frames}")

    def unplug(self, frames: int | None = None) -> None:
        """Take the microphone away now, for `frames` or until `replug`."""
        self.tell(f"now unplug {frames or ''}")

    def replug(self) -> None:
        """Bring the microphone back."""
        self.tell("now replug")

    def freeze(self, frames: int | None = None) -> None:
        """Deliver nothing and report nothing from now on, for `frames` or until `thaw`."""
        self.tell(f"now freeze {frames or ''}")

    def thaw(self) -> None:
        """End a freeze; what was played meanwhile is lost silently."""
        self.tell("now thaw")

    def silence(self, frames: int | None = None) -> None:
        """Deliver digital zeros from now on, for `frames` or until `sound`."""
        self.tell(f"now zeros {frames or ''}")

    def sound(self) -> None:
        """End a silence."""
        self.tell("now sound")

    def history(self) -> list[Happening]:
        """What really happened so far, oldest first."""
        journal = self.directory / "journal"
        return [_happening(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    def clock(self) -> RoomClock:
        """A `hw.clock.Clock` that keeps this room's time, so that ten hours at speed 0 last ten hours."""
        return RoomClock(self.directory / "state", self.speed)


def _listed(numbers: Sequence[int]) -> str:
    return f"[ {' '.join(str(number) for number in numbers)} ]"


class RoomClock:
    """The time of a simulated room: real time multiplied by its speed, or made of the frames read when it waits.

    Unaffected by the card's drift, as the machine's clock is. Counts as synchronised.
    """

    _HEAD = struct.Struct("@6Iqddddd")
    _WALL_NS = 1_700_000_000 * NS_PER_S
    MONOTONIC_NS = 1000 * NS_PER_S
    """What its monotonic time is when the room's clock begins."""

    def __init__(self, state: Path, speed: float) -> None:
        self._path = state
        self._speed = speed
        self._map: mmap.mmap | None = None
        self._latest = 0

    @property
    def boot(self) -> str:
        return "51" * 16

    def wall_ns(self) -> int:
        return self._WALL_NS + self._room_ns()

    def monotonic_ns(self) -> Nanoseconds:
        return Nanoseconds(self.MONOTONIC_NS + self._room_ns())

    def synchronised(self) -> bool:
        return True

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Pause for `seconds` of the room; of real time when the room waits for its reader."""
        return event.wait(seconds / self._speed if self._speed > 0 else seconds)

    def _room_ns(self) -> int:
        if self._map is None:
            try:
                with self._path.open("rb") as file:
                    self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            except (FileNotFoundError, ValueError):
                return 0
        while True:
            _, before, started, _, _, _, base_ns, _, base_time, speed, _, latest = self._HEAD.unpack_from(self._map)
            if before % 2 == 0 and self._HEAD.unpack_from(self._map)[1] == before:
                break
        if not started:
            return 0
        # Two threads may ask at once; the clock must not seem to step back by a rounding error.
        now = min(base_time + (time.monotonic_ns() - base_ns) * speed, latest)
        self._latest = max(self._latest, round(now))
        return self._latest
