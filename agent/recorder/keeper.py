"""Keeps what is in force: in memory at once, on the card by a thread of its own, which a stuck card may keep."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.recorder import rotation
from agent.recorder.light import Keeping
from agent.recorder.memory import make_own
from agent.recorder.rotation import Rotation
from agent.recorder.standing import Standing, keep
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

_AGAIN_NS: Final = 60 * NS_PER_S
"""How long to leave a card alone that didn't take it."""

_SLOW_NS: Final = 2 * NS_PER_S
"""A card that takes longer is told of as one that doesn't take it, until it has."""


class Keeper:
    """Belongs to the main thread; what `kept` is called from is the keeper's own."""

    def __init__(self, card: Path, memory: Path, clock: Clock, kept: Callable[[], None]) -> None:
        self._card = card
        self._memory = memory
        self._clock = clock
        self._tell = kept
        self._changing = threading.Lock()
        self._wanted: tuple[Standing, Rotation | None] = (Standing(), None)
        self._on_card = 0
        """The generation that is there."""
        self._thread: threading.Thread | None = None
        self._since_ns = 0
        self._tried_ns = 0

    def keep(self, standing: Standing, ordered: Rotation | None = None) -> None:
        """Begin to keep both: what is in force, and who recordings are encrypted to where a command said so."""
        self._since_ns = self._clock.monotonic_ns()
        with self._changing:
            self._wanted = (standing, ordered)
        self._try()

    def note(self, standing: Standing) -> None:
        """Keep in memory alone what the card needn't be told."""
        self._keep_in_memory(standing, None)

    def has(self, standing: Standing) -> bool:
        """Whether a power cut can't undo it."""
        return self._on_card >= standing.generation

    @property
    def keeping(self) -> Keeping:
        """How it stands with the newest."""
        if self.has(self._wanted[0]):
            return "kept"
        slow = self._clock.monotonic_ns() - self._since_ns > _SLOW_NS
        return "failed" if slow or self._thread is None else "under way"

    @property
    def trying(self) -> bool:
        """Whether the card may still take it."""
        return self._thread is not None

    def step(self) -> None:
        """Try again what a card didn't take a while ago."""
        late = self._clock.monotonic_ns() - self._tried_ns > _AGAIN_NS
        if late and self._thread is None and not self.has(self._wanted[0]):
            self._try()

    def _try(self) -> None:
        self._tried_ns = self._clock.monotonic_ns()
        self._keep_in_memory(*self._wanted)
        with self._changing:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="orders", daemon=True)
                self._thread.start()

    def _keep_in_memory(self, standing: Standing, ordered: Rotation | None) -> None:
        try:
            make_own(self._memory)
            self._write(self._memory, standing, ordered, durable=False)
        except OSError as error:
            log.warning("can't keep in memory what was ordered: %s", error)

    def _run(self) -> None:
        while True:
            wanted = self._wanted
            try:
                self._write(self._card, *wanted, durable=True)
            except OSError as error:
                log.warning("can't keep on the card what was ordered: %s", error)
            else:
                self._on_card = wanted[0].generation
            with self._changing:
                if self._wanted is wanted:
                    self._thread = None
                    break
        self._tell()

    @staticmethod
    def _write(directory: Path, standing: Standing, ordered: Rotation | None, *, durable: bool) -> None:
        """Raises OSError."""
        if ordered is not None:
            rotation.keep(directory, ordered, durable=durable)
        keep(directory, standing, durable=durable)
