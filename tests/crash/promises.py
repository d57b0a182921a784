"""What the program under test has promised to survive a power cut, and the sound it was given.

A promise is made when the step that makes it has returned: it is noted by a wrapper round the real step, in a file
that lies on another card. The sound of each segment is kept beside it, as it was handed to the encoder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as with_changes
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agent.ledger import Segment
from agent.ledger.database import Database
from agent.recorder import erasing
from agent.recorder.erasing import Erasure
from agent.recorder.segment import SegmentWriter
from agent.units import NS_PER_S
from tests.crash.steps import Step, replace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sound = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Promises:
    """Everything promised so far."""

    head: tuple[int, str] = (0, "")
    """Number and hash of the newest entry of the journal whose commit has returned."""
    synced: tuple[tuple[str, int], ...] = ()
    """Segments and the frames of them that were synced."""
    sealed: tuple[tuple[str, str], ...] = ()
    """Segments that were sealed, and their SHA-256."""
    ordered: tuple[str, ...] = ()
    """Orders to erase that are durable."""
    fulfilled: tuple[str, ...] = ()
    """Orders of which nothing is left to do."""

    def with_note(self, text: str) -> Promises:
        """These and the one that `text` makes."""
        kind, *values = json.loads(text)
        if kind == "committed":
            return with_changes(self, head=(values[0], values[1]))
        if kind == "ordered":
            return with_changes(self, ordered=(*self.ordered, values[0]))
        if kind == "fulfilled":
            return with_changes(self, fulfilled=(*self.fulfilled, values[0]))
        name, value = values
        if kind == "synced":
            return with_changes(self, synced=tuple(sorted((dict(self.synced) | {name: value}).items())))
        return with_changes(self, sealed=(*self.sealed, (name, value)))

    @classmethod
    def read(cls, notes: Path) -> Promises:
        """All that a file of notes holds."""
        promises = cls()
        for line in notes.read_text().splitlines():
            promises = promises.with_note(line)
        return promises


def notes_in(place: Path) -> Path:
    """The file of promises in a directory of notes."""
    return place / "promises"


def sound_in(place: Path, name: str) -> Sound:
    """What the encoder of a segment was given; mono."""
    return np.fromfile(place / f"{name}.pcm", np.int16)


class Notary:
    """Stands beside the real steps and notes what they promised when they return."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._notes = os.open(notes_in(place), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def attend(self) -> None:
        """Wrap the steps. For the rest of this process."""
        self._attend_segments()
        self._attend_ledger()
        self._attend_erasing()

    def _note(self, *values: object) -> None:
        os.write(self._notes, f"{json.dumps(values)}\n".encode())

    def _attend_segments(self) -> None:
        def heard(write: Step) -> Step:
            def kept(writer: SegmentWriter, pcm: bytes | memoryview) -> None:
                with (self._place / f"{writer.header.name}.pcm").open("ab") as file:
                    file.write(pcm)
                write(writer, pcm)

            return kept

        def synced(sync: Step) -> Step:
            def noted(writer: SegmentWriter) -> bool:
                done = bool(sync(writer))
                header = writer.header
                frames = round((writer.durable_end_ns - header.begin_ns) * header.rate / NS_PER_S)
                if frames:
                    self._note("synced", str(header.name), frames)
                return done

            return noted

        def sealed(seal: Step) -> Step:
            def noted(writer: SegmentWriter, *, end_ns: int) -> Segment:
                segment: Segment = seal(writer, end_ns=end_ns)
                self._note("sealed", str(segment.name), segment.sha256)
                return segment

            return noted

        replace(SegmentWriter, "write", heard)
        replace(SegmentWriter, "sync", synced)
        replace(SegmentWriter, "seal", sealed)

    def _attend_ledger(self) -> None:
        def committed(transaction: Step) -> Step:
            @contextmanager
            def noted(database: Database) -> Iterator[None]:
                connection = database.connection
                outermost = not connection.in_transaction
                with transaction(database):
                    yield
                if outermost:
                    seq, digest = connection.execute("SELECT seq, hash FROM journal ORDER BY seq DESC").fetchone()
                    self._note("committed", seq, digest.hex())

            return noted

        replace(Database, "transaction", committed)

    def _attend_erasing(self) -> None:
        def noting(kind: str) -> Callable[[Step], Step]:
            def attended(step: Step) -> Step:
                def noted(root: Path, erasure: Erasure) -> None:
                    step(root, erasure)
                    self._note(kind, erasure.id)

                return noted

            return attended

        replace(erasing, "order", noting("ordered"))
        replace(erasing, "fulfilled", noting("fulfilled"))
