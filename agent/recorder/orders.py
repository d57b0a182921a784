"""What people want of the recorder: by the button in the room, and by commands from the courier's mailbox.

The courier can't be trusted with commands: it could be taken over by whoever is on the network. So the recorder judges
each payload itself. In order, for one that counts:

    1. a pause or mute holds at once: the capture thread closes the microphone
    2. it's kept, in memory and on the card (agent.recorder.keeper)
    3. it's entered in the journal by the writer, with its next turn
    4. it's answered, when all of that is done; a `resume` holds only then, and a `restart` begins

The button needs no signature: whoever presses it is in the room. It goes before any command under way.

`step` belongs to the main thread, which never touches the card. Whoever turns often calls `poke`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agent.contract.commands import REASONS, Command, Refusal, judge, target_of
from agent.contract.keys import moment, timestamp
from agent.mailbox import Mailbox
from agent.recorder import rotation
from agent.recorder.encryption import Recipients
from agent.recorder.erasing import Erased, Erasure
from agent.recorder.keeper import Keeper
from agent.recorder.light import Keeping
from agent.recorder.memory import memory_of
from agent.recorder.quiet import (
    Moment,
    Quiet,
    Source,
    begun,
    by_button,
    in_force,
    joined,
    left_ns,
    until_heard_ns,
    without,
)
from agent.recorder.rotation import Rotation, rotation_of
from agent.recorder.standing import Standing, remembered
from agent.recorder.vitals import Noted, Vitals
from agent.settings import Settings
from agent.units import NS_PER_S, Duration
from hw.clock import Clock

log = logging.getLogger(__name__)

ABLE: Final = frozenset({"pause", "resume", "mute", "erase", "restart", rotation.VERB})
"""What every recorder can do; `identify` takes a light."""

_REST_S: Final = 5.0
"""How often to look without being poked: while a stuck card keeps the writer from turning."""

EXPOSED_HINT: Final = "let the recorder lock memory (LimitMEMLOCK=infinity), or turn swap off"

_BUSY_S: Final = 0.1
"""How often to look whether what is under way is done."""

_PATIENCE_NS: Final = 25 * NS_PER_S
"""For card and journal: a stuck card is given up after 15 s, and another writer goes on."""

_MINUTE_NS: Final = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Hands:
    """What the orders are carried out with."""

    hush: Callable[[], None]
    """Has the microphone closed at once, instead of with the next half second."""
    restart: Callable[[], None]
    """Ends this process in a way that has it started again."""
    identify: Callable[[int], None]
    """Shows for so many minutes which kiosk this is."""
    lit: Callable[[], bool]
    """Whether there is a light that can."""
    erase: Callable[[Erasure], None]
    """Has it carried out by whoever may touch the recordings."""
    erased: Callable[[str], Erased | None]
    """What became of that order on the card; None as long as nothing did."""
    exposed: Callable[[], str]
    """Why what was heard could get from memory to a disk; empty when it can't."""


@dataclass(slots=True)
class _Doing:
    """One command under way."""

    command: Command
    entry: Noted | None
    standing: Standing
    since_ns: int
    holds: bool
    """Whether `standing` is in force already."""
    refused: str | None = None
    """Why it's kept in mind, but not obeyed."""


