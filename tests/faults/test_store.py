"""Whatever happens between a kiosk and its store: nothing is lost, nothing is doubled, and it goes on by itself.

Each line of `table` is one fault. A kiosk records and uploads, the fault strikes, lasts, and ends; then everything has
to be in the store, once and whole, and the room must not have noticed.

Room time passes `speed` times faster than real time, and with it the courier's back-off and holds. Sockets keep real
time: where an attempt ends by a time limit of theirs, the fault is played at speed 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.faults import strikes
from tests.faults.judge import RECOVERY_S, assert_nothing_is_lost
from tests.faults.scene import Outcome, Scene, Strike, advice, play
from tests.faults.stage import Ground, Outcomes
from tests.faults.store_line import (
    StoreLine,
    answers,
    black_hole,
    captive_portal,
    drops_reply,
    garbles,
    hangs_up,
    knows_no_conditions,
    never_answers,
    redirects,
    reset_after,
    swallows_reply,
    talks_nonsense,
    trickles,
    vanishes_after,
)
from tests.faults.strikes import on_the_line
from tests.servers import mosquitto

if TYPE_CHECKING:
    import numpy as np
    from _pytest.mark.structures import ParameterSet
    from numpy.typing import NDArray

PARALLEL = 2
FAST = 4.0
REAL = 1.0
HUNG = 28.0
"""Seconds after which the first attempts at a silent store have been given up, and the next ones hang."""


def tried_again(trouble_s: float) -> float:
    """Attempts that a passing trouble may cost, by the contract of ADR 3.

    Each worker waits between 0 and min(2^n, 30) s after its n-th refusal, at random: half of that on average. Five
    attempts fall into the first half minute, then one into 15 s. Allowed is three times that rate and a few more; that
    chance alone exceeds it happens once in a million.
    """
    return PARALLEL * (8 + trouble_s / 5)


def held(trouble_s: float) -> float:
    """Attempts that a refusal which concerns all uploads may cost: those under way, then one after 10, 20, 40, 40 … s.

    Twice as many as there are workers are under way: the dispatcher hands out ahead.
    """
    probes = 1 + sum(each <= trouble_s for each in itertools.accumulate([10, 20, *[40] * 100]))
    return 2 * PARALLEL + probes


def nothing(trouble_s: float) -> float:  # noqa: ARG001 (one of three alike)
    """Attempts that may fail where there is no reason to fail: a slow line is no broken one."""
    return 0


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table."""

    name: str
    strike: Strike
    rate: Callable[[float], float]
    """Attempts that it may cost, given how long it kept recordings from arriving."""
    told: str
    """What the courier says about it, as a regular expression; "" if there is nothing to tell."""
    speed: float = FAST
    lasts_s: float = 45.0
    """Of the room. Long enough for back-off to have come to its ceiling."""
    from_start: bool = False
    prepare: Callable[[Scene], None] | None = None
    segment_s: int = 3
    needs: strikes.Library | None = None
    goes_on: bool = False
    """Whether recordings arrive all the same."""
    found_there: bool = False
    """Whether a recording must be found in the store that had arrived unnoticed."""

    def __str__(self) -> str:
        return self.name

    def live_through(self, ground: Ground) -> Outcome:
        """A kiosk of its own, with a broker of its own that is always there."""
        bucket = ground.store.bucket()
        with mosquitto(ground.directory) as broker, StoreLine(bucket.store.port) as store_line:
            scene = Scene(ground, bucket, store_line, broker.url, speed=self.speed, segment_s=self.segment_s)
            if self.prepare:
                self.prepare(scene)
            return play(scene, self.strike, self.lasts_s, from_start=self.from_start)


