"""Which of the two paths recordings take: the spool on the card, or the direct one in memory (DESIGN §3).

Memory is taken when the flag `offline_recording` is off, and whenever the card can't be used. Two threads. The card's
opens the spool, recovers it, and writes, or looks after it while recordings go to memory by choice. When the card
fails, it leaves the recording to a direct writer and tries again every few seconds. When the card is stuck in the
kernel, nobody can move that thread: after 15 s the main thread starts the direct writer in its stead, and the stuck one
finishes what it has whenever the card lets it. The ring is taken from at the very frame each time
(agent.recorder.succession).

    card   open ─► write ─► (fails, or is stuck) ─► wait ─► open ─► write ─► (not chosen) ─► tend ─► write …
    direct                   write ──────────────────────► leaves             write ───────► leaves
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from agent.errors import KioskError
from agent.flags import OFFLINE_RECORDING
from agent.ledger import Ledger
from agent.recorder.card import Card
from agent.recorder.detour import Detour
from agent.recorder.direct import DirectPath, Substitute
from agent.recorder.encryption import Recipients
from agent.recorder.erasing import Erasures
from agent.recorder.homecoming import Homecoming
from agent.recorder.memory import memory_of
from agent.recorder.ring import Ring, TakenOver
from agent.recorder.root import Root
from agent.recorder.succession import CARD_ERRORS, Accounted, CardFailed, Succession
from agent.recorder.switch import Switch
from agent.recorder.timekeeper import Timekeeper
from agent.recorder.turns import Turns
from agent.recorder.vitals import Vitals
from agent.recorder.writer import Writer
from agent.settings import Settings
from agent.spool import Layout
from agent.units import NS_PER_S
from hw.clock import Clock

STALL_S: Final = 15.0
"""DESIGN §3. Real time, whatever clock the recorder lives by: the ring covers it and as much again."""

RETRY_S: Final = 5.0
"""How long to leave a card alone that has failed."""

_TEND_S: Final = 30.0
"""How often the spool on the card is looked after while recordings go to memory by choice."""

_SHUN_NS: Final = 60 * NS_PER_S
"""How long to leave memory alone that was chosen and couldn't be written."""

_Ending = Literal["closed", "left", "taken over"]
"""How a writer's time on the card ends: with the ring, by choice, or because it was stuck."""


