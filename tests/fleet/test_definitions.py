"""Who gets which variant by what the fleet's tools write: asked of flagd itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.contract.evaluation import Target, checked, variants
from agent.contract.flags import FLAGS
from agent.contract.rollout import Rollout
from fleet import definitions
from fleet.definitions import Definition, Kind
from tests.fleet.rollouts import rollout

FLAG = FLAGS["offline_recording"]

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
GROUPS = st.lists(st.sampled_from(["internal", "pilot", "other"]), unique=True).map(tuple)
TARGETS = st.builds(Target, device=NAMES, site=st.sampled_from(["north", "south"]), groups=GROUPS)


def chosen(definition: Definition, target: Target) -> str:
    flags = {} if definition is None else {FLAG.name: definition}
    return variants(checked({"metadata": {"version": 1}, "flags": flags}), target)[FLAG.name]


def walked(walk: Rollout, target: Target) -> list[str]:
    return [chosen(definitions.in_phase(FLAG, walk, phase), target) for phase in range(len(walk.phases))]


@given(TARGETS)
def test_whoever_has_it_in_a_phase_has_it_in_every_later_one(target: Target) -> None:
    seen = walked(rollout(), target)
    first = seen.index("off")
    assert seen == ["on"] * first + ["off"] * (len(seen) - first)
    assert first >= 1, "nobody has it in the first phase"
    assert ("internal" in target.groups) == (first == 1)


def test_shares_are_about_as_large_as_they_are_called() -> None:
    seen = [walked(rollout(), Target(device=f"room-{number}", site="north")) for number in range(1000)]
    tenth, half = (sum(each[phase] == "off" for each in seen) for phase in (2, 3))
    assert 70 <= tenth <= 130
    assert 450 <= half <= 550


@given(TARGETS, st.sampled_from(["group", "site", "device"]), NAMES, st.sampled_from(FLAG.variants))
def test_an_exception_is_for_whom_it_names_and_taken_back_leaves_nothing(
    target: Target, kind: Kind, name: str, variant: str
) -> None:
    before = definitions.for_some(FLAG, definitions.for_all(FLAG, "on"), "site", "south", "off")
    after = definitions.for_some(FLAG, before, kind, name, variant)
    meant = {"group": name in target.groups, "site": target.site == name, "device": target.device == name}[kind]
    assert chosen(after, target) == (variant if meant else chosen(before, target))
    again = definitions.for_some(FLAG, after, kind, name, "off")
    assert definitions.for_some(FLAG, again, kind, name, definitions.DEFAULT) == definitions.for_some(
        FLAG, before, kind, name, definitions.DEFAULT
    )


def test_an_exception_can_be_made_of_a_rule_of_any_form() -> None:
    tenth = definitions.in_phase(FLAG, rollout(), 2)
    assert tenth is not None
    plain = tenth | {"targeting": {"fractional": [["off", 10], ["on", 90]]}}
    for before in (tenth, plain):
        after = definitions.for_some(FLAG, before, "device", "room-1", "on")
        assert chosen(after, Target(device="room-1", site="north", groups=("internal",))) == "on"
        other = Target(device="room-2", site="north", groups=("internal",))
        assert chosen(after, other) == chosen(before, other)
        assert definitions.for_some(FLAG, after, "device", "room-1", definitions.DEFAULT) == before


def test_a_choice_for_all_is_known_to_be_one() -> None:
    assert definitions.the_same_for_all(FLAG, None) == "on"
    assert definitions.the_same_for_all(FLAG, definitions.for_all(FLAG, "off")) == "off"
    disabled = {**(definitions.for_all(FLAG, "off") or {}), "state": "DISABLED"}
    assert definitions.the_same_for_all(FLAG, disabled) == "on"
    some = definitions.for_some(FLAG, None, "site", "north", "off")
    assert definitions.the_same_for_all(FLAG, some) is None
    assert chosen(some, Target(device="room-1", site="south")) == "on"
