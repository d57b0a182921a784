"""The demonstration from beginning to end: servers, recorder, courier, what is seen meanwhile, and the proof."""

from __future__ import annotations

import io
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from agent.demo.children import Child, Wish, end_all
from agent.demo.ear import Ear
from agent.demo.hearing import Hearing, find
from agent.demo.kiosk import Kiosk
from agent.demo.picture import Observer
from agent.demo.proof import prove
from agent.demo.report import Ending, tell
from agent.demo.screens import Lines, Screen, Window
from agent.demo.sealing import Key, throw_away
from agent.demo.servers import Broker, Store
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, KioskError
from agent.units import NS_PER_S
from hw.clock import SystemClock

_BUCKET = "kiosk-demo"
_SECONDS_UNWATCHED = 20.0

_LOOK_EVERY_S = 0.2

_START_S = 20.0
_SEAL_S = 15.0
_DRAIN_S = 30.0
_GOODBYE_S = 10.0
_SERVERS_END_S = 5.0


def run_try(*, seconds: float | None, keep: Path | None, pcm: str | None, plain_output: bool, sealed: bool) -> int:
    """Show the whole thing at work for `seconds` of recording, or until Ctrl-C.

    Without a terminal `seconds` is 20 unless given. `keep` is a directory, new or empty, in which everything stays.
    `pcm` is listened to instead of what is found, "simroom" being the simulated room. `plain_output` prints lines
    instead of a live picture. `sealed` has recordings encrypted, to a key that is made for it. Returns the exit status:
    good only if something was recorded and all of it came back from the bucket as it was heard. Raises KioskError when
    the demonstration can't run.
    """
    terminal = sys.stdout.isatty()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, force_terminal=terminal)
    screen = Window(console) if terminal and not plain_output and not console.is_dumb_terminal else Lines(console)
    if seconds is None and not terminal:
        seconds = _SECONDS_UNWATCHED
    wish = Wish()
    try:
        with ExitStack() as cleanup:
            place = _place(keep, cleanup)
            hearing = find(pcm, place / "room")
            console.print(hearing.announcement, markup=False, soft_wrap=True)
            key = throw_away(place) if sealed else None
            if key is not None:
                console.print(f"encrypted to {key.label}, a key made for this", markup=False, soft_wrap=True)
            story = Story(place, hearing, seconds, wish, screen, key)
            ending = story.run(place / "heard" if keep else None)
        tell(ending, console)
        if keep:
            console.print(f"Everything else was kept in {place}. Look at it:", markup=False, soft_wrap=True)
            console.print(f"  {ending.listing}", markup=False, soft_wrap=True)
            if key is not None:
                console.print(f"Its recordings are opened with {key.file}.", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print("Ended at once: nothing was proven.", style="red")
        return EXIT_FOUND_WRONG
    finally:
        wish.forget()
    return EXIT_FOUND_WRONG if ending.faults else EXIT_GOOD


def _place(keep: Path | None, cleanup: ExitStack) -> Path:
    """The directory for everything, which is gone in the end unless it's to be kept."""
    if keep is None:
        place = Path(tempfile.mkdtemp(prefix="kiosk-recorder-try-"))
        cleanup.callback(shutil.rmtree, place, ignore_errors=True)
        return place
    try:
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(keep.iterdir()):
            cause = "there is something in it already"
            raise KioskError("keep everything", place=str(keep), cause=cause, hint="name a new or empty directory")
    except OSError as error:
        raise KioskError("keep everything", place=str(keep), cause=error.strerror or str(error)) from error
    return keep.resolve()


class Story:
    """One demonstration in the directory `place`. Whatever happens, no process of it is left when `run` is over."""

    def __init__(
        self,
        place: Path,
        hearing: Hearing,
        seconds: float | None,
        wish: Wish,
        screen: Screen,
        key: Key | None = None,
    ) -> None:
        """With a `key`, everything is encrypted to it."""
        self._place = place
        self._recipients = () if key is None else (key.public,)
        self._identities = () if key is None else key.identities
        self._label = "" if key is None else key.label
        self._hearing = hearing
        self._seconds = seconds
        self._wish = wish
        self._screen = screen
        self._children: list[Child] = []
        self._needed: list[Child] = []
        """Children without which it can't go on."""
        self._began_s = time.monotonic()
        self._first_frame_s: float | None = None
        """When the room was first heard, on the monotonic clock; None before."""

    def run(self, heard: Path | None) -> Ending:
        """Everything, to the proof; recordings that come back go to `heard`, or to a new temporary directory.

        Raises KioskError when a part doesn't come up or breaks down, KeyboardInterrupt when told to end at once.
        """
        logs = self._place / "log"
        logs.mkdir()
        with ExitStack() as cleanup:
            cleanup.callback(self._screen.close)
            cleanup.callback(lambda: end_all(self._children[::-1], _SERVERS_END_S))
            with self._wish.held():
                store = Store(self._place / "store", logs / "store.log", _BUCKET)
                self._need(store.child)
                broker = Broker(self._place / "broker", logs / "broker.log")
                self._need(broker.child)
                kiosk = Kiosk(
                    self._place / "kiosk", logs, self._hearing, store, broker, SystemClock(), self._recipients
                )
                cleanup.callback(kiosk.close)
                recorder = self._need(kiosk.start_recorder())
            ear = Ear(broker)
            cleanup.callback(ear.close)
            self._observer = Observer(self._hearing.title, kiosk, store, broker, ear)
            self._until(broker.ready, "", _START_S)
            ear.listen()
            self._until(store.ready, "", _START_S)
            with self._wish.held():
                courier = self._need(kiosk.start_courier())
            self._watch(self._is_over, "", math.inf)
            self._end_orderly(kiosk, recorder, courier)
            self._show("comparing what came back")
            heard = _made(heard)
            segments, played = list(kiosk.ledger.segments()), self._hearing.played
            proof = prove(segments, store.bucket, kiosk.layout, played, heard, self._identities)
            if not any(heard.iterdir()):
                heard.rmdir()
            status = kiosk.status()
            self._show("ending the servers")
        complaints = [f"{child.name} {_end(child)}" for child in (recorder, courier) if child.status != EXIT_GOOD]
        if status is not None and status.trouble:
            complaints.append(f"the recorder says: {status.trouble}")
        return Ending(
            proof=proof,
            source=self._hearing.reference,
            bucket=store.bucket.name,
            heard=heard,
            listing=kiosk.listing,
            key=self._label,
            complaints=tuple(complaints),
        )

    def _need(self, child: Child) -> Child:
        self._children.append(child)
        self._needed.append(child)
        return child

    def _end_orderly(self, kiosk: Kiosk, recorder: Child, courier: Child) -> None:
        """As systemd would: the recorder seals what is open; the courier is left the time to upload it."""

        def uploaded() -> bool:
            books = kiosk.read_books()
            return books.sealed == books.verified

        self._release(recorder)
        self._until(lambda: recorder.status is not None, "sealing what is open", _SEAL_S)
        # What isn't uploaded by then, the proof misses.
        self._watch(uploaded, "uploading what is left", _DRAIN_S)
        self._release(courier)
        self._until(lambda: courier.status is not None, "saying goodbye", _GOODBYE_S)

    def _release(self, child: Child) -> None:
        self._needed.remove(child)
        child.ask_to_end()

    def _is_over(self) -> bool:
        if self._wish.uttered:
            return True
        if self._seconds is None:
            return False
        if self._first_frame_s is None:
            return time.monotonic() - self._began_s >= self._seconds + _START_S
        return self._elapsed_s() >= self._seconds

    def _elapsed_s(self) -> float:
        """Since the room was first heard."""
        return 0.0 if self._first_frame_s is None else time.monotonic() - self._first_frame_s

    def _until(self, condition: Callable[[], bool], phase: str, limit_s: float) -> None:
        """As `_watch`, for what can't be done without."""
        if not self._watch(condition, phase, limit_s):
            raise KioskError("go on", cause=f"{phase or 'starting'} took more than {limit_s:.0f} s")

    def _watch(self, condition: Callable[[], bool], phase: str, limit_s: float) -> bool:
        """Show what happens until `condition` holds. False when it doesn't within `limit_s`."""
        deadline_s = time.monotonic() + limit_s
        while not condition():
            for child in self._needed:
                if child.status is not None:
                    raise KioskError(f"{child.name} {_end(child)}")
            if time.monotonic() > deadline_s:
                return False
            self._show(phase)
            time.sleep(_LOOK_EVERY_S)
        return True

    def _show(self, phase: str) -> None:
        elapsed_s = self._elapsed_s()
        left_s = None if self._seconds is None else max(0.0, self._seconds - elapsed_s)
        picture = self._observer.look(phase, elapsed_s, left_s)
        if picture.status is not None and picture.status.first_frame_ns is not None:
            self._first_frame_s = picture.status.first_frame_ns / NS_PER_S
        self._screen.show(picture)


def _made(heard: Path | None) -> Path:
    if heard is None:
        return Path(tempfile.mkdtemp(prefix="kiosk-recorder-heard-"))
    heard.mkdir()
    return heard


def _end(child: Child) -> str:
    return f"ended with status {child.status}; its last words:\n{child.last_words()}"
