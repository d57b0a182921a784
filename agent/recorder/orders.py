"""Commands that concern recording: taken from the courier's mailbox, judged here, carried out, answered.

The courier can't be trusted with them: it could be taken over by whoever is on the network. So the recorder judges each
payload itself. In order, for one that counts:

    1. a pause or mute holds at once: the capture thread closes the microphone
    2. it's kept, in memory and on the card, by a thread of its own, which a stuck card may keep
    3. it's entered in the journal by the writer, with its next turn
    4. it's answered, when all of that is done; a `resume` holds only then, and a `restart` begins

`step` belongs to the main thread, which never touches the card. Whoever turns often calls `poke`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.contract.commands import Command, Refusal, judge, target_of
from agent.contract.keys import timestamp
from agent.mailbox import Mailbox
from agent.recorder import rotation
from agent.recorder.encryption import Recipients
from agent.recorder.quiet import Moment, Quiet, begun, in_force, joined, left_ns, lifted
from agent.recorder.rotation import Rotation, rotation_of
from agent.recorder.standing import Standing, keep, remembered
from agent.recorder.vitals import Obeyed, Vitals
from agent.settings import Settings
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

ABLE: Final = frozenset({"pause", "resume", "mute", "restart", rotation.VERB})

_REST_S: Final = 5.0
"""How often to look without being poked: while a stuck card keeps the writer from turning."""

_BUSY_S: Final = 0.1
"""How often to look whether what is under way is done."""

_PATIENCE_NS: Final = 25 * NS_PER_S
"""For card and journal: a stuck card is given up after 15 s, and another writer goes on."""

_KEEP_AGAIN_NS: Final = 60 * NS_PER_S
_MINUTE_NS: Final = 60 * NS_PER_S


@dataclass(slots=True)
class _Doing:
    """One command under way."""

    command: Command
    entry: Obeyed
    standing: Standing
    since_ns: int
    holds: bool
    """Whether `standing` is in force already."""


class Orders:
    """Which commands hold. `quiet` is asked by every thread."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        vitals: Vitals,
        recipients: Recipients,
        runtime: Path,
        restart: Callable[[], None],
    ) -> None:
        """`restart` ends this process in a way that has it started again."""
        self._keys = frozenset(settings.commands.admin_keys)
        self._target = target_of(settings.device.site, settings.device.id)
        self._mute_ns = settings.privacy.mute_minutes * _MINUTE_NS
        self._card = settings.spool.path
        self._runtime = runtime
        self._clock = clock
        self._vitals = vitals
        self._restart = restart
        self._recipients = recipients
        self._configured = settings.seal.recipients
        self._rotation: Rotation | None = None
        self._mailbox = Mailbox(runtime)
        self._mark = 0
        self._taken: deque[tuple[str, bytes]] = deque()
        self._doing: _Doing | None = None
        self._standing = Standing()
        self._keeper: threading.Thread | None = None
        self._kept = 0
        """The generation that is on the card."""
        self._tried_ns = 0
        self.awake = threading.Event()
        """Set when there is something to look at."""

    def remember(self) -> None:
        """Before anybody may hear the room: what held when the last process ended.

        Raises KioskError when recordings may have to be encrypted, and nobody knows to whom.
        """
        self._rotation = rotation.remembered(
            self._card, self._runtime, keys=self._keys, target=self._target, configured=self._configured
        )
        if self._rotation is not None:
            self._recipients.change(self._rotation.recipients)
            log.info("recordings are encrypted to %d keys that were ordered by command", len(self._recipients.now))
        self._standing = remembered(self._card, self._runtime, self.now(), self._mute_ns)
        self._kept = self._standing.generation
        quiet = self.quiet()
        if quiet is not None:
            log.info("the room stays %s%s", quiet.reason, self._until(quiet))

    def quiet(self) -> Quiet | None:
        """What keeps the room from being heard now, if anything does."""
        quiets = self._standing.quiets
        return in_force(quiets, self.now()) if quiets else None

    def poke(self) -> None:
        """From a thread that turns anyway: wake the main one when there is something to do."""
        mark = self._mailbox.mark()
        if mark != self._mark or self._doing is not None:
            self._mark = mark
            self.awake.set()

    def step(self) -> float:
        """Carry on with everything; seconds until there may be more to do."""
        self.awake.clear()
        if self._doing is None:
            self._look()
        if self._doing is not None:
            self._carry_on(self._doing)
        elif self._kept < self._standing.generation and self._clock.monotonic_ns() - self._tried_ns > _KEEP_AGAIN_NS:
            self._begin_to_keep(self._standing)
        return _BUSY_S if self._doing is not None or self._taken else _REST_S

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
            able=ABLE,
        )
        if isinstance(judged, Refusal):
            log.warning("a command is refused (%s): %s", judged.reason, judged.text)
            self._reply(name, {"ok": False, "error": judged.reason, "text": judged.text, "output": None})
            return
        if judged.verb == rotation.VERB and not self._rotate(rotation_of(judged, payload)):
            text = "a command that was issued later than this one has named other recipients"
            self._reply(name, {"ok": False, "error": "failed", "text": text, "output": None})
            return
        quiets = self._after(judged, now)
        standing = self._standing.after(quiets, judged.id, judged.expires_ns, now)
        entry = Obeyed(judged.id, judged.key, judged.verb, dict(judged.args), hashlib.sha256(payload).hexdigest())
        silencing = judged.verb in ("pause", "mute")
        if silencing:
            self._standing = standing
        log.info("ordered by command: %s", judged.verb)
        self._vitals.obeyed.append(entry)
        self._doing = _Doing(judged, entry, standing, now.monotonic_ns, silencing)
        self._begin_to_keep(standing)

    def _after(self, command: Command, now: Moment) -> tuple[Quiet, ...]:
        quiets, minutes = self._standing.quiets, command.args.get("minutes")
        length_ns = None if minutes is None else minutes * _MINUTE_NS
        if command.verb == "pause":
            return joined(quiets, begun("paused", "command", length_ns, now), now)
        if command.verb == "mute":
            return joined(quiets, begun("muted", "command", length_ns or self._mute_ns, now), now)
        return lifted(quiets, now) if command.verb == "resume" else quiets

    def _rotate(self, ordered: Rotation) -> bool:
        """Encrypt to others from the next segment on. False: an older command must not bring back who was revoked."""
        if self._rotation is not None and ordered.issued_ns < self._rotation.issued_ns:
            return False
        self._recipients.change(ordered.recipients)
        self._rotation = ordered
        return True

    def _carry_on(self, doing: _Doing) -> None:
        entered = doing.entry not in self._vitals.obeyed
        kept = self._kept >= doing.standing.generation
        failed = not kept and (self._keeper is None or not self._keeper.is_alive())
        heard = doing.command.verb in ("pause", "mute") and self._vitals.microphone not in ("paused", "muted")
        late = self._clock.monotonic_ns() - doing.since_ns > _PATIENCE_NS
        if not late and (heard or not entered or not (kept or failed)):
            return
        self._doing = None
        if not doing.holds:
            self._standing = doing.standing
        if heard:
            text = "the microphone could not be closed yet; it will be as soon as it answers"
            self._reply(doing.command.id, {"ok": False, "error": "failed", "text": text, "output": None})
            return
        text = "" if kept and entered else "the card doesn't take it: it survives a restart, but no power cut"
        output = self._output() if doing.command.verb != rotation.VERB else {"recipients": len(self._recipients.now)}
        self._reply(doing.command.id, {"ok": True, "error": None, "text": text, "output": output})
        if doing.command.verb == "restart":
            self._restart()

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

    def _begin_to_keep(self, standing: Standing) -> None:
        """In memory at once, on the card by a thread that may get stuck there."""
        self._tried_ns = self._clock.monotonic_ns()
        try:
            if self._rotation is not None:
                rotation.keep(self._runtime, self._rotation, durable=False)
            keep(self._runtime, standing, durable=False)
        except OSError as error:
            log.warning("can't keep in memory what was ordered: %s", error)
        if self._keeper is None or not self._keeper.is_alive():
            args = (standing, self._rotation)
            self._keeper = threading.Thread(target=self._keep, args=args, name="orders", daemon=True)
            self._keeper.start()

    def _keep(self, standing: Standing, ordered: Rotation | None) -> None:
        try:
            if ordered is not None:
                rotation.keep(self._card, ordered, durable=True)
            keep(self._card, standing, durable=True)
        except OSError as error:
            log.warning("can't keep on the card what was ordered: %s", error)
            return
        self._kept = standing.generation
        self.awake.set()

    def _until(self, quiet: Quiet) -> str:
        left = left_ns(quiet, self.now())
        return ", until it's lifted" if left is None else f" for {left / _MINUTE_NS:.1f} min"

    def now(self) -> Moment:
        """This moment, as far as it can be told."""
        monotonic_ns = self._clock.monotonic_ns()
        return Moment(self._clock.boot, monotonic_ns, self._vitals.wall_ns(monotonic_ns))
