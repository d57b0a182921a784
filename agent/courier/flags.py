"""The flag desk: hears what the fleet decided, believes what is signed and newer, and lets the recorder know.

A document counts after, in this order: the signature of one of `flags.keys`; a version above that of the one that
counts; its check; being evaluated; being kept on the card (which is waited for a moment only). A document that fails
takes nothing away. At the start the one on the card is judged anew in the same way, without a broker: a key that is no
longer listed takes back what it signed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

from agent.contract.evaluation import Target, checked, variants, version_of
from agent.contract.messages import FLAGS, Heard
from agent.contract.signed import LONGEST_BYTES, Refused, Signed, opened
from agent.courier.conversation import IDLE_S, Line
from agent.courier.flag_memory import FlagMemory
from agent.courier.ration import Ration
from agent.errors import KioskError
from agent.flags import FILE_NAME, InForce, judged, overrides, read_variants, show_variants
from agent.spool import Layout
from hw.clock import Clock

log = logging.getLogger(__name__)

_MOST_WAITING: Final = 4


class FlagDesk:
    """Works in a thread of its own, `run`; everybody reads `in_force`, which is replaced as a whole."""

    def __init__(
        self,
        keys: Collection[str],
        target: Target,
        layout: Layout,
        runtime: Path,
        clock: Clock,
        stop: threading.Event,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`keys` may sign documents about this kiosk, the `target`. Raises KioskError for a wrong environment."""
        self._keys = keys
        self._target = target
        self._state = layout.state
        self._runtime = runtime
        self._clock = clock
        self._stop = stop
        self._environ = environ
        self._memory = FlagMemory(layout.state)
        self._awake = threading.Event()
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._signed: Signed | None = None
        """The document that counts."""
        self._version = 0
        """The highest that a listed key signed."""
        self._unshown: Mapping[str, str] | None = None
        """What the recorder doesn't know yet."""
        self._trouble = ""
        self._refused = b""
        # Whoever may write to the topic must not fill journal and card with what isn't signed.
        self._complaints = Ration(most=10, per_minute=1)
        self.overridden: Mapping[str, str] = overrides(environ)
        """What the environment chooses, by flag."""
        self.in_force: InForce | None = None
        """None before the card was asked."""
        self.changed: Callable[[], None] = lambda: None
        """Called when that is new."""
        self.note: Callable[[str, Mapping[str, Any]], None] = lambda _name, _facts: None
        """Called with what the fleet should hear of."""

    @property
    def listens_to(self) -> Mapping[str, Callable[[Heard], None]]:
        return {FLAGS: self.hear} if self._keys else {}

    def greet(self, line: Line) -> None:
        """Nothing: the broker repeats the document by itself."""

    def step(self, line: Line) -> float:  # noqa: ARG002 (a subject's)
        return IDLE_S

    def hear(self, heard: Heard) -> None:
        """Judge a payload from the fleet, soon. Called on the connection's own thread."""
        self._waiting.append(heard.payload[: LONGEST_BYTES["flags"] + 1])
        self._awake.set()

    def wake(self) -> None:
        """Have `run` notice that the process ends."""
        self._awake.set()

    def run(self) -> None:
        """Until the process is asked to end."""
        self.begin()
        while not self._stop.is_set():
            self._clock.wait(self._awake, self.work())
            self._awake.clear()

    def begin(self) -> None:
        """Judge what the card remembers."""
        try:
            payload = self._memory.payload()
        except OSError as error:
            # Nobody took anything back: the recorder goes on by what it knows.
            log.warning("the card can't tell the flag document, what was chosen stays: %s", error)
            self._tell(InForce(read_variants(self._runtime, self._state, self._environ), None))
            return
        try:
            if payload is not None:
                self._believe(payload, kept=True)
        except Refused as refused:
            self._refuse("the flag document on the card doesn't count any more", refused)
        if self._signed is None:
            # Only if something was chosen before: most kiosks never write either file.
            if any((place / FILE_NAME).exists() for place in (self._runtime, self._state)):
                self._put({}, None)
            self._tell(InForce(judged(self.overridden, []), None))

    def work(self) -> float:
        """Judge what was heard; seconds until something will be due."""
        while self._waiting:
            self._take(self._waiting.popleft())
        self._show()
        self._memory.again()
        return IDLE_S

    def _take(self, payload: bytes) -> None:
        if not payload:
            log.info("the broker has no flag document any more: what was chosen stays")
            return
        digest = hashlib.sha256(payload).digest()
        if digest == self._refused:
            return
        try:
            self._believe(payload)
        except Refused as refused:
            self._refused = digest
            self._refuse("a flag document is refused", refused)

    def _believe(self, payload: bytes, *, kept: bool = False) -> None:
        """Let a document count; `kept`: it stands on the card. Raises Refused."""
        signed = opened("flags", payload, self._keys)
        known = self._signed
        same = known is not None and signed.document == known.document
        if known is not None and same and signed.key == known.key:
            return
        version = version_of(signed.document)
        if not same:
            # The same, signed by another key, takes its place: the first may cease to be listed.
            self._check_version(version)
        if kept:
            # Also when this release doesn't understand it any more: an older one stays older.
            self._version = version
        document = checked(signed.document)
        found = variants(document, self._target)
        chosen = {name: found[name] for name in document.flags}
        self._signed, self._version = signed, version
        for text in document.notes:
            log.info("flag document %d: %s", version, text)
        self._put(chosen, None if kept else payload)
        in_force = InForce(judged(self.overridden, [chosen]), version)
        if not kept and not same:
            told = {name: variant.name for name, variant in in_force.variants.items()}
            self.note("flags", {"version": version, "variants": told})
        self._tell(in_force)

    def _check_version(self, version: int) -> None:
        if version < self._version:
            raise Refused("older_version", f"version {version} is older than {self._version}")
        if version == self._version and self._signed is not None:
            raise Refused("same_version", f"version {version} counts already, and says something else")

    def _put(self, chosen: Mapping[str, str], payload: bytes | None) -> None:
        """On the card, then to the recorder."""
        self._unshown = chosen
        self._memory.keep(payload, chosen)
        self._show()

    def _show(self) -> None:
        if self._unshown is None:
            return
        try:
            show_variants(self._runtime, self._unshown)
        except OSError as error:
            cause = error.strerror or str(error)
            level = logging.WARNING if cause != self._trouble else logging.DEBUG
            log.log(level, "%s", KioskError("tell recorder flags", place=str(self._runtime), cause=cause))
            self._trouble = cause
        else:
            self._unshown, self._trouble = None, ""

    def _tell(self, in_force: InForce) -> None:
        if in_force != self.in_force:
            told = ", ".join(f"{name}={each.name} ({each.source})" for name, each in in_force.variants.items())
            log.info("flags by document %s: %s", in_force.version or "none", told)
            self.in_force = in_force
            self.changed()

    def _refuse(self, what: str, refused: Refused) -> None:
        if self._complaints.grants(self._clock.monotonic_ns()) is None:
            log.debug("%s: %s", what, refused)
            return
        log.warning("%s: %s (%s)", what, refused, refused.reason)
        self.note("flags_refused", {"reason": refused.reason, "text": str(refused), "version": self._version or None})