def table() -> list[Fault]:
    """All of them."""
    line = on_the_line
    return [
        # The connection.
        Fault("the port refuses", strikes.refused, tried_again, "closed|Could not connect"),
        Fault("the way comes and goes", strikes.flapping(2, 5), tried_again, ""),
        Fault("connections are taken and nothing more", line(black_hole), tried_again, "Read timeout", REAL, HUNG),
        Fault("everything is read and nothing answered", line(never_answers), tried_again, "Read timeout", REAL, HUNG),
        Fault("it hangs up at every question", line(hangs_up), tried_again, "closed"),
        Fault("the connection breaks in mid-body", line(reset_after(10_000)), tried_again, "closed|reset"),
        Fault(
            "the far side vanishes in mid-body",
            line(vanishes_after(10_000)),
            tried_again,
            "Read timeout|closed",
            REAL,
            HUNG,
        ),
        Fault(
            "12 KiB/s pass and no more", line(trickles(up=12 << 10)), nothing, "", REAL, 75, segment_s=15, goes_on=True
        ),
        Fault("the answer comes at 60 B/s", line(trickles(down=60)), nothing, "", REAL, 20, goes_on=True),
        Fault("what comes back is no HTTP", line(talks_nonsense), tried_again, "closed"),
        Fault("one bit of each body changes on the way", line(garbles), tried_again, "BadDigest.*changed on the way"),
        Fault("the reply is lost after the commit", line(drops_reply), tried_again, "closed|reset", found_there=True),
        Fault(
            "the reply is swallowed after the commit",
            line(swallows_reply),
            tried_again,
            "Read timeout",
            REAL,
            HUNG,
            found_there=True,
        ),
        # What a store, or a box in between, answers.
        Fault("500 InternalError", line(answers(500, "InternalError")), tried_again, "500 InternalError"),
        Fault("502 and a page of a proxy", line(answers(502)), tried_again, "502"),
        Fault(
            "503 ServiceUnavailable", line(answers(503, "ServiceUnavailable")), tried_again, "503 ServiceUnavailable"
        ),
        Fault("503 SlowDown", line(answers(503, "SlowDown")), tried_again, "503 SlowDown"),
        Fault("429 TooManyRequests", line(answers(429, "TooManyRequests")), tried_again, "429"),
        Fault("409 OperationAborted", line(answers(409, "OperationAborted", after_body=True)), tried_again, "409"),
        Fault(
            "400 RequestTimeout",
            line(answers(400, "RequestTimeout", after_body=True)),
            tried_again,
            "400 RequestTimeout",
        ),
        Fault("501 to conditions", line(knows_no_conditions), nothing, "", goes_on=True),
        Fault("507 the disk is full", line(answers(507, "XMinioStorageFull", after_body=True)), held, "507"),
        Fault("a portal answers 200 to everything", line(captive_portal), held, "neither its SHA-256 nor its MD5"),
        Fault("a portal redirects everything", line(redirects), held, "302"),
        # What needs a person.
        Fault("403 by the bucket's policy", strikes.forbidden, held, "403 AccessDenied", lasts_s=75),
        Fault("404 there is no bucket", strikes.no_bucket, held, "404 NoSuchBucket", from_start=True),
        Fault("400 ExpiredToken", line(answers(400, "ExpiredToken")), held, "ExpiredToken"),
        Fault("credentials have expired", strikes.expired_credentials, held, "expired", from_start=True),
        Fault("the secret is mistyped", strikes.wrong_secret, held, "403 SignatureDoesNotMatch", from_start=True),
        Fault("there are no credentials", strikes.no_credentials, held, "nable to locate credentials", from_start=True),
        # TLS and names.
        Fault(
            "the certificate has expired", strikes.expired_certificate, held, "certificate has expired", from_start=True
        ),
        Fault(
            "a stranger's certificate", strikes.strange_certificate, held, "CERTIFICATE_VERIFY_FAILED", from_start=True
        ),
        Fault(
            "the handshake never ends",
            strikes.endless_handshake,
            tried_again,
            "Read timeout",
            REAL,
            HUNG,
            from_start=True,
        ),
        Fault(
            "nobody knows the store's name",
            strikes.no_such_name,
            tried_again,
            "closed|Could not connect",
            prepare=strikes.name_from_a_file,
            needs=strikes.NSS_WRAPPER,
        ),
        # Time.
        *(
            Fault(
                f"the clock is {off:+d} min off",
                strikes.clock_off(off * 60),
                held if abs(off) > 15 else nothing,
                "signed by the store's clock" if abs(off) > 15 else "",
                REAL,
                20,
                from_start=True,
                prepare=strikes.machine_time,
                goes_on=abs(off) < 15,
                needs=strikes.FAKETIME,
            )
            for off in (-20, 20, 10)
        ),
    ]


def played_if_possible(fault: Fault) -> ParameterSet:
    """A fault as a parameter; one that this machine can't bring about is skipped."""
    lacking = fault.needs is not None and fault.needs.path is None
    reason = f"the package {fault.needs.package} isn't installed" if fault.needs else ""
    return pytest.param(fault, id=fault.name, marks=[pytest.mark.skip(reason=reason)] if lacking else [])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", [played_if_possible(fault) for fault in table()])
def test_nothing_is_lost_and_it_goes_on_when(
    fault: Fault, outcomes: Outcomes, source: NDArray[np.int16], tell: Callable[[str], None]
) -> None:
    outcome: Outcome = outcomes[fault].result()
    said = outcome.log
    tell(
        f"{fault}: well again after {outcome.recovery_s:.1f} s; attempts {outcome.failures}, "
        f"allowed {fault.rate(outcome.trouble_s):.0f}; {outcome.peak_bytes >> 20} MiB"
    )

    assert_nothing_is_lost(outcome, source)
    assert outcome.recovery_s <= RECOVERY_S, said
    assert outcome.failures <= fault.rate(outcome.trouble_s), said
    if fault.told:
        assert advice(said, fault.told), said
    if fault.goes_on:
        assert outcome.arrived_meanwhile > 0
    if fault.found_there:
        assert "already_there" in {segment.reason for segment in outcome.segments}
