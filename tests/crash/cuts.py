"""Every power cut during one life: after each operation, everything that may have arrived by then.

Few things on their way: every subset of them. Many: none, all, names without data, data without names. Besides, in
either case, subsets drawn by a seeded generator, with pages torn at sectors.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.crash.card import Card, Fill, State
from tests.crash.operations import Enter, Note, Operation
from tests.crash.promises import Promises

_EXHAUSTIVE_UNITS: Final = 3
_FILLS: Final[tuple[Fill, ...]] = ("short", "zeros", "junk")


@dataclass(frozen=True, slots=True)
class Life:
    """What a program did to a card, what it promised meanwhile, and what the card and the promises were before."""

    operations: Sequence[Operation]
    notes: Path
    """Where the sounds lie that were recorded, in this life and before."""
    before: State = field(default_factory=lambda: State({}))
    promised: Promises = field(default_factory=Promises)


@dataclass(frozen=True, slots=True)
class Cut:
    """One power cut."""

    after: int
    """Operations that had been done."""
    promises: Promises
    state: State


def cuts(life: Life, *, seed: int, draws: int, places: Collection[int] | None = None) -> Iterator[Cut]:
    """The cuts after each operation (of those in `places`): up to `draws` random ones each, besides the fixed ones."""
    card = Card.holding(life.before)
    promises = life.promised
    for place, operation in enumerate(life.operations):
        card.apply(operation)
        if isinstance(operation, Note):
            promises = promises.with_note(operation.text)
        # What a step promised on its return was promised as soon as its last operation was done.
        following = life.operations[place + 1] if place + 1 < len(life.operations) else None
        if isinstance(following, Note) or (places is not None and place not in places):
            continue
        for state in _states(card, random.Random(f"{seed}-{place}"), draws):
            yield Cut(place + 1, promises, state)


def _states(card: Card, draw: random.Random, draws: int) -> Iterator[State]:
    units = card.units()
    everything = frozenset(range(len(units)))
    if len(units) <= _EXHAUSTIVE_UNITS:
        counts = range(len(units) + 1)
        subsets = [frozenset(chosen) for count in counts for chosen in itertools.combinations(everything, count)]
    else:
        names = frozenset(number for number in everything if isinstance(units[number], Enter))
        subsets = [frozenset(), everything, names, everything - names]
    yield from (card.after_cut(kept) for kept in subsets)
    for _ in range(draws if units else 0):
        yield card.after_cut(_drawn(everything, draw), draw.choice(_FILLS), draw)


def _drawn(everything: frozenset[int], draw: random.Random) -> frozenset[int]:
    """All but one, those up to one, or some here and there."""
    match draw.randrange(4):
        case 0:
            return everything - {draw.randrange(len(everything))}
        case 1:
            return frozenset(range(draw.randrange(len(everything) + 1)))
        case _:
            chance = draw.random()
            return frozenset(number for number in everything if draw.random() < chance)
