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
from typing import Final

from agent.errors import KioskError
from agent.recorder.memory import make_own, memory_of
from agent.recorder.root import Root, open_root
from agent.recorder.succession import CARD_ERRORS, CardFailed, Succession
from agent.recorder.turns import Turns
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.settings import Settings
from agent.spool import InstanceLock, Layout
from hw.clock import Clock

log = logging.getLogger(__name__)

_RETRY_S: Final = 5.0
"""How long to leave memory alone that has failed."""


class DirectPath:
    """The spool in memory, and who writes there."""

    def __init__(self, settings: Settings, runtime: Path, clock: Clock, vitals: Vitals, turns: Turns) -> None:
        self._settings = settings.on_direct_path(memory_of(runtime))
        self.layout = Layout(self._settings.spool.path)
        self._clock = clock
        self._vitals = vitals
        self._turns = turns

    def recover(self) -> None:
        """An earlier process may have recorded here, and have been killed at it. Raises KioskError.

        Memory that can't be used now keeps nobody from recording on the card.
        """
        try:
            if self.layout.ledger.exists():
                with self._opened():
                    pass
        except CARD_ERRORS as error:
            log.error("what lies in memory can't be recovered now: %s", error)  # noqa: TRY400 (it says enough)
        except KioskError as error:
            if not error.retryable:
                raise
            log.error("what lies in memory can't be recovered now: %s", error)  # noqa: TRY400 (likewise)

    @contextmanager
    def _opened(self) -> Iterator[Root]:
        make_own(self.layout.root)
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
        clock: Clock,
        stop: threading.Event,
        news: Callable[[], None],
    ) -> None:
        """`stop` says that the process is ending; `news` is called when this thread has failed, and when it ends."""
        self.cause = cause
        self.failure = ""
        """Why memory can't be written; empty while it can."""
        self.died: BaseException | None = None
        """What nobody foresaw, and ended the thread."""
        self._direct = direct
        self._succession = succession
        self._clock = clock
        self._stop = stop
        self._news = news
        self._writer: Writer | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="direct", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def leave(self) -> Succession:
        """Have it end at once; what it leaves. Raises what it died of."""
        self._leaving.set()
        writer = self._writer
        if writer is not None:
            writer.leave()
        self._thread.join()
        if self.died is not None:
            raise self.died
        return self._succession

    def join(self) -> None:
        """Wait until it has written everything, once the ring is closed."""
        self._thread.join()

    def writes(self, writer: Writer) -> None:
        """From its own thread: `writer` is the one at work."""
        self._writer = writer
        self.failure = ""
        if self._leaving.is_set():
            writer.leave()

    def _run(self) -> None:
        try:
            while not self._write():
                self._news()
                self._clock.wait(self._leaving, _RETRY_S)
                if self._leaving.is_set() or self._stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 (raised by who looks after it)
            self.died = error
        finally:
            self._news()

    def _write(self) -> bool:
        """True when there is nothing left to write here."""
        try:
            self._succession = self._direct.write(self, self._succession)
        except CardFailed as failure:
            self._succession = failure.succession
            self._failed(f"recording in memory failed: {failure}")
        except (*CARD_ERRORS, KioskError) as error:
            self._failed(f"can't record in memory: {error}")
        else:
            return True
        return False

    def _failed(self, cause: str) -> None:
        log.error("%s", cause)
        self.failure = cause
