"""One upload at a time, tried until it is there.

Retries decorate the port here and nowhere else. A worker has no ledger: it gets jobs and gives reports by queue.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Literal

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_never,
    wait_random_exponential,
)

from agent.courier.activity import Activity
from agent.courier.pace import Gone, Interrupted, Pace, Unreadable, unreadable
from agent.courier.standing import Standing
from agent.courier.targets import ClockRefused, DigestRefused, NeedsPerson, Outgoing, Receipt, Target, Unreachable
from agent.errors import KioskError
from agent.ledger import Segment
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 30.0
"""With the time a silent store is waited for less than a minute: so soon after an outage uploads go on."""

LONGEST_ATTEMPT_S = 75.0
"""After that a target has answered or given up: its own time limits, and the body's way."""


@dataclass(frozen=True, slots=True)
class Job:
    """A segment whose key is fixed. A `probe` goes out although uploads are held, to see whether they still must."""

    segment: Segment
    outgoing: Outgoing
    probe: bool = False


Outcome = Literal["stored", "already_there", "gone", "unreadable", "damaged", "deferred"]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a job. `deferred`: it is still due; `error` says why it wasn't done, if there is a why."""

    job: Job
    outcome: Outcome
    error: KioskError | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """What dispatcher and workers share."""

    jobs: SimpleQueue[Job | None] = field(default_factory=SimpleQueue)
    reports: SimpleQueue[Report | None] = field(default_factory=SimpleQueue)
    stop: threading.Event = field(default_factory=threading.Event)
    """The process is ending."""
    closed: threading.Event = field(default_factory=threading.Event)
    """Outside of the upload hours: nothing new goes out."""
    held: threading.Event = field(default_factory=threading.Event)
    """The store refuses everything: nothing but a probe goes out."""


class Damaged(KioskError):
    """The file in the spool provably isn't what was sealed."""


class Withdrawn(Exception):
    """Not now: uploads are held or closed, or the process is ending."""


class Worker:
    """Takes jobs until it gets None."""

    def __init__(
        self,
        target: Target,
        pace: Pace,
        lines: Lines,
        activity: Activity,
        standing: Standing,
        clock: Clock,
        *,
        attempts: int | None = None,
    ) -> None:
        """`attempts` limits how often one job is tried; None is as long as its file is kept."""
        self._target = target
        self._pace = pace
        self._lines = lines
        self._activity = activity
        self._standing = standing
        self._clock = clock
        self._retrying = Retrying(
            retry=retry_if_exception_type(Unreachable),
            # Full jitter: a fleet that lost its store together must not come back together.
            wait=wait_random_exponential(multiplier=1, max=LONGEST_WAIT_S),
            stop=stop_never if attempts is None else stop_after_attempt(attempts),
            sleep=self._sleep,
            before_sleep=self._tell,
            reraise=True,
        )

    def run(self) -> None:
        """Work until told to end."""
        while (job := self._lines.jobs.get()) is not None:
            self._lines.reports.put(self.carry(job))

    def carry(self, job: Job) -> Report:
        """Bring one job there, or say why not."""
        return Report(job, *self.bring(job.outgoing, probe=job.probe))

    def bring(self, outgoing: Outgoing, *, probe: bool = False) -> tuple[Outcome, KioskError | None]:
        """Bring one object there: what became of it, and why it wasn't done, if there is a why."""
        try:
            receipt = self._retrying(self._attempt, outgoing, probe=probe)
        except Gone as error:
            return "gone", error
        except Unreadable as error:
            return "unreadable", error
        except Damaged as error:
            return "damaged", error
        except (NeedsPerson, ClockRefused, Unreachable) as error:
            self._standing.failed(error)
            return "deferred", error
        except (Interrupted, Withdrawn):
            return "deferred", None
        self._standing.succeeded()
        return receipt.how, None

    def _attempt(self, outgoing: Outgoing, *, probe: bool) -> Receipt:
        lines = self._lines
        if lines.stop.is_set() or lines.closed.is_set() or (lines.held.is_set() and not probe):
            raise Withdrawn
        _check_size(outgoing)
        began_ns = self._clock.monotonic_ns()
        self._activity.began()
        try:
            receipt = self._target.put(outgoing, self._pace)
        except (Gone, Unreadable, Interrupted):
            self._activity.abandoned()
            raise
        except DigestRefused as error:
            self._activity.failed()
            raise _judge(outgoing, error) from error
        except BaseException:
            self._activity.failed()
            raise
        if receipt.how == "already_there":
            self._activity.found()
        else:
            self._activity.succeeded(outgoing.size, (self._clock.monotonic_ns() - began_ns) / NS_PER_S)
        return receipt

    def _sleep(self, seconds: float) -> None:
        self._clock.wait(self._lines.stop, seconds)

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, KioskError):
            self._standing.failed(error)


def _check_size(outgoing: Outgoing) -> None:
    try:
        size = outgoing.path.stat().st_size
    except OSError as error:
        raise unreadable(outgoing.path, error) from error
    if size != outgoing.size:
        raise _damaged(outgoing, f"it has {size} bytes instead of the {outgoing.size} that were sealed")


def _judge(outgoing: Outgoing, error: DigestRefused) -> KioskError:
    """Whose fault a refused digest is: ours only if the file itself says so."""
    try:
        with outgoing.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as cause:
        return unreadable(outgoing.path, cause)
    if sha256 != outgoing.sha256:
        return _damaged(outgoing, f"its SHA-256 is {sha256}, {outgoing.sha256} was sealed")
    return Unreachable(
        error.operation,
        place=error.place,
        cause=f"{error.cause}; the file here is sound, so it changed on the way",
        hint="it is tried again; if that goes on, look at the network between here and the store",
        retryable=True,
    )


def _damaged(outgoing: Outgoing, cause: str) -> Damaged:
    return Damaged(
        "upload",
        place=str(outgoing.path),
        cause=cause,
        hint="it is set aside in the spool's quarantine; the card may be failing",
    )
