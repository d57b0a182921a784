"""Which of the two paths recordings take: the spool on the card, or the direct one in memory (DESIGN §3).

Two threads. The card's opens the spool, recovers it, brings home what was recorded in memory, and writes. When the card
fails, it leaves that to a direct writer and tries again every few seconds. When the card is stuck in the kernel, nobody
can move that thread: after 15 s the main thread starts the direct writer in its stead, and the stuck one finishes what
it has whenever the card lets it. The ring is taken from at the very frame each time (agent.recorder.succession).

    card   open ─► home ─► write ─► (fails, or is taken over) ─► wait ─► open …
    direct                          write ───────────────────────────────────► leaves, when the card is back
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Final, Literal

from agent.errors import KioskError
from agent.recorder.homecoming import bring_home, carry_home, cuts_for_card
from agent.recorder.ring import Ring, TakenOver
from agent.recorder.root import Root, open_root
from agent.recorder.succession import CARD_ERRORS, CardFailed, Succession
from agent.recorder.timekeeper import Timekeeper
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.settings import Settings
from agent.spool import InstanceLock, Layout
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

STALL_S: Final = 15.0
"""DESIGN §3. Real time, whatever clock the recorder lives by: the ring covers it and as much again."""

RETRY_S: Final = 5.0
"""How long to leave a card alone that has failed."""

_CLOCK_CHECK_NS: Final = 5 * NS_PER_S


class Paths:
    """Owns both threads and decides which of them holds the ring."""

    def __init__(
        self,
        settings: Settings,
        ring: Ring,
        clock: Clock,
        vitals: Vitals,
        runtime: Path,
        stop: threading.Event,
        turned: Callable[[], None],
    ) -> None:
        """`turned` is called after each turn of the writer that holds the ring."""
        self._settings = settings
        self._direct_settings = settings.on_direct_path(runtime / "direct")
        self._direct = Layout(self._direct_settings.spool.path)
        self._ring = ring
        self._clock = clock
        self._vitals = vitals
        self._stop = stop
        self._turned = turned
        self._changing = threading.Lock()
        self._lock: InstanceLock | None = None
        self._writer: Writer | None = None
        """The card's, while it writes."""
        self._busy_since_s: float | None = None
        """Real time since when the card's thread has been opening or bringing home."""
        self._left: Succession | None = None
        """What the last direct writer left, until the card's goes on with it."""
        self._served = False
        """Whether the card was ever written to by this process."""
        self._substitute: _Direct | None = None
        self.trouble = ""
        """Why recordings don't go to the card, for a person; empty while they do."""

    @property
    def path(self) -> Literal["spool", "direct"]:
        """Where recordings go now."""
        return "direct" if self._substitute else "spool"

    def lock(self) -> None:
        """Make sure that no other recorder serves this spool. A card that fails can't be asked: later, then.

        Raises KioskError.
        """
        layout = Layout(self._settings.spool.path)
        try:
            layout.create()
            self._lock = InstanceLock(layout, "recorder")
        except KioskError as error:
            if not error.retryable:
                raise
        except OSError as error:
            log.warning("can't lock %s: %s", layout.root, error)

    def run(self) -> None:
        """The card's thread, until the ring is closed. Raises KioskError when the spool can never be used."""
        last = False
        while not last:
            last = self._stop.is_set()
            try:
                with self._opened() as root:
                    self._come_home(root)
                    if last or self._serve(root):
                        break
            except CardFailed as failure:
                self._go_direct(str(failure), failure.succession)
            except CARD_ERRORS as error:
                self._go_direct(str(error))
            except KioskError as error:
                if not error.retryable and self._substitute is None:
                    raise
                self._go_direct(str(error))
            self._busy_since_s = None
            self._clock.wait(self._stop, RETRY_S)
            if self._stop.is_set() and self._substitute is not None:
                self._substitute.join()

    def watch(self) -> None:
        """From the main thread, every few seconds: see whether the card's is stuck."""
        with self._changing:
            writer = self._writer
            since_s = writer.busy_since_s if writer is not None else self._busy_since_s
            if self._substitute is not None or since_s is None or time.monotonic() - since_s < STALL_S:
                return
            self._ring.hand_to(self)
            succession = writer.surrender() if writer is not None else self._left or Succession(None)
            if succession is not None:
                self._substitute_for(f"the card hasn't answered for {STALL_S:.0f} s", succession)

    @contextmanager
    def _opened(self) -> Iterator[Root]:
        self._busy_since_s = time.monotonic()
        ledger = Layout(self._settings.spool.path).ledger
        if self._served and not ledger.exists():
            # Below the mount point of a card that was taken away another spool could be made, and be lost with it.
            raise FileNotFoundError(errno.ENOENT, "the spool is gone: is its card mounted?", str(ledger))
        if self._lock is None:
            self.lock()
        try:
            cuts = cuts_for_card(self._direct, self._clock)
            with open_root(self._settings, self._clock, self._vitals.boot, cuts) as root:
                yield root
        finally:
            # Nothing is held open on a card that failed: it can be unmounted, checked and mounted again.
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _open_direct(self) -> AbstractContextManager[Root]:
        return open_root(self._direct_settings, self._clock, self._vitals.boot)

    def _come_home(self, root: Root) -> None:
        """Have the direct writer end, if there is one, and take over everything it has."""
        substitute = self._substitute
        if substitute is not None:
            if not root.retention.make_room():
                raise OSError(errno.ENOSPC, "no room for another recording")
            carry_home(self._direct, root, self._clock)
            self._left = substitute.leave()
            # From here on nobody takes from the ring: the wait for the card begins anew.
            self._busy_since_s = time.monotonic()
            self._substitute = None
        elif self._direct.ledger.exists():
            # An earlier process recorded in memory, and may have been killed at it.
            with self._open_direct():
                pass
        brought = bring_home(self._direct, root, self._clock)
        if brought:
            log.info("recordings that came from memory to the card: %d", brought)

    def _serve(self, root: Root) -> bool:
        """Write until the ring is closed: True. False when another writer took over, or already had."""
        with self._changing:
            if self._substitute is not None:
                return False
            self._writer = writer = self._make_writer(root, self._left)
            self._left, self._busy_since_s, self.trouble, self._served = None, None, "", True
        try:
            self._write(root, writer)
        except TakenOver:
            writer.wind_up()
            return False
        finally:
            self._writer = None
        return True

    def _write(self, root: Root, writer: Writer) -> None:
        timekeeper, checked_ns = Timekeeper(root.ledger, self._clock), 0
        while writer.step():
            now_ns = self._clock.monotonic_ns()
            if now_ns - checked_ns >= _CLOCK_CHECK_NS:
                checked_ns = now_ns
                try:
                    self._vitals.boot = timekeeper.check()
                except CARD_ERRORS as error:
                    raise writer.failed(error) from error
            self._turned()

    def _make_writer(self, root: Root, succession: Succession | None) -> Writer:
        return Writer(
            root.settings, root.layout, root.ledger, root.retention, self._ring, self._clock, self._vitals, succession
        )

    def _go_direct(self, cause: str, succession: Succession | None = None) -> None:
        with self._changing:
            if self._substitute is not None:
                self._tell(cause)
                return
            self._ring.hand_to(self)
            self._substitute_for(cause, succession or self._left or Succession(None))

    def _tell(self, cause: str) -> None:
        trouble = (
            f"recordings don't go to the card but to memory, and a power cut would cost them: {cause}\n"
            "  → look at the card: is it full, read-only, dying? Recording goes back to it by itself"
        )
        if trouble != self.trouble:
            log.error("recordings can't go to the card, they stay in memory until it is back: %s", cause)
        self.trouble = trouble

    def _substitute_for(self, cause: str, succession: Succession) -> None:
        self._tell(cause)
        self._left = None
        self._substitute = _Direct(self, cause, succession)
        self._substitute.start()

    # For the direct writer's thread.

    def direct_life(self, life: _Direct, succession: Succession) -> Succession:
        """Write in memory until asked to leave, or until the ring is closed.

        Raises CardFailed, KioskError or CARD_ERRORS.
        """
        self._direct.create()
        with closing(InstanceLock(self._direct, "recorder")), self._open_direct() as root:
            cut = succession.cut
            root.ledger.went_direct(life.cause, (cut.name, cut.frames) if cut else None)
            writer = life.writer = self._make_writer(root, succession)
            if life.leaving:
                writer.leave()
            self._write(root, writer)
            return writer.succession()

    def rest(self) -> bool:
        """Pause before another attempt. True: there is none, the process is ending."""
        return self._clock.wait(self._stop, RETRY_S)


class _Direct:
    """The direct writer's thread: from when the card is given up until it is back."""

    def __init__(self, paths: Paths, cause: str, succession: Succession) -> None:
        self.cause = cause
        self.writer: Writer | None = None
        self.leaving = False
        self._paths = paths
        self._succession = succession
        self._thread = threading.Thread(target=self._run, name="direct", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> Succession:
        """Have it end at its next turn; what it leaves."""
        self.leaving = True
        writer = self.writer
        if writer is not None:
            writer.leave()
        self._thread.join()
        return self._succession

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self._succession = self._paths.direct_life(self, self._succession)
                return
            except CardFailed as failure:
                log.error("recording in memory failed: %s", failure)  # noqa: TRY400 (a full tmpfs needs no traceback)
                self._succession = failure.succession
            except (*CARD_ERRORS, KioskError) as error:
                log.error("can't record in memory: %s", error)  # noqa: TRY400 (likewise)
            if self.leaving or self._paths.rest():
                return
