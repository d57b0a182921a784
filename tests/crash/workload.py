"""A recorder's life in a few seconds: the real writer, ledger, retention and recovery, one thread, the test's clock.

    python -m tests.crash.workload record ROOT NOTES [PLANT]    a room is recorded, from the very first start on
    python -m tests.crash.workload erase ROOT NOTES [PLANT]     what was recorded is erased, twice
    python -m tests.crash.workload recover ROOT NOTES           a recorder starts on what a power cut left

NOTES is a directory on another card (tests.crash.promises).
"""

from __future__ import annotations

import random
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from agent.ledger import Ledger
from agent.recorder import erasing
from agent.recorder.root import Root
from agent.settings import Seal, Settings
from agent.units import NS_PER_S, Size
from tests.clocks import FakeClock
from tests.crash.plants import ERASING, LEAKS, PLANTS
from tests.crash.promises import Notary
from tests.keys import PUBLIC
from tests.recorder.room import RATE, WriterRoom, settings

SEGMENT_S: Final = 5

_ENCRYPTED: Final = "encrypted"

CAP_SEGMENTS: Final = 2.2
"""Times the most that one segment can take: room for two and the one being written, and little more."""


def crash_settings(root: Path, when_full: str = "drop-oldest", *, encrypted: bool = False) -> Settings:
    """A spool so small that it is soon full."""
    chosen = _small(root, when_full)
    return replace(chosen, seal=Seal(recipients=(PUBLIC,))) if encrypted else chosen


def encrypt(notes: Path) -> None:
    """Have the programs that keep their notes there encrypt what they record."""
    (notes / _ENCRYPTED).touch()


def is_encrypted(notes: Path) -> bool:
    """Whether `encrypt` was called."""
    return (notes / _ENCRYPTED).exists()


def _small(root: Path, when_full: str) -> Settings:
    cap = Size(int(CAP_SEGMENTS * settings(root, segment_seconds=SEGMENT_S).segment_reserve_bytes))
    return settings(
        root,
        sync_seconds=0.5,
        segment_seconds=SEGMENT_S,
        cap=cap,
        quarantine_cap=Size(90_000),
        when_full=when_full,
    )


def record(root: Path, *, encrypted: bool) -> None:
    """Everything that a recorder does to its card, at least once."""
    clock = FakeClock()
    room = WriterRoom(crash_settings(root, encrypted=encrypted), clock)
    with Ledger(room.layout.ledger, clock) as courier:
        _hear(room, 6.4)
        _overrun(room, clock)
        _hear(room, 1.3)
        _overrun(room, clock)
        _hear(room, 3.2)
        _acknowledge(courier, 1)
        _hear(room, 18)
        _find_damage(courier)
        _hear(room, 10)
        _find_damage(courier)
        _hear(room, 4)
    # The process is killed in the midst of a segment, and started again.
    room.ledger.close()
    clock.advance(3)
    room = WriterRoom(room.settings, clock)
    with Ledger(room.layout.ledger, clock) as courier:
        _hear(room, 6)
        _acknowledge(courier, 2)
        _hear(room, 7.7)
    room.end()

    clock.reboot("c" * 32, off_s=60)
    room = WriterRoom(crash_settings(root, when_full="stop", encrypted=encrypted), clock)
    with Ledger(room.layout.ledger, clock) as courier:
        _hear(room, 12)
        _acknowledge(courier, 3)
        _hear(room, 8.5)
    room.end()


def erase(root: Path, *, encrypted: bool) -> None:
    """Two orders: one is carried out at once, the other after a kill; each is about what is being written, too."""
    clock = FakeClock()
    room = WriterRoom(crash_settings(root, encrypted=encrypted), clock)
    with Ledger(room.layout.ledger, clock) as courier:
        _hear(room, 7)
        _acknowledge(courier, 1)
    eraser = Eraser(room)
    eraser.order(1, 4)
    _hear(room, 2)
    eraser.step()
    _hear(room, 3)
    eraser.order(2, 2)
    room.ledger.close()
    clock.advance(3)
    room = WriterRoom(room.settings, clock)
    _hear(room, 2)
    Eraser(room).step()
    _hear(room, 2)
    room.end()


class Eraser:
    """What carries orders out between the turns of a writer."""

    def __init__(self, room: WriterRoom) -> None:
        room.vitals.boot = room.ledger.boots()[-1]
        self._room = room
        self._root = Root(room.settings, room.layout, room.ledger, room.retention)
        self._erasures = erasing.Erasures(room.layout.root, room.layout.root / "memory", lambda: None)

    def order(self, number: int, seconds: float) -> None:
        """To erase what was heard in the last `seconds`."""
        now_ns = self._room.ledger.now_ns()
        order = erasing.Erasure(f"{number:016x}", now_ns - round(seconds * NS_PER_S), now_ns, "")
        erasing.order(self._room.layout.root, order)

    def step(self) -> None:
        """All that is ordered and can be done."""
        self._erasures.step(self._root, self._room.writer)


def recover(root: Path, *, encrypted: bool) -> None:
    """Recovery, and the first seconds of what comes after it."""
    clock = FakeClock(boot="d" * 32, wall_s=1_800_010_000)
    room = WriterRoom(crash_settings(root, encrypted=encrypted), clock)
    _hear(room, 6)
    room.end()


def _hear(room: WriterRoom, seconds: float) -> None:
    """Noise that never repeats and that FLAC can't shrink: a segment then takes what was reserved for it."""
    generator = np.random.default_rng(room.clock.monotonic_ns())
    room.hear(generator.integers(-(1 << 15), 1 << 15, (round(seconds * RATE), 1), np.int16))


def _overrun(room: WriterRoom, clock: FakeClock) -> None:
    room.ring.interrupt("overrun", clock.monotonic_ns())
    clock.advance(0.7)


def _acknowledge(courier: Ledger, count: int) -> None:
    """As the courier does it: the key before the upload, the acknowledgement after it."""
    for segment in list(courier.kept("pending", limit=count)):
        courier.fix_key(segment.name, f"north/room-1/{segment.name}.flac", "synchronised")
        courier.acknowledge(segment.name, "stored")


def _find_damage(courier: Ledger) -> None:
    """As the courier does it when a file isn't what was sealed."""
    (segment,) = courier.kept("pending", limit=1)
    courier.settle(segment.name, "damaged", "hash differs")


def main(command: str, root: str, notes: str, *plants: str) -> None:
    """Run one of the programs."""
    # The same life every time: a run is named by chance.
    chance = random.Random(command)
    secrets.token_hex = lambda nbytes=None: chance.randbytes(nbytes or 32).hex()
    Notary(Path(notes)).attend()
    for plant in plants:
        (PLANTS | ERASING | LEAKS)[plant]()
    {"record": record, "erase": erase, "recover": recover}[command](Path(root), encrypted=is_encrypted(Path(notes)))


if __name__ == "__main__":
    main(*sys.argv[1:])
