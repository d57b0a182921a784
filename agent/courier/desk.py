"""The subject `cmd`: commands are heard, judged, carried out, answered.

A command counts once: that it came is durable before it's done, so a courier that dies in between does it once at most,
and says at its next start that it was interrupted. What concerns recording goes to the recorder, signed as it came.
Everybody can publish garbage; it costs a line in the log now and then, and no answer without an id to answer to.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.contract import messages
from agent.contract.commands import Command, Refusal, judge, judge_again
from agent.contract.keys import timestamp
from agent.contract.messages import Heard, Topics
from agent.contract.signed import LONGEST_BYTES
from agent.contract.verbs import VERBS, actor_of, hours_of
from agent.courier.book import Book
from agent.courier.broker import Sent, on_its_way
from agent.courier.conversation import IDLE_S, Line
from agent.courier.deeds import Deed, Deeds, Outcome
from agent.courier.events import Events
from agent.courier.openings import Openings
from agent.courier.ration import Ration
from hw.clock import Clock

log = logging.getLogger(__name__)

_MOST_HEARD: Final = 256
_BUSY_S: Final = 0.1
_LONGEST_HEARD: Final = LONGEST_BYTES["command"] + 1


@dataclass(frozen=True, slots=True)
class _Result:
    content: Mapping[str, Any]
    then: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """What this kiosk holds a payload against."""

    target: str
    keys: frozenset[str]
    able: frozenset[str]
    now_ns: Callable[[], int | None]
    """Wall time; None while it can't be trusted. It may wait for the card."""
    book: Book

    def judge(self, heard: Heard) -> tuple[Command, int] | Refusal:
        """A command that counts, and when; or why it doesn't."""
        # The time last, for asking may take the card: whatever nobody signed never gets that far.
        first = self._judge(heard, None)
        if isinstance(first, Refusal) and first.reason != "clock":
            return first
        now_ns = self.now_ns()
        found = self._judge(heard, now_ns)
        return found if isinstance(found, Refusal) else (found, now_ns or 0)

    def _judge(self, heard: Heard, now_ns: int | None) -> Command | Refusal:
        return judge(
            heard.payload,
            retained=heard.retained,
            keys=self.keys,
            target=self.target,
            now_ns=now_ns,
            seen=self.book.knows,
            able=self.able,
        )

    def kept(self, verb: str) -> Command | Refusal | None:
        """What was kept of a command that stays in force, judged again; None when nothing was."""
        payload = self.book.standing(verb)
        return None if payload is None else judge_again(payload, keys=self.keys, target=self.target, able=self.able)


