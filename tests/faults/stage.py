"""Plays many faults side by side, each with a kiosk of its own, so that their outages pass at the same time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tests.servers import S3Store

if TYPE_CHECKING:
    import pytest

_AT_ONCE = 6
"""Faults in fast time that a small machine plays together; those in real time mostly wait."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What one play stands on."""

    directory: Path
    """Its own; the name is the kiosk's."""
    store: S3Store
    source: NDArray[np.int16]
    """What is played in the room, over and over."""


T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Playable(Protocol[T_co]):
    """One row of a table of faults."""

    @property
    def speed(self) -> float:
        """Of the room's time."""

    def live_through(self, ground: Ground) -> T_co:
        """Play it to its end; what came of it."""


Outcomes = Mapping[Playable[Any], Future[Any]]


@contextmanager
def side_by_side(
    faults: list[Playable[Any]], store: S3Store, source: NDArray[np.int16], root: Path
) -> Iterator[Outcomes]:
    """Play all of them in threads; what came of each, as soon as it is over."""
    numbers = itertools.count(1)

    def play(fault: Playable[Any]) -> Any:  # noqa: ANN401 (whatever it is, its own test knows)
        directory = root / f"room-{next(numbers)}"
        directory.mkdir()
        return fault.live_through(Ground(directory, store, source))

    with ThreadPoolExecutor(max(1, len(faults))) as wide, ThreadPoolExecutor(_AT_ONCE) as narrow:
        outcomes = {fault: (narrow if fault.speed > 1 else wide).submit(play, fault) for fault in faults}
        try:
            yield outcomes
        finally:
            for outcome in outcomes.values():
                outcome.cancel()


def chosen(session: pytest.Session) -> list[Playable[Any]]:
    """The faults whose tests are going to run."""
    items = [item for item in session.items if not any(item.iter_markers("skip"))]
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return [value for each in parameters for value in each.values() if isinstance(value, Playable)]
