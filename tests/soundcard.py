"""A sound card for tests: real alsa-lib, played from numbered frames, with scripted faults.

Take the fixture in a conftest.py and make as many rooms as the test needs:

    from tests.soundcard import soundcard  # noqa: F401

    def test_something(soundcard: Soundcard) -> None:
        room = soundcard(numbered(48000), script=["at 20000 overrun 500"])
        microphone = Microphone(room.pcm, 16000, 1, clock=SystemClock())    # in this process
        subprocess.run(["arecord", "-D", room.pcm, ...])                    # or in a child, which inherits it

The fixture sets ALSA_CONFIG_PATH for the test; alsa-lib reads it anew at each open. Keyword arguments are those of
`hw.simulated.SimulatedRoom`. `room.history()` is the truth to compare with.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest

from hw.simulated import SimulatedRoom

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16000


class Soundcard(Protocol):
    """Makes a room and its microphone; the latest one made is the one that is heard."""

    def __call__(
        self, source: Path | NDArray[np.int16], rate: int = RATE, channels: int = 1, **options: object
    ) -> SimulatedRoom: ...


@pytest.fixture
def soundcard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Soundcard:
    """See the module's docstring."""
    numbers = itertools.count(1)

    def make(source: Path | NDArray[np.int16], rate: int = RATE, channels: int = 1, **options: object) -> SimulatedRoom:
        room = SimulatedRoom(tmp_path / f"room-{next(numbers)}", source, rate, channels, **options)  # type: ignore[arg-type]
        for name, value in room.environment.items():
            monkeypatch.setenv(name, value)
        return room

    return make


def numbered(frames: int, channels: int = 1) -> NDArray[np.int16]:
    """Frames that tell their own number (modulo 65536) in each channel, each channel in its own way."""
    number = np.arange(frames, dtype=np.uint32)
    columns = [(number + 7919 * channel).astype(np.uint16).view(np.int16) for channel in range(channels)]
    return np.stack(columns, axis=1)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Poll `condition` until it holds; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.005)


def frames_of(pcm: Iterable[bytes], channels: int = 1) -> NDArray[np.int16]:
    """Interleaved S16_LE as an array of shape (frames, channels)."""
    return np.frombuffer(b"".join(pcm), dtype="<i2").reshape(-1, channels)