class Orders:
    """Which orders hold. `quiet` is asked by every thread."""

    def __init__(
        self, settings: Settings, clock: Clock, vitals: Vitals, recipients: Recipients, runtime: Path, hands: Hands
    ) -> None:
        self._keys = frozenset(settings.commands.admin_keys)
        self._target = target_of(settings.device.site, settings.device.id)
        self._mute_ns = settings.privacy.mute_minutes * _MINUTE_NS
        self._has_button = settings.gpio.button != 0
        self._card = settings.spool.path
        self._memory = memory_of(runtime)
        self._clock = clock
        self._vitals = vitals
        self._hands = hands
        self._recipients = recipients
        self._configured = settings.seal.recipients
        self._rotation: Rotation | None = None
        self._mailbox = Mailbox(runtime)
        self._mark = 0
        self._taken: deque[tuple[str, bytes]] = deque()
        self._doing: _Doing | None = None
        self._standing = Standing()
        self._doubted_ns: int | None = None
        self._presses: deque[Callable[[], None]] = deque()
        self._muted_before = False
        """Whether the press that goes on found the room muted by an earlier one."""
        self.awake = threading.Event()
        """Set when there is something to look at."""
        self._keeper = Keeper(self._card, self._memory, clock, self.awake.set)

    def remember(self) -> None:
        """Before anybody may hear the room: what held when the last process ended.

        Raises KioskError when recordings may have to be encrypted, and nobody knows to whom.
        """
        self._rotation = rotation.remembered(
            self._card, self._memory, keys=self._keys, target=self._target, configured=self._configured
        )
        if self._rotation is not None:
            self._recipients.change(self._rotation.recipients)
            log.info("recordings are encrypted to %d keys that were ordered by command", len(self._recipients.now))
        # Nobody knows who had it muted when that can't be read any more: the stronger one counts.
        source: Source = "button" if self._has_button else "command"
        self._standing = remembered(self._card, self._memory, self.now(), self._mute_ns, source)
        if self._standing.generation:
            # Of two copies the newer was found: now both places have it.
            self._keeper.keep(self._standing, self._rotation)
        else:
            # Nothing was ever ordered: a restart while the card can't be read knows that, too.
            self._keeper.note(self._standing)
        quiet = self.quiet()
        if quiet is not None:
            log.info("the room stays %s%s", quiet.reason, self._until(quiet))

    def quiet(self) -> Quiet | None:
        """What keeps the room from being heard now, if anything does."""
        quiets = self._standing.quiets
        return in_force(quiets, self.now()) if quiets else None

    def until_heard_ns(self) -> int | None:
        """How long nobody may hear the room; None until somebody lifts it."""
        return until_heard_ns(self._standing.quiets, self.now())

    @property
    def keeping(self) -> Keeping:
        """Whether what was ordered last survives a power cut."""
        return self._keeper.keeping

    @property
    def rotated_ns(self) -> int | None:
        """When the command was issued that named the recipients; None: the file did."""
        return None if self._rotation is None else self._rotation.issued_ns

    def press(self) -> None:
        """The button went down. From any thread; it holds with the main thread's next turn, which comes at once."""
        self._presses.append(self._pressed)
        self.awake.set()

    def hold(self) -> None:
        """It has been down for a while. As `press`."""
        self._presses.append(self._held)
        self.awake.set()

    def poke(self) -> None:
        """From a thread that turns anyway: wake the main one when there is something to do."""
        mark = self._mailbox.mark()
        if mark != self._mark or self._doing is not None:
            self._mark = mark
            self.awake.set()

    def step(self) -> float:
        """Carry on with everything; seconds until there may be more to do."""
        self.awake.clear()
        while self._presses:
            self._presses.popleft()()
        if self._doing is None:
            self._look()
        if self._doing is not None:
            self._carry_on(self._doing)
        self._keeper.step()
        return _BUSY_S if self._doing is not None or self._taken else _REST_S

    # The button.

    def _pressed(self) -> None:
        now, quiets = self.now(), self._newest.quiets
        self._muted_before = by_button(quiets, now) is not None
        log.info("muted by the button for %d min", self._mute_ns // _MINUTE_NS)
        mute = begun("muted", "button", self._mute_ns, now)
        self._change(joined(quiets, mute, now), now, {"did": "mute", "minutes": self._mute_ns // _MINUTE_NS})

    def _held(self) -> None:
        # A press mutes: who leans on the button must not take back what that very press began.
        if self._muted_before:
            log.info("the mute is taken back by the button")
            now = self.now()
            self._change(without(self._newest.quiets, "button", now), now, {"did": "lift"})

    @property
    def _newest(self) -> Standing:
        """What holds, or is about to."""
        return self._doing.standing if self._doing is not None else self._standing

    def _change(self, quiets: tuple[Quiet, ...], now: Moment, told: dict[str, Any]) -> None:
        """What was wanted by the button holds at once; what was about to hold does so with it."""
        standing = self._newest.quieted(quiets, now)
        self._standing = standing
        if self._doing is not None:
            self._doing.standing, self._doing.holds = standing, True
        self._hands.hush()
        self._vitals.noted.append(Noted("button", told))
        self._keeper.keep(standing, self._rotation)

    # Commands.

    def _look(self) -> None:
        try:
            self._taken.extend(self._mailbox.take().items())
        except OSError as error:
            log.warning("can't look for commands: %s", error)
        if self._taken:
            self._begin(*self._taken.popleft())

    def _begin(self, name: str, payload: bytes) -> None:
        now = self.now()
        judged = judge(
            payload,
            retained=False,
            keys=self._keys,
            target=self._target,
            now_ns=now.wall_ns,
            seen=self._standing.obeyed.__contains__,
            able=ABLE | {"identify"} if self._hands.lit() else ABLE,
        )
        if isinstance(judged, Refusal):
            log.warning("a command is refused (%s): %s", judged.reason, judged.text)
            self._reply(name, {"ok": False, "error": judged.reason, "text": judged.text, "output": None})
            return
        text = self._rotate(rotation_of(judged, payload)) if judged.verb == rotation.VERB else ""
        if text:
            log.warning("recipients stay as they are: %s", text)
            self._reply(name, {"ok": False, "error": "failed", "text": text, "output": None})
            return
        refused = "muted_in_room" if judged.verb == "resume" and by_button(self._standing.quiets, now) else None
        quiets = self._standing.quiets if refused else self._after(judged, now)
        standing = self._standing.after(quiets, judged.id, judged.expires_ns, now)
        entry = None if refused else _entry(judged, payload)
        silencing = judged.verb in ("pause", "mute")
        if silencing:
            self._standing = standing
            self._hands.hush()
        log.info("%s by command: %s", "not obeyed" if refused else "ordered", judged.verb)
        if entry is not None:
            self._vitals.noted.append(entry)
        if judged.verb == "erase":
            self._hands.erase(_erasure(judged, now))
        self._doing = _Doing(judged, entry, standing, now.monotonic_ns, silencing, refused)
        self._keeper.keep(standing, self._rotation)

    def _after(self, command: Command, now: Moment) -> tuple[Quiet, ...]:
        quiets, minutes = self._standing.quiets, command.args.get("minutes")
        length_ns = None if minutes is None else minutes * _MINUTE_NS
        if command.verb == "pause":
            return joined(quiets, begun("paused", "command", length_ns, now), now)
        if command.verb == "mute":
            return joined(quiets, begun("muted", "command", length_ns or self._mute_ns, now), now)
        return without(quiets, "command", now) if command.verb == "resume" else quiets

    def _rotate(self, ordered: Rotation) -> str:
        """Encrypt to others from the next segment on; empty, or why not.

        An older command must not bring back who was revoked. Where it's the first to have anything encrypted, memory
        must be as safe as at a start; who is taken out of a set that counts already, is so in any case.
        """
        if self._rotation is not None and ordered.issued_ns < self._rotation.issued_ns:
            return "a command that was issued later than this one has named other recipients"
        if not self._recipients.now and (cause := self._hands.exposed()):
            return f"{cause}: a recorder that encrypts wouldn't start here; {EXPOSED_HINT}"
        self._recipients.change(ordered.recipients)
        self._rotation = ordered
        return ""

    def _carry_on(self, doing: _Doing) -> None:
        entered = doing.entry not in self._vitals.noted
        kept = self._keeper.has(doing.standing)
        failed = not kept and not self._keeper.trying
        heard = doing.command.verb in ("pause", "mute") and self._vitals.microphone not in ("paused", "muted")
        late = self._clock.monotonic_ns() - doing.since_ns > _PATIENCE_NS
        erasing = doing.command.verb == "erase" and self._hands.erased(doing.command.id) is None
        if not late and (heard or erasing or not entered or not (kept or failed)):
            return
        self._doing = None
        if not doing.holds:
            self._standing = doing.standing
        text = "" if kept and entered else "the card doesn't take it: it survives a restart, but no power cut"
        if doing.refused is not None:
            self._answer(doing, doing.refused, f"it {REASONS[doing.refused][0]}")
        elif heard:
            self._answer(doing, "failed", "the microphone could not be closed yet; it will be as soon as it answers")
        elif erasing:
            self._answer(doing, "failed", "the card doesn't answer yet; what lies there is erased as soon as it does")
        else:
            self._answer(doing, None, text)
        if doing.command.verb == "restart":
            self._hands.restart()
        elif doing.command.verb == "identify":
            self._hands.identify(doing.command.args.get("minutes", 1))

    def _answer(self, doing: _Doing, error: str | None, text: str) -> None:
        erased = self._hands.erased(doing.command.id)
        output = self._output() if erased is None else asdict(erased)
        if doing.command.verb == rotation.VERB:
            output = {"recipients": len(self._recipients.now)}
        self._reply(doing.command.id, {"ok": error is None, "error": error, "text": text, "output": output})

    def _output(self) -> dict[str, Any]:
        quiet, now = self.quiet(), self.now()
        if quiet is None:
            return {"quiet": None}
        left = left_ns(quiet, now)
        until = None if left is None or now.wall_ns is None else timestamp(now.wall_ns + left)
        return {"quiet": quiet.reason, "by": quiet.source, "until": until}

    def _reply(self, name: str, content: dict[str, Any]) -> None:
        try:
            self._mailbox.reply(name, content)
        except OSError as error:
            log.warning("can't answer a command: %s", error)

    def _until(self, quiet: Quiet) -> str:
        left = left_ns(quiet, self.now())
        return ", until it's lifted" if left is None else f" for {left / _MINUTE_NS:.1f} min"

    def now(self) -> Moment:
        """This moment, as far as it can be told."""
        monotonic_ns = self._clock.monotonic_ns()
        wall_ns = self._vitals.wall_ns(monotonic_ns)
        if wall_ns is None:
            self._doubted_ns = monotonic_ns
        return Moment(self._clock.boot, monotonic_ns, wall_ns, self._doubted_ns)


def _entry(command: Command, payload: bytes) -> Noted:
    """A command that counts, for the journal: with the key that signed it and the hash of what came."""
    sha256 = hashlib.sha256(payload).hexdigest()
    body = {"id": command.id, "key": command.key, "verb": command.verb, "args": dict(command.args), "sha256": sha256}
    return Noted("command", body)


def _erasure(command: Command, now: Moment) -> Erasure:
    """What a command to erase is about. Nothing that is yet to be heard."""
    args, now_ns = command.args, now.wall_ns or 0
    to_ns = min(moment(args["to"]), now_ns) if "to" in args else now_ns
    from_ns = moment(args["from"]) if "from" in args else now_ns - Duration.parse(args["last"]).ns
    return Erasure(command.id, from_ns, to_ns, args.get("reason", ""))