class Desk:
    """Belongs to the thread of its conversation, but for `_hear`."""

    def __init__(
        self, topics: Topics, judge: Judge, deeds: Deeds, openings: Openings, events: Events, clock: Clock
    ) -> None:
        self.listens_to: Mapping[str, Callable[[Heard], None]] = {topics.command: self._hear}
        self.noted: Callable[[], None] = lambda: None
        """Called when something was heard."""
        self._topics = topics
        self._judge = judge
        self._book = judge.book
        self._deeds = deeds
        self._openings = openings
        self._events = events
        self._clock = clock
        self._heard: deque[Heard] = deque(maxlen=_MOST_HEARD)
        self._under_way: dict[str, tuple[str, Deed]] = {}
        self._results: deque[_Result] = deque(maxlen=_MOST_HEARD)
        self._sent: list[tuple[Sent | None, Callable[[], None]]] = []
        self._answers = Ration(most=20, per_minute=60)
        self._complaints = Ration(most=10, per_minute=1)
        self._begun = False

    def greet(self, line: Line) -> None:
        """Nothing: a result is said once, on whatever connection there is."""

    def step(self, line: Line) -> float:
        if not self._begun and self._book.open():
            self._begun = True
            self._take_up()
        while self._heard:
            self._take(self._heard.popleft())
        for name, (verb, deed) in list(self._under_way.items()):
            outcome = deed.look()
            if outcome is not None:
                del self._under_way[name]
                self._finish(name, verb, outcome)
        self._say(line)
        return _BUSY_S if self._under_way or self._sent else IDLE_S

    def _hear(self, heard: Heard) -> None:
        # Emptied by somebody who took back what was retained: nothing is said by that.
        if not heard.payload:
            return
        # A broker lets through a quarter of a gigabyte; of what is too long only that it is counts.
        self._heard.append(Heard(heard.topic, heard.payload[:_LONGEST_HEARD], heard.retained))
        self.noted()

    def _take_up(self) -> None:
        """What an earlier process left: hours that were ordered, commands of which nobody knows what became."""
        hours = self._judge.kept("set-upload-hours")
        if hours is not None:
            self._hold_to(hours)
        for name, verb in self._book.unfinished.items():
            self._under_way[name] = (verb, self._deeds.taken_up(name, verb))

    def _hold_to(self, judged: Command | Refusal) -> None:
        if isinstance(judged, Refusal) or judged.verb != "set-upload-hours":
            text = judged.text if isinstance(judged, Refusal) else "it's another command"
            log.error("upload hours that were ordered don't count any more, those of the file do: %s", text)
            return
        self._openings.ordered = hours_of(judged.args["hours"])

    def _take(self, heard: Heard) -> None:
        judged = self._judge.judge(heard)
        if isinstance(judged, Refusal):
            self._refuse(judged)
        else:
            self._obey(*judged, heard.payload)

    def _obey(self, command: Command, now_ns: int, payload: bytes) -> None:
        log.info("ordered by command: %s", command.verb)
        if actor_of(command.verb, command.args) == "recorder":
            # Before it's written down: a stuck card must not keep the room from being muted, and the recorder
            # obeys once, however often it's told.
            whole = command.verb == "restart" and command.args.get("what", "kiosk") == "kiosk"
            deed = self._deeds.hand_over(command.id, payload, self._deeds.restart if whole else None)
            self._book.begin(command.id, command.verb, command.expires_ns, now_ns)
        else:
            self._book.begin(command.id, command.verb, command.expires_ns, now_ns)
            deed = self._deeds.begin(command, payload)
        self._under_way[command.id] = (command.verb, deed)
        facts = {"command": command.id, "verb": command.verb, "args": dict(command.args), "key": command.key}
        self._events.note("command", facts)

    def _refuse(self, refusal: Refusal) -> None:
        now_ns = self._clock.monotonic_ns()
        withheld = self._complaints.grants(now_ns)
        if withheld is not None:
            more = f" ({withheld} others before)" if withheld else ""
            log.warning("a command is refused (%s): %s%s", refusal.reason, refusal.text, more)
            self._events.note(
                "command_refused",
                {"command": refusal.id, "verb": refusal.verb, "reason": refusal.reason, "others": withheld},
            )
        # Of one that came twice while it's being done the answer is on its way.
        if refusal.id is None or refusal.id in self._under_way or self._answers.grants(now_ns) is None:
            return
        self._tell(refusal.id, refusal.verb, Outcome(ok=False, error=refusal.reason, text=refusal.text))

    def _finish(self, name: str, verb: str, outcome: Outcome) -> None:
        content = self._tell(name, verb, outcome)
        self._book.finish(name, content)
        if not outcome.ok:
            self._events.note("command_failed", {"command": name, "verb": verb, "reason": outcome.error})

    def _tell(self, name: str, verb: str | None, outcome: Outcome) -> Mapping[str, Any]:
        content = {
            "id": name,
            "ts": timestamp(self._clock.wall_ns()),
            "verb": verb,
            "ok": outcome.ok,
            "error": outcome.error,
            "text": outcome.text,
            "output": outcome.output,
        }
        self._results.append(_Result(content, outcome.then))
        return content

    def _say(self, line: Line) -> None:
        while line.up and self._results:
            result = self._results.popleft()
            sent = line.say(messages.result(self._topics, result.content))
            if result.then is not None:
                self._sent.append((sent, result.then))
        for sent, then in list(self._sent):
            if not line.up or _arrived(sent):
                self._sent.remove((sent, then))
                then()


def _arrived(sent: Sent | None) -> bool:
    """Whether nothing is to be waited for any more."""
    return not (on_its_way(sent) and not sent.is_published())


def able_to(*, has_target: bool, has_light: bool) -> frozenset[str]:
    """The verbs that a kiosk can do; whether its light works the recorder knows."""
    needed = {"upload-now": has_target, "identify": has_light}
    return frozenset(verb for verb in VERBS if needed.get(verb, True))
