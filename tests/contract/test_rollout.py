"""The roll-out document: what is read off a broker is one, or is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agent.contract.rollout import MOST_STEPS, read
from agent.contract.schemas import schema
from agent.contract.signed import LONGEST_BYTES, Refused, sign
from tests.fleet.rollouts import rollout, snapshot

VALID = rollout(2, snapshot=snapshot(2)).document()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def test_what_is_written_is_read_back() -> None:
    assert read(VALID).document() == VALID
    Draft202012Validator(schema("rollout")).validate(VALID)
    assert (read(VALID).current.name, read(VALID).since_ns) == ("10%", 1_772_352_000 * 10**9)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"phase": 5}, "no such phase"),
        ({"phase": -1}, "phase"),
        ({"phase": "2"}, "phase"),
        ({"more": 1}, "more"),
        ({"internal": "../x"}, "internal"),
        ({"since": "yesterday"}, "since"),
        ({"rolled_back": 0}, "rolled_back"),
        ({"phases": VALID["phases"][1:]}, "from off by internal to 100%"),
        ({"phases": VALID["phases"][:-1]}, "from off by internal to 100%"),
        ({"phases": [*VALID["phases"][:2], VALID["phases"][3], VALID["phases"][2], VALID["phases"][4]]}, "larger"),
        ({"steps": []}, "steps"),
        ({"steps": VALID["steps"] * (MOST_STEPS + 1)}, "steps"),
        ({"snapshot": {"room-1": VALID["snapshot"]["clinic-north/room-00000"]}}, "snapshot"),
        ({"snapshot": {"a/b": {"epoch": "x"}}}, "snapshot"),
        ({"metadata": {"version": 0, "issued": VALID["since"]}}, "metadata.version"),
        ({"flags_version": 2**53}, "flags_version"),
    ],
)
def test_a_document_is_closed_and_says_where_it_is_wrong(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Refused, match=told) as refused:
        read(VALID | change)
    assert refused.value.reason == "invalid"


@pytest.mark.parametrize("name", VALID)
def test_nothing_may_be_missing(name: str) -> None:
    with pytest.raises(Refused):
        read({key: value for key, value in VALID.items() if key != name})


@given(st.dictionaries(st.sampled_from(sorted(VALID)), JSON))
def test_whatever_somebody_sends_is_read_or_refused(change: dict[str, Any]) -> None:
    document = json.loads(json.dumps(VALID | change))
    try:
        found = read(document)
    except Refused:
        return
    assert found.document() == document
    Draft202012Validator(schema("rollout")).validate(document)


def test_ten_thousand_kiosks_find_room_in_it() -> None:
    signed = sign("rollout", rollout(snapshot=snapshot(10_000)).document(), bytes(range(32)))
    assert len(signed) < LONGEST_BYTES["rollout"], len(signed)