class Paths:
    """Owns both threads and decides which of them holds the ring."""

    def __init__(
        self,
        settings: Settings,
        ring: Ring,
        clock: Clock,
        vitals: Vitals,
        recipients: Recipients,
        runtime: Path,
        stop: threading.Event,
        turned: Callable[[], None],
    ) -> None:
        """`turned` is called after each turn of the writer that holds the ring.

        Raises KioskError when the environment chooses what doesn't exist.
        """
        self._ring = ring
        self._clock = clock
        self._stop = stop
        self._turned = turned
        self._news = threading.Event()
        """Wakes the card's thread while it has nothing to write."""
        self.erasures = Erasures(settings.spool.path, memory_of(runtime), self._news.set)
        """What people want erased."""
        self._turns = Turns(ring, clock, vitals, recipients, self.erasures, self._after_turn)
        self._direct = DirectPath(settings, runtime, clock, vitals, self._turns)
        self._card = Card(settings, self._direct.layout, clock, vitals)
        self.switch = Switch(runtime, Layout(settings.spool.path).state)
        self._detour = Detour()
        self._changing = threading.Lock()
        self._writer: Writer | None = None
        """The card's, while it writes."""
        self._busy_since_s: float | None = None
        """Real time since when the card's thread has been at the card for something else."""
        self._left: Succession | None = None
        """What the last writer left, until the next goes on with it."""
        self._substitute: Substitute | None = None
        self._memory_from_ns = 0
        """Memory isn't tried before: it was chosen, and failed."""

    @property
    def path(self) -> Literal["spool", "direct"]:
        """Where recordings go now."""
        return "direct" if self._substitute else "spool"

    @property
    def trouble(self) -> str:
        """Why recordings don't go where they should, for a person; empty while they do."""
        return self._detour.trouble(direct_chosen=self.switch.direct)

    def lock(self) -> None:
        """Make sure that no other recorder serves this spool. Raises KioskError."""
        self._card.lock()

    def look(self) -> None:
        """See whether something else is chosen; then whoever waits begins with it at once. From any thread, often."""
        if self.switch.look():
            self._news.set()
            self._ring.nudge()

    def run(self) -> None:
        """The card's thread, until the ring is closed. Raises KioskError when the spool can never be used."""
        last = False
        while not last:
            last = self._stop.is_set()
            try:
                self._busy_since_s = time.monotonic()
                with self._card.opened() as root:
                    if self._live_on(root):
                        return
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
        """From the main thread, every few seconds: see whether the card's is stuck. Raises what the other died of."""
        with self._changing:
            if self._substitute is not None and self._substitute.died is not None:
                raise self._substitute.died
            writer = self._writer
            since_s = writer.busy_since_s if writer is not None else self._busy_since_s
            if since_s is None or time.monotonic() - since_s < STALL_S:
                return
            cause = f"the card hasn't answered for {STALL_S:.0f} s"
            if self._substitute is not None:
                self._detour.card_is_slow(cause, direct_chosen=self.switch.direct)
                return
            self._ring.hand_to(self)
            succession = writer.surrender() if writer is not None else self._left or Succession(None)
            if succession is not None:
                self._detour.card_fails(cause, direct_chosen=self.switch.direct)
                self._substitute_for(cause, succession)

    # The card's thread.

    def _live_on(self, root: Root) -> bool:
        """Record on the card or in memory, as is chosen, until the ring is closed: True. False when taken over."""
        homecoming = Homecoming(self._direct.layout, root, self._clock)
        if self._substitute is None:
            self._direct.recover()
            homecoming.tell()
        while True:
            if self._direct_wanted and not self._stop.is_set():
                self._stay_direct(root, homecoming)
            self._come_home(root, homecoming)
            ending = self._serve(root, homecoming)
            if ending == "closed":
                homecoming.finish()
                return True
            if ending == "taken over":
                return False

    def _stay_direct(self, root: Root, homecoming: Homecoming) -> None:
        """Look after the card while recordings go to memory, until they shan't or can't any more."""
        with self._changing:
            succession = self._left or _after(root.ledger)
            substitute = self._substitute or self._substitute_for(f"{OFFLINE_RECORDING.name} is off", succession)
        timekeeper = Timekeeper(root.ledger, self._clock)
        while True:
            self._news.clear()
            if substitute.failure:
                self._memory_from_ns = self._clock.monotonic_ns() + _SHUN_NS
                self._detour.memory_fails(substitute.failure)
            if self._stop.is_set() or not self._direct_wanted:
                return
            self._busy_since_s = time.monotonic()
            timekeeper.check()
            root.retention.tidy()
            homecoming.tell()
            self.erasures.step(root, None)
            with root.ledger.transaction():
                root.retention.commit_removals()
            self._busy_since_s = None
            self._detour.card_works()
            self._clock.wait(self._news, _TEND_S)
            if not substitute.failure:
                self._detour.memory_works()

    def _come_home(self, root: Root, homecoming: Homecoming) -> None:
        """Have the direct writer end, if there is one, and take over its account."""
        self._busy_since_s = time.monotonic()
        substitute = self._substitute
        if substitute is None:
            return
        if not root.retention.make_room():
            raise OSError(errno.ENOSPC, "no room for another recording")
        homecoming.tell()
        self._left = substitute.leave()
        # From here on nobody takes from the ring: the wait for the card begins anew.
        self._busy_since_s = time.monotonic()
        self._substitute = None
        homecoming.tell()

    def _serve(self, root: Root, homecoming: Homecoming) -> _Ending:
        """Write on the card, and bring home what lies in memory meanwhile."""
        with self._changing:
            if self._substitute is not None:
                return "taken over"
            self._writer = writer = self._turns.writer(root, self._left)
            self._left, self._busy_since_s, self._card.served = None, None, True
        self._detour.card_works()
        coming = True

        def between() -> None:
            nonlocal coming
            if self._direct_wanted:
                writer.leave()
            elif coming:
                coming = homecoming.step()

        try:
            self._turns.take(root, writer, between)
        except TakenOver:
            writer.wind_up()
            return "taken over"
        finally:
            self._writer = None
        if not writer.left:
            return "closed"
        self._left = writer.succession()
        return "left"

    @property
    def _direct_wanted(self) -> bool:
        """Whether recordings are to go to memory, and nothing speaks against it."""
        return self.switch.direct and self._clock.monotonic_ns() >= self._memory_from_ns

    def _after_turn(self) -> None:
        self.look()
        self._turned()

    # From one path to the other.

    def _go_direct(self, cause: str, succession: Succession | None = None) -> None:
        with self._changing:
            self._detour.card_fails(cause, direct_chosen=self.switch.direct)
            if self._substitute is None:
                self._ring.hand_to(self)
                self._substitute_for(cause, succession or self._left or Succession(None))

    def _substitute_for(self, cause: str, succession: Succession) -> Substitute:
        self._left = None
        substitute = self._substitute = Substitute(
            self._direct, cause, succession, self._clock, self._stop, self._news.set
        )
        substitute.start()
        return substitute


def _after(ledger: Ledger) -> Succession:
    """For a writer in memory that begins where the card's ledger ends."""
    last = ledger.last_end()
    return Succession(Accounted(*last) if last else None)
