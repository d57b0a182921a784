"""Which share of the fleet a kiosk is in: the same for ever, or a roll-out would jump from room to room."""

from __future__ import annotations

import json

import pytest

from agent.contract.evaluation import Target, checked, variants
from agent.contract.flagd import evaluator
from tests.contract.bucketing import VECTORS, bucket
from tests.contract.flag_documents import document, rollout

GOLDEN: dict[str, dict[str, int]] = json.loads(VECTORS.read_text())
PHASES = (0, 10, 50, 100)
FLEET = [
    Target(device=device, site="north", groups=("internal",) if number % 25 == 0 else ())
    for number, device in enumerate(f"room-{number}" for number in range(1000))
]


def with_it(percentage: int) -> set[str]:
    """The devices that a phase of the roll-out gives the flag."""
    judged = checked(document(rule=rollout(percentage)))
    return {target.device for target in FLEET if variants(judged, target)["offline_recording"] == "on"}


@pytest.mark.parametrize("flag", GOLDEN)
def test_every_kiosk_is_in_the_hundredth_it_always_was_in(flag: str) -> None:
    shares = {str(number): str(number) for number in range(100)}
    asked = {flag: {"state": "ENABLED", "variants": shares, "targeting": {"fractional": [[each] for each in shares]}}}
    found = {device: int(evaluator.evaluate(asked, {flag: "?"}, device, {})[flag]) for device in GOLDEN[flag]}
    assert found == GOLDEN[flag]
    assert len(found) >= 100


@pytest.mark.parametrize("flag", GOLDEN)
def test_the_golden_vectors_are_what_the_specification_says(flag: str) -> None:
    assert {device: bucket(flag, device) for device in GOLDEN[flag]} == GOLDEN[flag]


@pytest.mark.parametrize("percentage", [0, 1, 10, 37, 50, 99, 100])
def test_a_percentage_takes_the_kiosks_of_the_first_hundredths(percentage: int) -> None:
    judged = checked(document(rule=rollout(percentage)))
    for device, hundredth in GOLDEN["offline_recording"].items():
        expected = "on" if hundredth < percentage else "off"
        assert variants(judged, Target(device=device, site="north")) == {"offline_recording": expected}, device


def test_each_phase_keeps_the_kiosks_of_the_one_before_and_the_internal_group_comes_first() -> None:
    phases = [with_it(percentage) for percentage in PHASES]
    assert phases[0] == {target.device for target in FLEET if target.groups}
    assert phases[0] < phases[1] < phases[2] < phases[3] == {target.device for target in FLEET}
    assert [round(len(phase) / len(FLEET), 1) for phase in phases] == [0.0, 0.1, 0.5, 1.0]


def test_a_kiosk_stays_in_its_share_whatever_else_changes_about_it() -> None:
    judged = checked(document(rule={"fractional": [["on", 50], ["off", 50]]}))
    here = [variants(judged, Target(device=target.device, site="north")) for target in FLEET]
    there = [
        variants(judged, Target(device=target.device, site="south", groups=("a",), model="Pi 5", version="9.0.0"))
        for target in FLEET
    ]
    assert here == there


def test_shares_written_in_other_numbers_take_the_same_kiosks() -> None:
    tenth = with_it(10)
    finer = {"if": [{"in": ["internal", {"var": "groups"}]}, "on", {"fractional": [["on", 1000], ["off", 9000]]}]}
    judged = checked(document(rule=finer))
    assert {each.device for each in FLEET if variants(judged, each)["offline_recording"] == "on"} == tenth
