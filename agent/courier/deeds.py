"""What the courier does when it's told to. Each deed is begun once and then looked at until it says how it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agent.contract.commands import REASONS, Command
from agent.contract.verbs import LONGEST_HURRY_MINUTES, VERBS, hours_of
from agent.courier.book import Book
from agent.courier.monitor import Monitor
from agent.courier.openings import Hurry, Openings
from agent.courier.telling import Telemetry
from agent.mailbox import Mailbox
from agent.units import NS_PER_S
from hw.clock import Clock

_UNTAKEN_NS: Final = 20 * NS_PER_S
"""A recorder that is there takes a command within 5 s, whatever its card does."""

_UNANSWERED_NS: Final = 60 * NS_PER_S
"""Beyond what card and journal are given there."""

_REPORT_NS: Final = 30 * NS_PER_S
_MINUTE_NS: Final = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went."""

    ok: bool
    error: str | None = None
    text: str = ""
    output: dict[str, Any] | None = None
    then: Callable[[], None] | None = None
    """What is done once the fleet has been told."""


class Deed(Protocol):
    """Something under way."""

    def look(self) -> Outcome | None:
        """How it went; None while it goes on."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """Something that was over at once."""

    outcome: Outcome

    def look(self) -> Outcome | None:
        return self.outcome


def failed(reason: str, text: str = "") -> Outcome:
    """Why nothing came of it."""
    return Outcome(ok=False, error=reason, text=text or f"it {REASONS[reason][0]}")


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The recorder judges it, and does it."""

    name: str
    mailbox: Mailbox
    clock: Clock
    since_ns: int
    then: Callable[[], None] | None = None

    def look(self) -> Outcome | None:
        answer = self.mailbox.answer(self.name)
        if answer is not None:
            return self._read(answer)
        waited_ns = self.clock.monotonic_ns() - self.since_ns
        if waited_ns > _UNTAKEN_NS and self.mailbox.withdraw(self.name):
            return failed("unanswered")
        return failed("interrupted") if waited_ns > _UNANSWERED_NS else None

    def _read(self, answer: dict[str, Any]) -> Outcome:
        ok, error, text, output = (answer.get(part) for part in ("ok", "error", "text", "output"))
        if ok is True:
            return Outcome(
                ok=True, text=str(text or ""), output=output if isinstance(output, dict) else None, then=self.then
            )
        return failed(error if isinstance(error, str) and error in REASONS else "failed", str(text or ""))


@dataclass(frozen=True, slots=True)
class Reported:
    """A new picture of the kiosk is taken, and is told."""

    monitor: Monitor
    telemetry: Telemetry
    clock: Clock
    known: int
    since_ns: int

    def look(self) -> Outcome | None:
        told = self.telemetry.told
        if told > self.known:
            return Outcome(ok=True, output={"seq": told})
        if self.clock.monotonic_ns() - self.since_ns > _REPORT_NS:
            return failed("failed", "the kiosk couldn't be looked at in 30 s: its card may be stuck")
        return None


class Deeds:
    """Begins what a command says. Called by the desk's thread alone."""

    def __init__(
        self,
        mailbox: Mailbox,
        book: Book,
        openings: Openings,
        monitor: Monitor,
        telemetry: Telemetry,
        introduce: Callable[[], None],
        restart: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`introduce` has `birth` said anew; `restart` ends this process in a way that has it started again."""
        self._mailbox = mailbox
        self._book = book
        self._openings = openings
        self._monitor = monitor
        self._telemetry = telemetry
        self._introduce = introduce
        self._restart = restart
        self._clock = clock

    def hand_over(self, name: str, payload: bytes, then: Callable[[], None] | None = None) -> Deed:
        """Leave it to the recorder."""
        try:
            if not self._mailbox.hand_over(name, payload):
                return Done(failed("unanswered"))
        except OSError as error:
            return Done(failed("failed", f"it can't be handed to the recorder: {error.strerror}"))
        return HandedOver(name, self._mailbox, self._clock, self._clock.monotonic_ns(), then)

    def taken_up(self, name: str, verb: str) -> Deed:
        """An earlier process began it: the recorder may still say how it went, nobody else can."""
        if verb in VERBS and VERBS[verb].actor == "recorder":
            return HandedOver(name, self._mailbox, self._clock, self._clock.monotonic_ns())
        return Done(failed("interrupted"))

    def begin(self, command: Command, payload: bytes) -> Deed:
        """Do what is the courier's own."""
        match command.verb:
            case "upload-now":
                return self._hurry(command.args.get("minutes", LONGEST_HURRY_MINUTES))
            case "set-upload-hours":
                return self._keep_hours(command.args["hours"], payload)
            case "report":
                return self._report()
            case "restart":
                return Done(Outcome(ok=True, then=self._restart))
            case _:
                return Done(failed("unavailable"))

    @property
    def restart(self) -> Callable[[], None]:
        """For a restart of the whole kiosk, when the recorder has answered."""
        return self._restart

    def _hurry(self, minutes: int) -> Deed:
        now_ns = self._clock.monotonic_ns()
        self._openings.hurry = Hurry(now_ns, now_ns + minutes * _MINUTE_NS)
        picture = self._monitor.picture
        waiting = picture.values.get("spool_bytes_pending") if picture else None
        return Done(Outcome(ok=True, output={"pending_bytes": waiting, "minutes": minutes}))

    def _keep_hours(self, hours: list[str] | None, payload: bytes) -> Deed:
        kept = self._book.stand("set-upload-hours", None if hours is None else payload)
        self._openings.ordered = hours_of(hours)
        self._introduce()
        text = "" if kept else "the card doesn't take it: it holds until the courier restarts"
        output = {"hours": [str(each) for each in self._openings.hours], "from": "file" if hours is None else "command"}
        return Done(Outcome(ok=True, text=text, output=output))

    def _report(self) -> Deed:
        picture = self._monitor.picture
        known = -1 if picture is None else picture.seq
        self._introduce()
        self._monitor.look_now()
        return Reported(self._monitor, self._telemetry, self._clock, known, self._clock.monotonic_ns())
