"""What the card remembers of the fleet's decision: the newest flag document as it was signed, and what it chose.

    state/flags.json      the signed payload, byte for byte as it came
    state/variants.json   what it chose, for the recorder's next start (agent.flags)

In that order, each replaced as a whole and durable before the next: a crash in between is made good by the next start,
which judges the document anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.contract.signed import LONGEST_BYTES
from agent.errors import KioskError
from agent.flags import keep_variants
from agent.spool import replace_file

log = logging.getLogger(__name__)

FILE_NAME: Final = "flags.json"

PATIENCE_S: Final = 1.0
"""How long a decision waits for the card before it takes effect: a card may be stuck in the kernel for good."""


class FlagMemory:
    """The card is written by a thread that lives only as long as that takes; all else belongs to one thread."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._wanted: tuple[bytes | None, Mapping[str, str]] | None = None
        """What isn't on the card yet."""
        self._writer: threading.Thread | None = None
        self._told = ""

    def payload(self) -> bytes | None:
        """The document as it came; None when there is none. Waits for the card. Raises OSError when it can't be asked.

        What is longer than it may be is cut off: it isn't what was signed.
        """
        try:
            with (self._state / FILE_NAME).open("rb") as file:
                return file.read(LONGEST_BYTES["flags"] + 1)
        except FileNotFoundError:
            if not self._state.is_dir():
                raise
            return None

    def keep(self, payload: bytes | None, variants: Mapping[str, str]) -> None:
        """Replace both; without a payload what was chosen alone. Waits until they are durable, but a moment at most.

        What isn't durable then becomes so as soon as the card lets it, unless something newer takes its place.
        """
        with self._lock:
            self._wanted = payload, variants
        if (writer := self._begin()) is not None:
            writer.join(PATIENCE_S)

    def again(self) -> None:
        """Begin another attempt, if there is something to write and nobody at it."""
        self._begin()

    def _begin(self) -> threading.Thread | None:
        """Whoever writes what is wanted; None when there is nothing to write."""
        with self._lock:
            if self._wanted is not None and self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="flags-card", daemon=True)
                self._writer.start()
            return self._writer

    def _write_all(self) -> None:
        while True:
            with self._lock:
                wanted = self._wanted
                if wanted is None:
                    self._writer = None
                    return
            try:
                self._write(*wanted)
            except OSError as error:
                self._tell(error)
                with self._lock:
                    self._writer = None
                return
            self._told = ""
            with self._lock:
                if self._wanted is wanted:
                    self._wanted = None

    def _write(self, payload: bytes | None, variants: Mapping[str, str]) -> None:
        if payload is not None:
            replace_file(self._state / FILE_NAME, payload, durable=True)
        keep_variants(self._state, variants)

    def _tell(self, error: OSError) -> None:
        cause = error.strerror or str(error)
        level = logging.WARNING if cause != self._told else logging.DEBUG
        hint = "they hold all the same, until the next start; look at the card"
        log.log(level, "%s", KioskError("keep flags", place=str(self._state), cause=cause, hint=hint, retryable=True))
        self._told = cause
