"""Threads that live as long as the process, and end it when one of them dies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Crew:
    """Starts threads; the first that ends before it was asked to takes the whole process down."""

    def __init__(self, stop: threading.Event) -> None:
        """`stop` asks everybody to end. It is set when somebody dies."""
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self.casualty: str | None = None
        """The name of the thread that died, or None."""

    def start(self, name: str, run: Callable[[], None]) -> None:
        """Run `run` in a thread of that name."""
        # Daemons: an upload that waits for its answer can't be interrupted, and needn't be.
        thread = threading.Thread(target=self._watch, args=(name, run), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self, seconds: float) -> None:
        """Wait for everybody, `seconds` in all; who isn't back then is left behind."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _watch(self, name: str, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception:
            log.exception("%s died", name)
        if not self._stop.is_set():
            self.casualty = name
            self._stop.set()
