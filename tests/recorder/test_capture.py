"""The capture thread's states, with a microphone that does what the test says."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from agent.errors import KioskError
from agent.recorder.capture import RETRY_S, Capture, Withheld
from agent.recorder.drift import Drift
from agent.recorder.ring import Break, Ring
from agent.recorder.vitals import Vitals
from agent.units import NS_PER_S, Frames, Nanoseconds
from hw.alsa import Block, FormatNotGranted, Microphone, MicrophoneGone, Overrun
from tests.clocks import FakeClock

RATE = 8000

Heard = Block | Overrun | MicrophoneGone | None


class ScriptedMicrophone:
    """Gives what it was told to, then fails as an unplugged one does."""

    def __init__(self, clock: FakeClock, heard: Iterator[Heard]) -> None:
        self._clock = clock
        self._heard = heard
        self.closed = False

    def read(self, timeout_s: float) -> Block | Overrun | None:
        heard = next(self._heard, MicrophoneGone("read", cause="No such device", retryable=True))
        if heard is None:
            self._clock.advance(timeout_s)
        if isinstance(heard, MicrophoneGone):
            raise heard
        return heard

    def close(self) -> None:
        self.closed = True


class Room:
    """A capture thread without its thread."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.vitals = Vitals()
        self.ring = Ring(30 * RATE)
        self.plugged: list[ScriptedMicrophone | Exception] = []
        """What each opening finds."""
        self.opened_ns: list[int] = []
        self.withheld: Callable[[], Withheld | None] = lambda: None
        self.waited_ns: list[int] = []
        """When it said that nothing is heard."""
        self.capture = Capture(
            self._open,
            self.ring,
            self.clock,
            threading.Event(),
            self.vitals,
            self._withheld,
            Drift(RATE),
            lambda: self.waited_ns.append(self.clock.monotonic_ns()),
        )

    def microphone(self, *heard: Heard) -> ScriptedMicrophone:
        return ScriptedMicrophone(self.clock, iter(heard))

    def block(self) -> Block:
        self.clock.advance(0.5)
        return Block(bytes(RATE), Frames(RATE // 2), Nanoseconds(self.clock.monotonic_ns()))

    def _withheld(self) -> Withheld | None:
        return self.withheld()

    def _open(self) -> Microphone:
        self.opened_ns.append(self.clock.monotonic_ns())
        found = self.plugged.pop(0)
        if isinstance(found, Exception):
            raise found
        return cast("Microphone", found)


@pytest.fixture
def room() -> Room:
    return Room()


def gone() -> MicrophoneGone:
    return MicrophoneGone("open", cause="no such card", retryable=True)


def refused() -> FormatNotGranted:
    return FormatNotGranted("open", cause="asked for 8000 Hz; the card grants 48000 Hz")


def test_a_microphone_that_opens_but_cannot_be_read_is_tried_about_once_a_second(room: Room) -> None:
    room.plugged = [room.microphone() for _ in range(10)]
    while room.plugged:
        room.capture.step()
    pauses = [later - sooner for sooner, later in zip(room.opened_ns[1:], room.opened_ns[2:], strict=False)]
    assert min(pauses) >= RETRY_S * NS_PER_S


def test_a_format_that_is_not_granted_at_the_start_is_fatal(room: Room) -> None:
    room.plugged = [refused()]
    with pytest.raises(FormatNotGranted):
        room.capture.step()


def test_another_microphone_that_lacks_the_format_is_said_once_and_tried_for_ever(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    first = room.microphone(room.block())
    room.plugged = [first, gone(), *(refused() for _ in range(100)), room.microphone(room.block())]
    while len(room.plugged) > 1:
        room.capture.step()
    assert first.closed
    assert room.vitals.microphone == "waiting_for_microphone"
    assert "48000 Hz" in room.vitals.trouble
    assert sum("48000 Hz" in record.message for record in caplog.records) == 1
    room.capture.step()
    room.capture.step()
    assert (room.vitals.microphone, room.vitals.trouble) == ("recording", "")
    breaks = [item.reason for item in room.ring.take(0, 0) or [] if isinstance(item, Break)]
    assert breaks == ["unplugged"]


def test_while_nothing_is_heard_it_says_so_every_second_and_else_never(room: Room) -> None:
    room.plugged = [room.microphone(), *[KioskError("open microphone", retryable=True)] * 3]
    for _ in range(2):
        room.capture.step()
    assert room.waited_ns == []
    room.withheld = lambda: "schedule"
    for _ in range(3):
        room.capture.step()
    room.withheld = lambda: None
    for _ in range(3):
        room.capture.step()
    seconds = [round((after - before) / 1e9, 3) for before, after in itertools.pairwise(room.waited_ns)]
    assert seconds == [1.0] * 4


def test_what_is_heard_while_quiet_is_asked_for_is_not_kept_and_the_microphone_is_closed(room: Room) -> None:
    microphone = room.microphone(room.block(), room.block())
    room.plugged = [microphone]
    room.capture.step()
    room.capture.step()
    heard = len(room.ring.take(0, 0) or [])
    assert heard == 1
    answers: list[Withheld | None] = [None, "muted"]
    room.withheld = lambda: answers.pop(0) if answers else "muted"
    room.capture.step()
    assert room.ring.take(0, 0) == []
    room.capture.step()
    assert microphone.closed
    assert room.vitals.microphone == "muted"
    room.withheld = lambda: "schedule"
    room.capture.step()
    assert [item.reason for item in room.ring.take(0, 0) or [] if isinstance(item, Break)] == ["muted", "schedule"]
