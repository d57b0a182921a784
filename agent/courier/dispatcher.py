"""Keeps the upload workers busy, and tells the ledger what became of it.

The dispatcher is the only thread of the uploads that has a ledger. It fixes keys and enters acknowledgements in
batches, because one commit costs the card the same whether it says one thing or fifty.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter, deque
from dataclasses import replace
from queue import Empty

from agent.courier.activity import Activity
from agent.courier.due import BATCH, Due
from agent.courier.openings import Hurry, Openings
from agent.courier.standing import Hold, holds, next_hold
from agent.courier.targets import Target, TargetError
from agent.courier.worker import LONGEST_ATTEMPT_S, Job, Lines, Report
from agent.errors import KioskError
from agent.ledger import Ledger
from agent.settings import Settings
from agent.spool import Layout, SegmentName
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

POLL_S = 1.0
_SETTLE_NS = NS_PER_S
_COUNT_NS = 30 * NS_PER_S
"""Failed attempts are entered this often: so much of them a kill may leave uncounted (docs/MQTT.md)."""
_LEDGER_RETRY_S = 5.0


class Dispatcher:
    """Hands out jobs and takes in reports. Belongs to the thread that owns `ledger`."""

    def __init__(
        self,
        ledger: Ledger,
        layout: Layout,
        target: Target,
        settings: Settings,
        lines: Lines,
        activity: Activity,
        clock: Clock,
        openings: Openings | None = None,
    ) -> None:
        """`openings` are for all spools together; without them the hours of `settings` count."""
        self._ledger = ledger
        self._layout = layout
        self._parallel = settings.upload.parallel
        self._openings = openings or Openings(settings)
        self._hurried: Hurry | None = None
        """The last hurry in which everything went that had waited."""
        self._lines = lines
        self._activity = activity
        self._clock = clock
        self._due = Due(ledger, layout, target, settings, clock)
        self._ready: deque[Job] = deque()
        self._in_flight: dict[SegmentName, Job] = {}
        self._finished: list[Report] = []
        self._uncounted: Counter[str] = Counter()
        self._settle_ns = 0
        self._arrived = 0
        self._refilled_ns: int = clock.monotonic_ns()
        self._depth = 2 * settings.upload.parallel
        self._count_ns = clock.monotonic_ns() + _COUNT_NS
        self._inode = layout.ledger.stat().st_ino
        self._hold: Hold | None = None
        self._stumbled: KioskError | None = None
        self.passed_over: KioskError | None = None
        """The last thing that was wrong with one recording here, not with the store."""

    def run(self) -> None:
        """Turn until the process is asked to end. A card that takes no entries now is asked again, for ever."""
        wait_s, told = 0.0, False
        while not self._lines.stop.is_set():
            try:
                self.step(wait_s)
            except (OSError, sqlite3.OperationalError) as error:
                if not told:
                    log.error("the ledger takes no entries, uploads wait: %s", error)  # noqa: TRY400 (it says enough)
                told = True
                self._clock.wait(self._lines.stop, _LEDGER_RETRY_S)
            else:
                wait_s, told = POLL_S, False

    def drain(self) -> None:
        """Upload what is due now and return; raises the KioskError of a store that doesn't take it.

        For workers that give up after a few attempts.
        """
        self.step(0)
        while not (self._idle or self._stumbled or self._lines.stop.is_set()):
            self.step()
        if self._stumbled is not None:
            self._lines.held.set()
            self.finish(LONGEST_ATTEMPT_S)
            raise self._stumbled

    def step(self, wait_s: float = POLL_S) -> None:
        """Take in what the workers report, waiting up to `wait_s` for it; enter it; hand out what is due."""
        self._follow_ledger()
        self._collect(wait_s)
        now_ns = self._clock.monotonic_ns()
        # First, because looking for more enters what has finished in the same commit.
        self._hand_out(now_ns)
        complete = len(self._finished) >= BATCH or not (self._in_flight or self._ready)
        if (self._finished and (complete or now_ns >= self._settle_ns)) or now_ns >= self._count_ns:
            self._settle()
        self._activity.show()

    def finish(self, grace_s: float) -> None:
        """Give uploads that are nearly there `grace_s` to arrive, and enter everything. The last thing it does."""
        end_ns = self._clock.monotonic_ns() + round(grace_s * NS_PER_S)
        while self._in_flight and (left_ns := end_ns - self._clock.monotonic_ns()) > 0:
            self._collect(left_ns / NS_PER_S)
        self._settle()

    def _collect(self, wait_s: float) -> None:
        try:
            report = self._lines.reports.get(timeout=wait_s) if wait_s else self._lines.reports.get_nowait()
            while True:
                if report is not None:
                    self._take_in(report)
                report = self._lines.reports.get_nowait()
        except Empty:
            return

    def _take_in(self, report: Report) -> None:
        name = report.job.segment.name
        del self._in_flight[name]
        if report.outcome == "deferred":
            self._due.came_back(name, refused=self._judge(report))
        elif report.outcome in ("gone", "unreadable"):
            self._pass_over(report)
        else:
            self._due.arrived(name)
            if report.outcome != "damaged":
                self._hold = None
                self._lines.held.clear()
                self._arrived += 1
            if not self._finished:
                self._settle_ns = self._clock.monotonic_ns() + _SETTLE_NS
            self._finished.append(report)

    def _judge(self, report: Report) -> bool:
        """Whether the store refused this one in a way that concerns all uploads; then they are held."""
        error = report.error
        self._stumbled = error or self._stumbled
        if not isinstance(error, TargetError) or not holds(error):
            return False
        # Of several uploads refused at the same time the first one counts, or one refusal would double the wait.
        if self._hold is None or report.job.probe:
            self._hold = next_hold(self._hold, error, self._clock.monotonic_ns())
        self._lines.held.set()
        self._ready.clear()
        return True

    def _pass_over(self, report: Report) -> None:
        name = report.job.segment.name
        self._due.set_aside(name)
        known = self._ledger.segment(name)
        if known is not None and known.state == "pending":
            self.passed_over = report.error
            log.error("a recording can't be uploaded now and is passed over: %s", report.error)

    def _settle(self) -> None:
        """Enter what has finished and what was counted, in one transaction."""
        self._enter()
        self._finished.clear()
        self._uncounted.clear()

    def _enter(self) -> None:
        self._uncounted.update(self._activity.take_uncounted())
        self._count_ns = self._clock.monotonic_ns() + _COUNT_NS
        if not (self._finished or self._uncounted):
            return
        with self._ledger.transaction():
            arrived = [report for report in self._finished if report.outcome != "damaged"]
            for report in arrived:
                self._ledger.acknowledge(report.job.segment.name, report.outcome)
            for report in self._finished:
                if report.outcome == "damaged":
                    self._report_damage(report)
            self._ledger.count(
                **self._uncounted,
                uploaded_total=len(arrived),
                verified_seconds_total=sum(report.job.segment.seconds for report in arrived),
            )
        for report in arrived:
            log.debug("%s is %s as %s", report.job.segment.name, report.outcome, report.job.outgoing.key)

    def _report_damage(self, report: Report) -> None:
        known = self._ledger.segment(report.job.segment.name)
        if known is not None and known.state == "pending":
            self._ledger.settle(known.name, "damaged", report.error.cause if report.error else "")
            self.passed_over = report.error
            log.error("a recording is damaged: %s", report.error)

    def _hand_out(self, now_ns: int) -> None:
        # Before anything else: while nobody knows what time it is, nobody knows the hours either.
        self._due.learn_time()
        self._stumbled = self._due.trouble or self._stumbled
        if not self._is_open():
            self._lines.closed.set()
            self._ready.clear()
            self._due.start_over()
            return
        self._lines.closed.clear()
        probing = self._hold is not None
        if self._hold is not None and (now_ns < self._hold.retry_ns or self._in_flight):
            return
        room = 1 if probing else self._depth - len(self._in_flight)
        if room <= 0:
            return
        self._refill()
        while room and self._ready:
            job = replace(self._ready.popleft(), probe=probing)
            self._in_flight[job.segment.name] = job
            self._lines.jobs.put(job)
            room -= 1

    @property
    def _idle(self) -> bool:
        """Whether nothing is under way and nothing that may go out now was left at the last look."""
        busy = self._in_flight or self._finished or self._ready
        return not busy and (self._lines.closed.is_set() or self._due.exhausted)

    def _is_open(self) -> bool:
        hurry = self._openings.hurry
        if hurry is not None and hurry is not self._hurried:
            if not self._has_drained(hurry):
                return True
            self._hurried = hurry
        return self._openings.regular(self._ledger.now_ns())

    def _has_drained(self, hurry: Hurry) -> bool:
        """Whether all has gone that waited when the hurry began, or its time is over."""
        if self._clock.monotonic_ns() >= hurry.until_ns:
            return True
        oldest = next(self._ledger.kept("pending", limit=1), None)
        newer = oldest is None or (oldest.boot == self._ledger.boot and oldest.end_ns > hurry.since_ns)
        return newer and not self._finished

    def _refill(self) -> None:
        """Get another batch ready, when there is reason to look for one."""
        if self._due.reordered():
            self._ready.clear()
        if self._ready or not self._due.worth_a_look():
            return
        self._measure_depth()
        found = self._due.look({report.job.segment.name for report in self._finished} | self._in_flight.keys())
        if found:
            with self._ledger.transaction():
                self._enter()
                jobs = [job for segment in found if (job := self._due.job(segment)) is not None]
            # Only now: a key goes out when it's durable, and what the ledger didn't take is entered another time.
            self._finished.clear()
            self._uncounted.clear()
            self._ready.extend(jobs)

    def _measure_depth(self) -> None:
        """Workers get about a second's worth of jobs ahead, so that a commit on a slow card doesn't starve them."""
        now_ns = self._clock.monotonic_ns()
        seconds = max(1, now_ns - self._refilled_ns) / NS_PER_S
        self._depth = max(2 * self._parallel, min(BATCH, round(self._arrived / seconds)))
        self._arrived, self._refilled_ns = 0, now_ns

    def _follow_ledger(self) -> None:
        """End with the ledger: the recorder sets a damaged one aside and begins another under its name."""
        try:
            same = self._layout.ledger.stat().st_ino == self._inode
        except FileNotFoundError:
            same = False
        if not same:
            raise KioskError(
                "follow ledger",
                place=str(self._layout.ledger),
                cause="the recorder began a new one",
                hint="the courier starts again with that one by itself",
                retryable=True,
            )
