"""Which recordings may go out next, in which order and under which key."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from agent.contract.keys import Recording
from agent.courier.dating import Dating
from agent.courier.targets import Outgoing, Target
from agent.courier.worker import Job
from agent.errors import KioskError
from agent.ledger import Boot, Ledger, Segment
from agent.settings import Settings
from agent.spool import Layout, SegmentFile, SegmentName
from agent.units import NS_PER_S
from hw.clock import Clock

BATCH = 64
"""Keys that are fixed in one commit."""

_ASIDE_NS = 600 * NS_PER_S


class Due:
    """The pending recordings, seen through everything that keeps one of them waiting."""

    def __init__(self, ledger: Ledger, layout: Layout, target: Target, settings: Settings, clock: Clock) -> None:
        self._ledger = ledger
        self._layout = layout
        self._target = target
        self._device = settings.device
        self._newest_first = settings.upload.order == "newest"
        self._clock = clock
        self._dating = Dating(ledger, target, settings, clock)
        self._boots: dict[str, Boot] = {}
        self._mark: int | None = None
        self._more = True
        self._aside: dict[SegmentName, int] = {}
        self._refused: set[SegmentName] = set()
        self.exhausted = False
        """Whether the last look left nothing that may go out now."""
        self.trouble: KioskError | None = None
        """Why the store couldn't tell what time it is, when it was last asked."""

    def reordered(self) -> bool:
        """Whether something newer may have come that goes before what was found earlier."""
        return self._newest_first and self._ledger.change_mark() != self._mark

    def worth_a_look(self) -> bool:
        """Whether `look` could find more than it did; cheap, and false while nothing happens."""
        now_ns = self._clock.monotonic_ns()
        returning = any(until_ns <= now_ns for until_ns in self._aside.values())
        return self._more or returning or self._ledger.change_mark() != self._mark

    def learn_time(self) -> None:
        """Ask the store what time it is, if it has come to that and something waits for it."""
        asking = self._dating.is_due() and any(self._ledger.kept("pending", limit=1))
        self.trouble = self._dating.repair() if asking else None

    def look(self, busy: AbstractSet[SegmentName]) -> list[Segment]:
        """A batch of what may go out now, in order, without what is `busy`."""
        now_ns = self._clock.monotonic_ns()
        self._mark = self._ledger.change_mark()
        self._aside = {name: until_ns for name, until_ns in self._aside.items() if until_ns > now_ns}
        waiting = busy | self._aside.keys()
        limit = len(waiting) + len(self._refused) + BATCH
        found = list(self._ledger.kept("pending", limit=limit, newest=self._newest_first))
        left = [segment for segment in found if segment.name not in waiting]
        if left:
            self._boots = {boot.boot: boot for boot in self._ledger.boots()}
        left.sort(key=lambda segment: segment.name in self._refused)
        due = [segment for segment in left if segment.key or self._dating.may_date(segment, self._boots[segment.boot])]
        cut_short = len(found) == limit
        self._more = bool(left) or cut_short
        self.exhausted = not (due or cut_short)
        return due

    def job(self, segment: Segment) -> Job | None:
        """What a worker needs to know of a recording that `look` found; fixes its key in the ledger.

        None when it was erased or given up meanwhile: what has no key then never gets one.
        """
        boot = self._boots[segment.boot]
        path = self._layout.audio(segment.name)
        recording = Recording(
            run=segment.run,
            seq=segment.seq,
            start_ns=boot.offset_ns + segment.begin_ns,
            frames=segment.frames,
            rate=segment.rate,
            channels=segment.channels,
            boot=segment.boot,
            clock=boot.clock,
            truncated=segment.truncated,
            sha256=segment.sha256,
            suffix=SegmentFile.suffix_of(path),
        )
        key = segment.key
        if key is None:
            key = recording.key(self._target.prefix, self._device.site, self._device.id)
            if not self._ledger.fix_key(segment.name, key, boot.clock, pending=True):
                return None
        return Job(
            segment,
            Outgoing(path=path, key=key, sha256=segment.sha256, size=segment.bytes, metadata=recording.metadata()),
        )

    def came_back(self, name: SegmentName, *, refused: bool) -> None:
        """It is still due; behind all others if the store `refused` it, so that it can't block them."""
        self._more = True
        (self._refused.add if refused else self._refused.discard)(name)

    def arrived(self, name: SegmentName) -> None:
        """It is in the store."""
        self._refused.discard(name)

    def set_aside(self, name: SegmentName) -> None:
        """Its file gives trouble: leave it alone for ten minutes."""
        self._refused.discard(name)
        self._aside[name] = self._clock.monotonic_ns() + _ASIDE_NS

    def start_over(self) -> None:
        """What was found earlier was dropped: look again."""
        self._more = True
