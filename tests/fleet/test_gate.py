"""The gate of a roll-out: pure, so that it can be tried on fleets that nobody has."""

from __future__ import annotations

from collections.abc import Iterable
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.evaluation import Target
from agent.contract.rollout import Counters
from fleet.gate import LEAST_ATTEMPTS, LEAST_SEGMENTS, Ground, Verdict, judge, percent
from fleet.pictures import Picture
from fleet.roster import Kiosk
from fleet.tally import chance, grown

FLAG = "offline_recording"
HOUR_NS = 3600 * 10**9


def counters(attempts: int, failures: int = 0, segments: int = 0, errors: int = 0, epoch: str = "a") -> Counters:
    return Counters(
        epoch=epoch,
        upload_attempts_total=attempts,
        upload_failures_total=failures,
        segments_total=segments,
        segment_errors_total=errors,
    )


ZERO = counters(0)


def picture(
    number: int,
    variant: str | None = "off",
    now: Counters | None = None,
    *,
    online: bool = True,
    critical: tuple[str, ...] = (),
    environment: bool = False,
) -> Picture:
    return Picture(
        kiosk=Kiosk("north", f"room-{number}", (), online),
        target=Target(device=f"room-{number}", site="north"),
        by_environment=frozenset({FLAG} if environment else ()),
        variants=None if variant is None else {FLAG: variant},
        flags_version=1,
        counters=now,
        critical=critical,
    )


WELL = counters(100, 0, 100, 0)


def judged(
    pictures: Iterable[Picture],
    chosen: Iterable[int],
    *,
    begun: bool = True,
    soak_s: int = 3600,
    hours: float = 1,
    known: Iterable[int] | None = None,
) -> Verdict:
    pictures = list(pictures)
    names = [each.name for each in pictures] if known is None else [f"north/room-{number}" for number in known]
    ground = Ground(
        flag=FLAG,
        variant="off",
        begun=begun,
        chosen=frozenset(f"north/room-{number}" for number in chosen),
        snapshot=dict.fromkeys(names, ZERO),
        since_ns=0,
        soak_s=soak_s,
    )
    return judge(ground, pictures, round(hours * HOUR_NS))


def reasons(verdict: Verdict) -> list[str]:
    return [each.reason for each in verdict.objections]


def fleet(
    having: int, rest: int, having_now: Counters | None = WELL, rest_now: Counters | None = WELL
) -> list[Picture]:
    return [
        picture(number, "off" if number < having else "on", having_now if number < having else rest_now)
        for number in range(having + rest)
    ]


def test_a_good_variant_may_go_on_when_its_time_has_come() -> None:
    assert reasons(judged(fleet(5, 20), range(5))) == []
    early = judged(fleet(5, 20), range(5), hours=0.5)
    assert reasons(early) == ["soak"]
    assert early.objections[0].text == "30 min of 1 h are still to pass"
    assert not early.bad


def test_no_data_is_not_good() -> None:
    assert reasons(judged(fleet(5, 20, having_now=ZERO), range(5))) == ["data", "data"]
    assert reasons(judged([], [])) == ["reach", "data", "data"]
    assert reasons(judged(fleet(5, 20, having_now=None), range(5))) == ["reach", "data", "data", "comparison"]


def test_least_amounts_are_such_that_nothing_wrong_among_them_says_something() -> None:
    """The rule of three: had 5 % failed, so many in a row would succeed by luck at 5 % at most."""
    assert 0.95**LEAST_ATTEMPTS < 0.05
    assert 0.99**LEAST_SEGMENTS < 0.05


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (counters(2000, 100, 100), "success"),
        (counters(2000, 99, 100), None),
        (counters(100, 0, 1000, 10), "errors"),
        (counters(100, 0, 1000, 9), None),
        (counters(100, 0, 0, 3), "errors"),
    ],
)
def test_the_limits_themselves_are_not_good_enough(now: Counters, told: str | None) -> None:
    # All alike: nothing to compare.
    verdict = judged(fleet(10, 10, having_now=now, rest_now=now), range(10))
    assert [reason for reason in reasons(verdict) if reason != "data"] == ([told] if told else [])


def test_a_critical_alert_of_one_that_has_it_is_enough_and_of_another_isnt() -> None:
    pictures = fleet(20, 20)
    pictures[0] = picture(0, "off", WELL, critical=("disk_error",))
    verdict = judged(pictures, range(20))
    assert reasons(verdict) == ["critical"]
    assert verdict.objections[0].text == "critical alerts: north/room-0 disk_error"
    pictures = fleet(20, 20)
    pictures[30] = picture(30, "on", WELL, critical=("disk_error",))
    assert reasons(judged(pictures, range(20))) == []


def test_a_few_sick_kiosks_hidden_in_good_averages_are_found_by_comparison() -> None:
    sick = counters(100, 20, 100)
    pictures = [picture(number, "off", sick if number < 8 else WELL) for number in range(40)]
    pictures += [picture(number, "on", WELL) for number in range(40, 140)]
    verdict = judged(pictures, range(40))
    assert reasons(verdict) == ["comparison"]
    assert "8 of 40" in verdict.objections[0].text
    # The same everywhere isn't the variant's doing.
    pictures[40:] = [picture(number, "on", sick if number % 5 == 0 else WELL) for number in range(40, 140)]
    assert reasons(judged(pictures, range(40))) == []


