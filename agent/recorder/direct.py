"""The direct path: recordings in memory, by a thread that writes from when it's started until the card goes on.

The same code as on the card, on a RAM root (docs/adr/0007). What cannot be written there either is tried again every
few seconds: there is nowhere else to go.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from agent.errors import KioskError
from agent.recorder.root import Root, open_root
from agent.recorder.succession import CARD_ERRORS, CardFailed, Succession
from agent.recorder.turns import Turns
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.settings import Settings
from agent.spool import InstanceLock, Layout
from hw.clock import Clock

log = logging.getLogger(__name__)


class DirectPath:
    """The spool in memory, and who writes there."""

    def __init__(self, settings: Settings, runtime: Path, clock: Clock, vitals: Vitals, turns: Turns) -> None:
        self._settings = settings.on_direct_path(runtime / "direct")
        self.layout = Layout(self._settings.spool.path)
        self._clock = clock
        self._vitals = vitals
        self._turns = turns

    def recover(self) -> None:
        """An earlier process may have recorded here, and have been killed at it. Raises CARD_ERRORS or KioskError."""
        if self.layout.ledger.exists():
            with self._opened():
                pass

    @contextmanager
    def _opened(self) -> Iterator[Root]:
        self.layout.create()
        with (
            closing(InstanceLock(self.layout, "recorder")),
            open_root(self._settings, self._clock, self._vitals.boot) as root,
        ):
            yield root

    def write(self, substitute: Substitute, succession: Succession) -> Succession:
        """Until asked to leave or the ring is closed; what is left. Raises CardFailed, KioskError or CARD_ERRORS."""
        with self._opened() as root:
            cut = succession.cut
            root.ledger.went_direct(substitute.cause, (cut.name, cut.frames) if cut else None)
            writer = self._turns.writer(root, succession)
            substitute.writes(writer)
            self._turns.take(root, writer)
            return writer.succession()


class Substitute:
    """The direct writer's thread: from when recordings can't or shan't go to the card until they do again."""

    def __init__(
        self,
        direct: DirectPath,
        cause: str,
        succession: Succession,
        rest: Callable[[], bool],
        ended: Callable[[], None],
    ) -> None:
        """`rest` pauses before another attempt; True: there is none, the process is ending. `ended` is called last."""
        self.cause = cause
        self._direct = direct
        self._succession = succession
        self._rest = rest
        self._ended = ended
        self._writer: Writer | None = None
        self._leaving = False
        self._thread = threading.Thread(target=self._run, name="direct", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def leave(self) -> Succession:
        """Have it end at once; what it leaves."""
        self._leaving = True
        writer = self._writer
        if writer is not None:
            writer.leave()
        self._thread.join()
        return self._succession

    def join(self) -> None:
        """Wait until it has written everything, once the ring is closed."""
        self._thread.join()

    def writes(self, writer: Writer) -> None:
        """From its own thread: `writer` is the one at work."""
        self._writer = writer
        if self._leaving:
            writer.leave()

    def _run(self) -> None:
        try:
            self._write()
        finally:
            self._ended()

    def _write(self) -> None:
        while True:
            try:
                self._succession = self._direct.write(self, self._succession)
                return
            except CardFailed as failure:
                log.error("recording in memory failed: %s", failure)  # noqa: TRY400 (a full tmpfs needs no traceback)
                self._succession = failure.succession
            except (*CARD_ERRORS, KioskError) as error:
                log.error("can't record in memory: %s", error)  # noqa: TRY400 (likewise)
            if self._leaving or self._rest():
                return
