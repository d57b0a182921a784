"""The microphone: one ALSA capture PCM, read without ever hanging. The only module that imports alsaaudio.

The PCM is opened non-blocking and waited for with poll(2) together with an eventfd: a blocking read would sit in the
kernel for up to 10 s when a card freezes, and couldn't be woken to stop. pyalsaaudio's habits this relies on (0.11):

- `read()` returns at most one period; `(0, b"")` when nothing is there; on overrun `(-EPIPE, b"")`, and it has
  already prepared the stream again, so the next `read()` starts it. The first `read()` starts a new stream.
- A suspended stream raises; `drop()` brings it to a state from which `read()` prepares it anew.
- Errors carry alsa-lib's text, not an errno: it is compared with `os.strerror`, which speaks the same language.
- Each failed open leaks about a hundred bytes, so an absent card is looked for in /proc/asound before it is opened.

Reopening: alsa-lib keeps its configuration tree until one of the files named by ALSA_CONFIG_PATH, or that variable,
changes; it looks on each open. "hw:CARD=KioskMic" is resolved to a card number when it is opened, not when the tree is
read, so a microphone that comes back under another number is found. Names that depend on a card's own configuration
file (sysdefault:, front:) take it from the tree; a card that appeared after the process first opened a PCM can lack it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import select
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import alsaaudio

from agent.errors import KioskError
from agent.units import NS_PER_S, Frames, Nanoseconds
from hw.continuity import Continuity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hw.clock import Clock

_PROC = Path("/proc/asound")
_FORMAT = "S16_LE"
_ROOMY = 4
"""Periods a buffer should have: with fewer, being late by half a buffer already loses frames."""

_PLUGGED_IN = "is the microphone plugged in? `kiosk-recorder mics` lists what there is"

_PATIENCE = 2
_NAP_MS = 10
"""A driver that says ready with nothing to read is forgiven twice in a row, then slowed down: no busy loop."""

_PROMPT_NS = 10_000_000
_LOOKS = 3
"""What waits in the device and the time belong together; a thread that was held up in between looks again."""

_ERRNO_OF_TEXT = {os.strerror(number): number for number in errno.errorcode}
_POLL_TROUBLE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class MicrophoneError(KioskError):
    """The microphone can't be opened or read; `retryable` says whether it is worth going on trying."""


class NoSuchPcm(MicrophoneError):
    """alsa-lib's configuration knows no PCM of this name. Permanent."""


class FormatNotGranted(MicrophoneError):
    """The card doesn't have the rate, channels or format that were asked for. Permanent."""


class MicrophoneDenied(MicrophoneError):
    """The user may not open the sound device. Permanent."""


class MicrophoneGone(MicrophoneError):
    """The card is absent, was unplugged or stopped answering. Opening it again can succeed."""


class MicrophoneBusy(MicrophoneError):
    """Another program holds the card. Opening it again can succeed."""


@dataclass(frozen=True, slots=True)
class Block:
    """What one read gave."""

    pcm: bytes
    """Interleaved S16_LE."""
    frames: Frames
    ended_ns: Nanoseconds
    """When the last frame was heard, on the clock's monotonic time: now, less what still waits in the device, or
    earlier if the blocks before say so."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """The stream broke: frames are missing between the blocks before and after. How many, only their times tell."""

    noticed_ns: Nanoseconds
    cause: Literal["overrun", "suspended", "stalled"]
    """`stalled`: no driver said so, but what came next was heard too late to follow (hw.continuity)."""


@dataclass(frozen=True, slots=True)
class Capturing:
    """A capture device of a sound card, as `kiosk-recorder mics` lists it."""

    pcm: str
    """The stable name: "hw:CARD=KioskMic", with ",DEV=1" for a second device."""
    card: str
    device: str


def microphones(proc: Path = _PROC) -> list[Capturing]:
    """The capture devices of this machine's sound cards; [] without any. `proc` is /proc/asound."""
    try:
        devices = (proc / "pcm").read_text(errors="replace").splitlines()
        cards = (proc / "cards").read_text(errors="replace")
    except OSError:
        return []
    names = {int(number): name.strip() for number, name in re.findall(r"^ *(\d+) \[.*?\]: (.*)$", cards, re.MULTILINE)}
    found = []
    for line in devices:
        match = re.match(r"(\d+)-(\d+): (.*)", line)
        if match is None or not re.search(r": capture \d+", line):
            continue
        number, device = int(match[1]), int(match[2])
        with contextlib.suppress(OSError):
            card_id = (proc / f"card{number}" / "id").read_text().strip()
            suffix = f",DEV={device}" if device else ""
            title = match[3].split(" : ")[0].strip()
            found.append(Capturing(f"hw:CARD={card_id}{suffix}", names.get(number, ""), title))
    return found