def test_a_variant_that_silences_kiosks_does_not_pass_by_their_silence() -> None:
    pictures = [picture(number, None, None, online=False) if number < 4 else picture(number, "off", WELL)
                for number in range(10)]  # fmt: skip
    pictures += [picture(number, "on", WELL) for number in range(10, 110)]
    verdict = judged(pictures, range(10))
    assert reasons(verdict) == ["comparison"]
    assert verdict.left_out["offline"] == tuple(f"north/room-{number}" for number in range(4))
    # Who had been silent before the step tells nothing about it.
    assert reasons(judged(pictures, range(10), known=range(4, 110))) == []


def test_less_than_half_of_those_who_should_have_it_is_too_few() -> None:
    pictures = [picture(number, "off" if number < 4 else "on", WELL) for number in range(30)]
    verdict = judged(pictures, range(10))
    assert reasons(verdict) == ["reach"]
    assert verdict.objections[0].text == (
        "4 of 10 kiosks that should have it can be judged; half is the least (6 late)"
    )


def test_those_whose_environment_chooses_are_left_out_for_better_or_worse() -> None:
    bad = counters(1000, 1000, 1000, 1000)
    pictures = [picture(99, "off", bad, critical=("disk",), environment=True), *fleet(10, 10)]
    verdict = judged(pictures, [*range(10), 99])
    assert reasons(verdict) == []
    assert verdict.left_out == {"environment": ("north/room-99",)}
    assert verdict.figures.judged == 10


def test_before_anybody_has_it_those_are_judged_who_get_it_next() -> None:
    pictures = fleet(0, 30)
    pictures[0] = picture(0, "on", counters(100, 50, 100))
    assert reasons(judged(pictures, range(5), begun=False)) == ["success"]
    assert reasons(judged(pictures, range(5, 10), begun=False)) == []


def test_what_is_otherwise_than_expected_is_named() -> None:
    pictures = [
        *fleet(10, 10),
        picture(50, "on", WELL),
        picture(51, "off", WELL),
        picture(52, "off", WELL),
        picture(53, None, None),
    ]
    verdict = judged(pictures, [*range(10), 50, 52, 53], known=[*range(20), 50, 51, 54])
    assert verdict.left_out == {
        "late": ("north/room-50",),
        "unexpected": ("north/room-51",),
        "new": ("north/room-52",),
        "silent": ("north/room-53",),
        "gone": ("north/room-54",),
    }


AMOUNTS = st.integers(0, 10**6)
COUNTERS = st.builds(counters, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.sampled_from("ab"))


@given(COUNTERS, COUNTERS)
def test_what_was_counted_is_never_negative(before: Counters, now: Counters) -> None:
    since = grown(before, now)
    if since is not None:
        assert min(since.attempts, since.failures, since.segments, since.errors) >= 0
        assert since.success_pct is None or 0 <= since.success_pct <= 100
        assert since.errors_pct is None or 0 <= since.errors_pct <= 100
    if before.epoch != now.epoch:
        assert since is not None
        assert since.attempts == now.upload_attempts_total


@given(st.lists(st.tuples(COUNTERS, st.booleans(), st.booleans()), max_size=20), st.data())
def test_what_gets_worse_never_opens_the_gate(kiosks: list[tuple[Counters, bool, bool]], data: st.DataObject) -> None:
    pictures = [
        picture(number, "off" if has else "on", now, online=online) for number, (now, has, online) in enumerate(kiosks)
    ]
    chosen = [number for number, (_, has, _) in enumerate(kiosks) if has]
    verdict = judged(pictures, chosen)
    worse = [
        picture(
            number,
            "off",
            now.model_copy(update={"upload_failures_total": now.upload_failures_total + data.draw(AMOUNTS)}),
            critical=("disk",) if data.draw(st.booleans()) else (),
        )
        if has
        else pictures[number]
        for number, (now, has, _) in enumerate(kiosks)
    ]
    if not verdict.holds:
        assert not judged(worse, chosen).holds


@given(st.integers(0, 30), st.integers(0, 30), st.data())
def test_chance_is_that_of_fishers_exact_test(judged_count: int, rest: int, data: st.DataObject) -> None:
    troubled, rest_troubled = data.draw(st.integers(0, judged_count)), data.draw(st.integers(0, rest))
    found = chance(troubled, judged_count, rest_troubled, rest)
    if judged_count == 0 or rest == 0:
        assert found is None
        return
    bad, everybody = troubled + rest_troubled, judged_count + rest
    ways = sum(comb(bad, each) * comb(everybody - bad, judged_count - each) for each in range(troubled, bad + 1)
               if each <= judged_count)  # fmt: skip
    assert found == pytest.approx(ways / comb(everybody, judged_count))


def test_chance_can_be_told_of_ten_thousand_kiosks() -> None:
    assert chance(0, 5000, 0, 5000) == pytest.approx(1)
    assert chance(60, 5000, 20, 5000) == pytest.approx(4.1e-6, rel=0.1)


def test_what_misses_a_limit_by_a_hair_does_not_look_as_if_it_met_it() -> None:
    assert percent(94.999) == "94.99 %"
    assert percent(0.99) == "0.99 %"
