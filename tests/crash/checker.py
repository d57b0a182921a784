"""Recovery on every cut of a life, on every core.

Recovery runs once for each distinct state; what was promised by then is held against the outcome for each cut.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.crash.card import State
from tests.crash.cuts import Cut, Life, cuts
from tests.crash.judge import Judge, Outcome
from tests.crash.promises import notes_in
from tests.crash.strace import trace
from tests.crash.workload import crash_settings, encrypt, is_encrypted

KIOSK: Final = "kiosk"
"""Where the recorder's root lies on the card."""

_RAM: Final = "/dev/shm"  # noqa: S108 (a state is laid out, looked at and removed within milliseconds)
_CHUNK: Final = 20
_REBUILDS: Final = 8


@dataclass(frozen=True, slots=True)
class Violation:
    """What a cut broke."""

    cut: Cut
    what: tuple[str, ...]

    def __str__(self) -> str:
        return f"cut after operation {self.cut.after}: {'; '.join(self.what)}"


@dataclass(slots=True)
class Findings:
    """What all the cuts of a life, or of several, came to."""

    states: set[bytes] = field(default_factory=set)
    """Digests of the distinct states that recovery ran on."""
    cuts: int = 0
    violations: list[Violation] = field(default_factory=list)
    recovered: dict[tuple[str, int], Cut] = field(default_factory=dict)
    """The first cut of each kind: what recovery said it did, and how many files there were."""

    def add(self, other: Findings) -> None:
        """Put both together."""
        self.states |= other.states
        self.cuts += other.cuts
        self.violations += other.violations
        for (what, _), cut in other.recovered.items():
            self._remember(what, cut)

    def note(self, cut: Cut, digest: bytes, outcome: Outcome) -> None:
        """Enter one cut."""
        self.states.add(digest)
        self.cuts += 1
        self._remember(outcome.recovered, cut)
        broken = tuple(outcome.broken(cut.promises))
        if broken:
            self.violations.append(Violation(cut, broken))

    def _remember(self, what: str, cut: Cut) -> None:
        kind = (what, len(cut.state.files))
        if what and (kind not in self.recovered or cut.after < self.recovered[kind].after):
            self.recovered[kind] = cut

    def __str__(self) -> str:
        told = f"{len(self.states)} distinct states after {self.cuts} cuts, {len(self.violations)} violations"
        return "\n".join([told, *map(str, self.violations[:10])])


def live(
    program: str,
    place: Path,
    *,
    before: Cut | None = None,
    notes: Path | None = None,
    plant: str = "",
    encrypted: bool = False,
) -> Life:
    """Run a program of tests.crash.workload on a fresh card, or on what a cut left, and trace it.

    One that goes on with `notes` encrypts if the one before did.
    """
    card, own_notes = place / "card", place / "notes"
    card.mkdir(parents=True)
    if notes is None:
        own_notes.mkdir()
        if encrypted:
            encrypt(own_notes)
    else:
        shutil.copytree(notes, own_notes, ignore=shutil.ignore_patterns(notes_in(notes).name))
    if before is not None:
        before.state.lay_out(card)
    command = [sys.executable, "-m", "tests.crash.workload", program, str(card / KIOSK), str(own_notes)]
    operations = trace([*command, plant] if plant else command, card, notes_in(own_notes))
    if before is None:
        return Life(operations, own_notes)
    return Life(operations, own_notes, before.state, before.promises)


def check(life: Life, *, seed: int, draws: int, enough: int = sys.maxsize) -> Findings:
    """Check every cut of a life, or go on until there are `enough` violations."""
    chunks = [range(begin, begin + _CHUNK) for begin in range(0, len(life.operations), _CHUNK)]
    return _share_out(partial(_check_some, seed=seed, draws=draws), chunks, life, enough)


def check_recoveries(life: Life, beginnings: Iterable[Cut], *, seed: int, draws: int) -> Findings:
    """Let recovery begin on what each of these cuts left, and cut the power again all through it."""
    return _share_out(partial(_check_recovery, seed=seed, draws=draws), list(beginnings), life, sys.maxsize)


def _share_out(work: Callable[[Any], Findings], tasks: list[Any], life: Life, enough: int) -> Findings:
    findings = Findings()
    with tempfile.TemporaryDirectory(dir=_RAM, prefix="cuts-") as workplace:
        # Spawned, not forked: a process that has threads, and numpy has, mustn't fork.
        spawning = multiprocessing.get_context("spawn")
        with spawning.Pool(os.cpu_count(), _begin, (life, Path(workplace))) as pool:
            for part in pool.imap_unordered(work, tasks):
                findings.add(part)
                if len(findings.violations) >= enough:
                    break
    return findings


@dataclass(slots=True)
class _Work:
    """What a worker was given for all of its tasks."""

    life: Life
    workplace: Path


_work: list[_Work] = []


def _begin(life: Life, workplace: Path) -> None:
    logging.disable(logging.CRITICAL)
    _work.append(_Work(life, workplace))


def _check_some(places: range, *, seed: int, draws: int) -> Findings:
    (work,) = _work
    checker = Checker(work.life.notes, work.workplace)
    for cut in cuts(work.life, seed=seed, draws=draws, places=places):
        checker.check(cut)
    return checker.findings


def _check_recovery(beginning: Cut, *, seed: int, draws: int) -> Findings:
    (work,) = _work
    with tempfile.TemporaryDirectory(dir=work.workplace) as place:
        life = live("recover", Path(place), before=beginning, notes=work.life.notes)
        checker = Checker(life.notes, work.workplace)
        for cut in cuts(life, seed=seed, draws=draws):
            checker.check(cut)
        return checker.findings


class Checker:
    """Lays states out in a directory and recovers from them."""

    def __init__(self, notes: Path, workplace: Path) -> None:
        self._judge = Judge(notes)
        self._encrypted = is_encrypted(notes)
        self._place = workplace
        self._outcomes: dict[bytes, Outcome] = {}
        self.findings = Findings()

    def check(self, cut: Cut) -> None:
        """Recover from one cut and hold the outcome against what was promised."""
        digest = cut.state.digest()
        if digest not in self._outcomes:
            # A rebuild costs as much as a recovery, and few states differ in what it finds.
            self._outcomes[digest] = self._recover(cut.state, losing_ledger=digest[0] % _REBUILDS == 0)
        self.findings.note(cut, digest, self._outcomes[digest])

    def _recover(self, state: State, *, losing_ledger: bool) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self._place) as top:
            state.lay_out(Path(top))
            chosen = crash_settings(Path(top) / KIOSK, encrypted=self._encrypted)
            return self._judge.judge(chosen, losing_ledger=losing_ledger)