def card_is_absent(pcm: str, proc: Path = _PROC) -> bool:
    """Whether `pcm` names a card that isn't there, as far as can be told without opening it."""
    match = re.fullmatch(r"(?:plug)?hw:(?:CARD=)?([^,=]+)(?:,.*)?", pcm)
    # Containers can hide /proc/asound although the sound devices are there: then only opening tells.
    if match is None or not (proc / "version").exists():
        return False
    card = f"card{match[1]}" if match[1].isdigit() else match[1]
    return not (proc / card).exists()


class Microphone:
    """An open capture PCM of interleaved S16_LE frames. One thread reads and closes; any may wake it."""

    def __init__(
        self, pcm: str, rate: int, channels: int, *, clock: Clock, period_s: float = 0.2, buffer_s: float = 2.0
    ) -> None:
        """Open `pcm`, with wake-ups every `period_s` and room for `buffer_s`, or what the card has nearest to that.

        Raises NoSuchPcm, FormatNotGranted, MicrophoneDenied (permanent), MicrophoneGone, MicrophoneBusy (retryable).
        """
        self.pcm = pcm
        self.rate = rate
        self.channels = channels
        self._clock = clock
        self._batch = round(rate * period_s)
        """Frames a block aims at, should the card only grant shorter periods."""
        if card_is_absent(pcm):
            raise MicrophoneGone("open microphone", place=pcm, cause="no such card", hint=_PLUGGED_IN, retryable=True)
        wanted = (self._batch, round(buffer_s / period_s))
        self._device, granted = self._open(*wanted)
        if granted["buffer_size"] < _ROOMY * granted["period_size"]:
            self._device.close()
            self._device, granted = self._open(max(1, granted["buffer_size"] // _ROOMY), _ROOMY)
        self.period_frames = Frames(granted["period_size"])
        self.buffer_frames = Frames(granted["buffer_size"])
        try:
            self._check(granted)
        except FormatNotGranted:
            self._device.close()
            raise
        self._streaming = False
        self._continuity = Continuity(rate, round(period_s * NS_PER_S))
        self._late: Block | None = None
        """Heard after a hole that has just been told."""
        self._failure: MicrophoneError | None = None
        """Came while there still were frames to give."""
        self._broke: Overrun | None = None
        self._fruitless = 0
        self._closing = threading.Lock()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._woken = select.poll()
        self._woken.register(self._wake, select.POLLIN)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        for fd, events in self._device.polldescriptors():
            self._poll.register(fd, events)

    def read(self, timeout_s: float) -> Block | Overrun | None:
        """The next frames, about a period of them; None if none came within `timeout_s` (real time) or on `wake`.

        The first read starts the stream. Raises MicrophoneGone when the device has vanished or failed.
        """
        if (owed := self._owed()) is not None:
            return owed
        deadline = time.monotonic() + timeout_s
        if not self._streaming:
            self._streaming = True
            if (result := self._take()) is not None:
                return result
        while (events := self._wait(deadline)) is not None:
            if events and (result := self._take()) is not None:
                self._fruitless = 0
                return result
            self._fruitless += 1
            if events & _POLL_TROUBLE and self._fruitless > 1:
                cause = "the device reports an error"
                raise MicrophoneGone("read from microphone", place=self.pcm, cause=cause, retryable=True)
            if self._fruitless > _PATIENCE:
                self._woken.poll(_NAP_MS)
        return None

    def wake(self) -> None:
        """Make a waiting read, or else the next one, return None at once. For any thread; harmless after `close`."""
        with self._closing:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give the device back. Only by the reading thread; harmless when repeated."""
        with self._closing:
            if self._wake < 0:
                return
            os.close(self._wake)
            self._wake = -1
        self._device.close()

    def _open(self, period: int, periods: int) -> tuple[alsaaudio.PCM, dict[str, Any]]:
        with _diagnostics() as said:
            try:
                device = alsaaudio.PCM(
                    type=alsaaudio.PCM_CAPTURE,
                    mode=alsaaudio.PCM_NONBLOCK,
                    device=self.pcm,
                    rate=self.rate,
                    channels=self.channels,
                    format=alsaaudio.PCM_FORMAT_S16_LE,
                    periodsize=period,
                    periods=periods,
                )
                return device, device.info()
            except alsaaudio.ALSAAudioError as error:
                raise _translated(error, self.pcm, "open microphone", said) from error

    def _check(self, granted: dict[str, Any]) -> None:
        """alsa-lib grants something else without a word where the card lacks what was asked."""
        has = (granted["rate"], granted["channels"], granted["format_name"])
        if has != (self.rate, self.channels, _FORMAT):
            hints = []
            if has[0] != self.rate:
                hints.append(f"set capture.rate = {has[0]}")
            if has[1] != self.channels:
                hints.append(f"set capture.channels = {has[1]}")
            if self.pcm.startswith("hw:"):
                hints.append(f'let alsa-lib convert: capture.pcm = "plug{self.pcm}"')
            asked = f"{self.rate} Hz × {self.channels}, {_FORMAT}"
            raise FormatNotGranted(
                "open microphone",
                place=self.pcm,
                cause=f"asked for {asked}; the card grants {has[0]} Hz × {has[1]}, {has[2]}",
                hint=", or ".join(hints),
            )
        if self.buffer_frames < 2 * self.period_frames:
            raise FormatNotGranted(
                "open microphone",
                place=self.pcm,
                cause=f"the card grants a buffer of {self.buffer_frames} frames in periods of {self.period_frames}: too"
                " little to record without loss",
            )

    def _wait(self, deadline: float) -> int | None:
        """Wait for frames: the device's poll events, maybe none of use; None at the deadline or on `wake`."""
        left_s = deadline - time.monotonic()
        ready = self._poll.poll(left_s * 1000) if left_s > 0 else []
        if not ready:
            return None
        if any(fd == self._wake for fd, _ in ready):
            os.eventfd_read(self._wake)
            return None
        try:
            events: int = self._device.polldescriptors_revents(ready)
        except alsaaudio.ALSAAudioError as error:
            raise _translated(error, self.pcm, "read from microphone") from error
        return events

    def _take(self) -> Block | Overrun | None:
        """What is there now, up to about `_batch` frames."""
        parts: list[bytes] = []
        total = 0
        while total < self._batch and self._broke is None:
            try:
                frames, pcm = self._read_device()
            except MicrophoneError as error:
                if not parts:
                    raise
                self._failure = error
                break
            if frames <= 0:
                break
            parts.append(pcm)
            total += frames
            if frames < self.period_frames:
                break
        if total == 0:
            return self._breakage()
        return self._placed(parts[0] if len(parts) == 1 else b"".join(parts), Frames(total))

    def _placed(self, pcm: bytes, frames: Frames) -> Block | Overrun:
        """The block with its time, or, when it doesn't follow the one before, first the news of that."""
        for _ in range(_LOOKS):
            before_ns = self._clock.monotonic_ns()
            waiting = self._device.avail()
            after_ns = self._clock.monotonic_ns()
            if after_ns - before_ns <= _PROMPT_NS:
                break
        # A stream that has just ended doesn't say what waits: then nothing does.
        waiting_ns = max(0, waiting) * NS_PER_S // self.rate
        earliest_ns = before_ns - waiting_ns if waiting >= 0 else None
        ended_ns, whole = self._continuity.heard(frames, earliest_ns, after_ns - waiting_ns)
        block = Block(pcm, frames, ended_ns)
        if whole:
            return block
        self._late = block
        return Overrun(Nanoseconds(after_ns), "stalled")

    def _owed(self) -> Block | Overrun | None:
        """What an earlier read found besides what it gave. Raises its MicrophoneGone."""
        if self._late is not None:
            late, self._late = self._late, None
            return late
        if self._failure is not None:
            raise self._failure
        return self._breakage()

    def _breakage(self) -> Overrun | None:
        broke, self._broke = self._broke, None
        return broke

    def _read_device(self) -> tuple[int, bytes]:
        try:
            frames, pcm = self._device.read()
            if frames == -errno.EPIPE:
                self._interrupted("overrun")
            return frames, pcm
        except alsaaudio.ALSAAudioError as error:
            if _errno(error, self.pcm) != errno.ESTRPIPE:
                raise _translated(error, self.pcm, "read from microphone") from error
        try:
            self._device.drop()
        except alsaaudio.ALSAAudioError as error:
            raise _translated(error, self.pcm, "resume microphone") from error
        self._interrupted("suspended")
        return 0, b""

    def _interrupted(self, cause: Literal["overrun", "suspended"]) -> None:
        self._streaming = False
        self._continuity.broken()
        self._broke = Overrun(self._clock.monotonic_ns(), cause)


def _errno(error: alsaaudio.ALSAAudioError, pcm: str) -> int:
    return _ERRNO_OF_TEXT.get(str(error).removesuffix(f" [{pcm}]"), 0)


def _translated(
    error: alsaaudio.ALSAAudioError, pcm: str, operation: str, said: list[str] | None = None
) -> MicrophoneError:
    cause = str(error).removesuffix(f" [{pcm}]")
    number = _errno(error, pcm)
    unknown = said is not None and any(line.startswith("Unknown PCM") for line in said)
    if unknown and not any("card" in line for line in said or ()):
        found = ", ".join(microphone.pcm for microphone in microphones()) or "none now"
        return NoSuchPcm(
            operation,
            place=pcm,
            cause="ALSA knows no such PCM",
            hint=f"`kiosk-recorder mics` lists the microphones (found: {found})",
        )
    if number == errno.EBUSY:
        return MicrophoneBusy(
            operation,
            place=pcm,
            cause=cause,
            hint="another program is recording from it; `fuser -v /dev/snd/*` says which",
            retryable=True,
        )
    if number in (errno.EACCES, errno.EPERM):
        return MicrophoneDenied(operation, place=pcm, cause=cause, hint="the user must be in the group `audio`")
    if number == errno.EINVAL:
        return FormatNotGranted(operation, place=pcm, cause=cause, hint="the card takes none of the formats asked for")
    return MicrophoneGone(operation, place=pcm, cause=cause, hint=_PLUGGED_IN, retryable=True)


# A variadic function in C: the last parameter is the first of its values, to be looked at only if the pattern has one.
_HANDLER = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
)
_libasound = ctypes.CDLL("libasound.so.2")
_listening = threading.local()


def _keep(_file: bytes, _line: int, _function: bytes, _error: int, pattern: bytes, value: int) -> None:
    said: list[str] | None = getattr(_listening, "said", None)
    if said is not None:
        # From 1.2.15 on alsa-lib fills the values in itself and hands over "%s" with the message.
        text = ctypes.string_at(value) if pattern == b"%s" else pattern
        said.append(text.decode(errors="replace"))


_KEEPER = _HANDLER(_keep)
"""One for the life of the process: alsa-lib 1.2.8 goes on calling it after it was told to forget it, for what the
kernel refuses, such as the closing of a card that was pulled out.
"""


@contextlib.contextmanager
def _diagnostics() -> Iterator[list[str]]:
    """Keep what alsa-lib would print to standard error: its messages, mostly before values are filled in.

    They tell a name that no configuration defines from a card that is absent, where the errno is the same.
    """
    said: list[str] = []
    _listening.said = said
    _libasound.snd_lib_error_set_handler(_KEEPER)
    try:
        yield said
    finally:
        _listening.said = None
        _libasound.snd_lib_error_set_handler(None)
