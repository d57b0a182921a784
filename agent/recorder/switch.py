"""Which path is chosen, as this process knows it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from agent.flags import OFFLINE_RECORDING, Choice, Variant

log = logging.getLogger(__name__)


class Switch:
    """Asked by every thread that wakes up anyway: it costs one `stat` of a file in RAM."""

    def __init__(self, runtime: Path, state: Path) -> None:
        """Raises KioskError when the environment chooses what doesn't exist."""
        self._choice = Choice(runtime, state)
        self._looking = threading.Lock()
        self.variants: Mapping[str, Variant] = self._choice.variants()
        """What was chosen at the last look, by flag."""

    @property
    def direct(self) -> bool:
        """Whether recordings are to go to memory."""
        return self.variants[OFFLINE_RECORDING.name].name == "off"

    def look(self) -> bool:
        """Whether something else is chosen since the last look."""
        with self._looking:
            variants = self._choice.variants()
            if variants == self.variants:
                return False
            self.variants = variants
        log.info("%s", ", ".join(f"{name} is {each.name} ({each.source})" for name, each in variants.items()))
        return True
