"""What a flag document may say, what it then gives to a kiosk, and everything an admin or an attacker gets wrong."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.contract.evaluation import LONGEST_TEXT_BYTES, FlagDocument, Target, checked, variants
from agent.contract.flagd import Provider
from agent.contract.flags import FLAGS
from agent.contract.signed import LONGEST_BYTES, Refused, sign
from tests.contract.flag_documents import INTERNAL, document

ROOM = Target(device="room-12", site="north", groups=("internal", "wing-b"), model="Raspberry Pi 4", version="1.4.0")


def chosen(rule: object, target: Target = ROOM, *, default: str = "on", **flag: Any) -> str:  # noqa: ANN401
    return variants(checked(document(rule=rule, default=default, **flag)), target)["offline_recording"]


def refusal(found: Mapping[str, Any]) -> str:
    with pytest.raises(Refused) as refused:
        checked(found)
    assert refused.value.reason == "invalid"
    assert len(str(refused.value)) < 400
    return str(refused.value)


@pytest.mark.parametrize(
    "truth",
    [
        True,
        INTERNAL,
        {"==": [{"var": "site"}, "north"]},
        {"===": ["north", {"var": ["site"]}]},
        {"!=": [{"var": "model"}, "Raspberry Pi 5"]},
        {"!==": [{"var": "targetingKey"}, "room-1"]},
        {"in": [{"var": "targetingKey"}, ["room-12", "room-13"]]},
        {"starts_with": [{"var": "model"}, "Raspberry"]},
        {"ends_with": [{"var": "targetingKey"}, "-12"]},
        {"==": [{"cat": [{"var": "site"}, "/", {"var": "targetingKey"}]}, "north/room-12"]},
        {"==": [{"var": "$flagd.flagKey"}, "offline_recording"]},
        {"sem_ver": [{"var": "version"}, ">=", "1.4"]},
        {"sem_ver": [{"var": "version"}, "~", "1.4.7"]},
        {"sem_ver": [{"var": "version"}, ">", "1.4.0-rc1"]},
        {"and": [INTERNAL, {"in": ["wing-b", {"var": "groups"}]}]},
        {"or": [False, {"==": [{"var": "site"}, "north"]}]},
        {"!": {"==": [{"var": "site"}, "south"]}},
        {"!": [{"in": ["beta", {"var": "groups"}]}]},
    ],
)
def test_what_is_known_of_a_kiosk_decides(truth: object) -> None:
    assert chosen({"if": [truth, "off", "on"]}) == "off"
    assert chosen({"if": [{"!": [truth]}, "off", "on"]}) == "on"


def test_the_first_condition_that_holds_counts_and_without_one_the_documents_default() -> None:
    south, north = {"==": [{"var": "site"}, "south"]}, {"==": [{"var": "site"}, "north"]}
    assert chosen({"if": [south, "on", north, "off", "on"]}) == "off"
    assert chosen({"if": [south, "on"]}, default="off") == "off"
    assert chosen({"if": [south, "on", None]}, default="off") == "off"
    assert chosen({"if": [north, None, "on"]}, default="off") == "off"


def test_without_a_rule_the_documents_default_counts() -> None:
    assert chosen(None, default="off") == "off"
    assert chosen({}, default="off") == "off"


def test_where_the_document_does_not_choose_the_flags_own_default_counts() -> None:
    default = FLAGS["offline_recording"].default
    assert chosen({"if": [True, "off"]}, state="DISABLED", default="off") == default
    assert chosen({"if": [False, "off"]}, defaultVariant=None) == default
    missing = document()
    del missing["flags"]["offline_recording"]
    assert variants(checked(missing), ROOM) == {"offline_recording": default}
    nothing = document()
    del nothing["flags"]["offline_recording"]["defaultVariant"]
    assert variants(checked(nothing), ROOM) == {"offline_recording": default}


def test_flags_of_a_later_release_are_ignored_with_a_note() -> None:
    later = document(default="off") | {"$schema": "https://flagd.dev/schema/v0/flags.json", "extra": 1}
    later["flags"] |= {f"flag_{number}": {"whatever": [number]} for number in range(7)}
    found = checked(later)
    assert variants(found, ROOM) == {"offline_recording": "off"}
    assert found.notes == (
        "flags that this release doesn't know are ignored: flag_0, flag_1, flag_2, flag_3, flag_4 and 2 more",
        "parts of the document that this release doesn't know are ignored: extra",
    )


def test_two_documents_in_turn_do_not_answer_for_each_other() -> None:
    on, off = checked(document(1, default="on")), checked(document(2, default="off"))
    for _ in range(2):
        assert variants(on, ROOM) == {"offline_recording": "on"}
        assert variants(off, ROOM) == {"offline_recording": "off"}


@pytest.mark.parametrize("version", ["", "nightly", "1.4.0.dev3", "9" * 5000, "1.2.3.4", "۱.۲"])
def test_a_kiosk_whose_version_is_none_counts_as_older_than_all(version: str, caplog: pytest.LogCaptureFixture) -> None:
    target = Target(device="room-12", site="north", version=version)
    assert chosen({"if": [{"sem_ver": [{"var": "version"}, "<", "0.0.1"]}, "off", "on"]}, target) == "off"
    assert caplog.records == []


def test_the_version_of_this_release_can_be_compared() -> None:
    from agent import __version__
    from agent.contract.targeting import VERSION

    assert VERSION.fullmatch(__version__)


MISTAKES: list[tuple[str, object, str]] = [
    (
        "no operator",
        {"iff": [True, "on"]},
        "there is no operator 'iff' that gives a variant; use one of: if, fractional",
    ),
    ("no variant", {"if": [True, "onn", "off"]}, '"onn" is no variant of offline_recording; use one of: on, off'),
    ("a truth for a variant", {"if": [True, True, "off"]}, "targeting.if.1: true isn't a variant"),
    ("a truth as the whole rule", INTERNAL, "there is no operator 'in' that gives a variant"),
    ("a variant for a truth", {"if": ["on", "on", "off"]}, "if.0: 'on' isn't true or false"),
    ("a condition alone", {"if": [True]}, "it needs a condition and what follows"),
    ("an unknown name", {"if": [{"==": [{"var": "group"}, "x"]}, "on"]}, "nothing of that name is known of a kiosk"),
    ("the device", {"if": [{"==": [{"var": "device"}, "x"]}, "on"]}, "use one of: targetingKey, site"),
    ("groups as a text", {"if": [{"==": [{"var": "groups"}, "x"]}, "on"]}, "groups is a list: use `in`"),
    ("a text as a list", {"if": [{"in": ["n", {"var": "site"}]}, "on"]}, "site is no list"),
    ("a piece of a text", {"if": [{"in": ["n", "north"]}, "on"]}, "isn't a list"),
    ("the time", {"if": [{">": [{"var": "$flagd.timestamp"}, 7]}, "on"]}, "there is no operator '>'"),
    ("a number", {"if": [{"==": [{"var": "site"}, 7]}, "on"]}, "==.1: a number isn't a text"),
    ("a number in a list", {"if": [{"in": [{"var": "site"}, ["a", 7]]}, "on"]}, "in.1.1: a list holds texts only"),
    ("no argument", {"if": [{"!": []}, "on"]}, "it takes 1, not 0"),
    ("nothing to judge", {"if": [{"and": []}, "on"]}, "it needs something to judge"),
    ("nothing to join", {"if": [{"==": [{"cat": []}, "a"]}, "on"]}, "it needs something to join"),
    ("no version", {"if": [{"sem_ver": [{"var": "version"}, ">=", "one"]}, "on"]}, 'write a version as "1.4.0"'),
    ("no comparison", {"if": [{"sem_ver": [{"var": "version"}, "=>", "1.0"]}, "on"]}, "no comparison of versions"),
    ("the version of a site", {"if": [{"sem_ver": [{"var": "site"}, ">", "1.0"]}, "on"]}, "only {"),
    ("a share of nothing", {"fractional": []}, "the shares add up to 0"),
    ("shares of nothing", {"fractional": [["on", 0], ["off", 0]]}, "the shares add up to 0"),
    ("too large a share", {"fractional": [["on", 2**31]]}, "a weight is a whole number from 0"),
    ("too large shares", {"fractional": [["on", 2**30]] * 2}, "the shares add up to 2147483648"),
    ("half a share", {"fractional": [["on", 0.5], ["off", 0.5]]}, "a weight is a whole number"),
    ("less than nothing", {"fractional": [["on", -1], ["off", 101]]}, "a weight is a whole number"),
    ("a true share", {"fractional": [["on", True]]}, "a weight is a whole number"),
    ("a share of no variant", {"fractional": [["yes", 1]]}, '"yes" is no variant'),
    ("a share that is a text", {"fractional": [{"var": "site"}, "on"]}, "fractional.1: write a share as"),
    ("a share by groups", {"fractional": [{"var": "groups"}, ["on", 1]]}, "groups is a list"),
    ("two operators", {"if": [{"==": ["a", "a"], "in": []}, "on"]}, "this object isn't true or false"),
    ("a list", ["on"], "targeting: this list is no rule"),
    ("a loop", {"if": [{"some": [{"var": "groups"}, True]}, "on"]}, "there is no operator 'some'"),
    ("output", {"if": [{"log": "x"}, "on"]}, "there is no operator 'log'"),
    ("a letter that shows nothing", {"if": [{"==": [{"var": "site"}, "a\u200b"]}, "on"]}, "printable"),
    ("half a letter", {"if": [{"==": [{"var": "site"}, "\ud800"]}, "on"]}, "printable"),
    ("a long text", {"if": [{"==": [{"var": "site"}, "a" * 257]}, "on"]}, "at most 256"),
]


@pytest.mark.parametrize(("rule", "told"), [each[1:] for each in MISTAKES], ids=[each[0] for each in MISTAKES])
def test_a_mistake_in_a_rule_is_told_with_its_place(rule: object, told: str) -> None:
    text = refusal(document(rule=rule))
    assert text.startswith("flags.offline_recording.targeting")
    assert told in text


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"metadata": None}, "metadata: it is missing"),
        ({"metadata": {}}, "metadata.version: it is a whole number from 1"),
        ({"metadata": {"version": 0}}, "metadata.version"),
        ({"metadata": {"version": True}}, "metadata.version"),
        ({"metadata": {"version": 1.0}}, "metadata.version"),
        ({"metadata": {"version": "7"}}, "metadata.version"),
        ({"metadata": {"version": 2**53}}, "metadata.version"),
        ({"metadata": {"version": 1, "issued": "yesterday"}}, 'metadata.issued: write a time as "2026'),
        ({"metadata": {"version": 1, "issued": "2026-03-01T08:00:00"}}, "metadata.issued"),
        ({"metadata": {"version": 1, "issued": 7}}, "metadata.issued"),
        ({"metadata": [1]}, "metadata: an object has to stand here"),
        ({"flags": None}, "flags: it is missing"),
        ({"flags": ["offline_recording"]}, "flags: an object has to stand here"),
        ({"flags": {"offline_recording": "off"}}, "flags.offline_recording: an object has to stand here"),
        ({"$evaluators": {"internal": INTERNAL}}, "$evaluators: shared rules aren't understood here"),
    ],
)
def test_a_mistake_in_the_document_is_told_with_its_place(damage: dict[str, Any], told: str) -> None:
    found = {name: part for name, part in (document() | damage).items() if part is not None}
    assert told in refusal(found)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"state": "ON"}, "state: it says whether the flag counts; use one of: ENABLED, DISABLED"),
        ({"variants": {"on": True}}, "offline_recording has exactly these variants: on, off"),
        ({"variants": {"on": True, "off": False, "auto": None}}, "exactly these variants"),
        ({"variants": ["on", "off"]}, "variants: an object has to stand here"),
        ({"defaultVariant": "maybe"}, "defaultVariant: that is no variant of it; use one of: on, off"),
        ({"defaultVariant": ["on"]}, "defaultVariant"),
        ({"targetting": {}}, "there is no 'targetting'; use targeting"),
        ({"targeting": "on"}, "targeting: 'on' is no rule; a variant for all is the `defaultVariant`"),
    ],
)
def test_a_mistake_in_a_flag_is_told_with_its_place(damage: dict[str, Any], told: str) -> None:
    text = refusal(document(**damage))
    assert text.startswith("flags.offline_recording")
    assert told in text


def nested(rule: dict[str, Any], levels: int, inner: object) -> object:
    """`inner` within so many of a one-argument operator or, by "?", a list of arguments."""
    ((operator, arguments),) = rule.items()
    for _ in range(levels):
        inner = {operator: [inner if each == "?" else each for each in arguments]}
    return inner


@pytest.mark.parametrize(
    "rule",
    [
        {"if": [nested({"!": ["?"]}, 200, True), "on"]},
        {"if": [nested({"and": ["?"]}, 200, True), "on"]},
        {"if": [{"==": [nested({"cat": ["?"]}, 200, "a"), "a"]}, "on"]},
        nested({"if": [True, "?"]}, 200, "on"),
    ],
    ids=["not", "and", "cat", "if"],
)
def test_a_rule_nested_without_end_is_refused(rule: object) -> None:
    assert "it is nested too deep" in refusal(document(rule=rule))


def test_a_document_that_no_parser_could_follow_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    found = document()
    found["flags"]["of a later release"] = deep
    assert "can't be written as JSON" in refusal(found)
    assert "can't be written as JSON" in refusal(document() | {"x": float("inf")})


def test_what_passes_fits_into_what_is_signed_however_it_is_written() -> None:
    found = document()
    found["flags"]["x"] = {}
    room = LONGEST_TEXT_BYTES - len(json.dumps(found, separators=(",", ":")))
    found["flags"]["x" + '"' * (room // 2)] = found["flags"].pop("x")
    checked(found)
    assert len(sign("flags", found, bytes(32))) <= LONGEST_BYTES["flags"]
    found["flags"]['"'] = {}
    assert f"{LONGEST_TEXT_BYTES} is the most that can be signed" in refusal(found)


HARDEST = {
    "rooms by name": {"if": [{"in": [{"var": "targetingKey"}, [f"room-{n}" for n in range(10_500)]]}, "off", "on"]},
    "many conditions": {"if": [each for n in range(3400) for each in ({"==": [{"var": "site"}, f"{n}"]}, "on")]},
    "many versions": {
        "if": [{"or": [{"sem_ver": [{"var": "version"}, "<", "0.0.0-aaaaaaaaaaaaaaaaaaaa"]}] * 1800}, "off"]
    },
    "long texts": {"if": [{"==": [{"cat": ["a" * 256] * 480}, "b"]}, "on"]},
    "many shares": {"fractional": [["on", 1], ["off", 1]] * 5800},
}


@pytest.mark.parametrize("name", HARDEST)
def test_the_hardest_rule_that_fits_is_judged_within_a_second(name: str) -> None:
    hardest = document(rule=HARDEST[name])
    assert len(json.dumps(hardest, separators=(",", ":"))) > LONGEST_TEXT_BYTES * 0.7, "it isn't hard"
    begun = time.process_time()
    assert variants(checked(hardest), ROOM)["offline_recording"] in ("on", "off")
    assert time.process_time() - begun < 1.0


def test_an_evaluator_that_fails_is_an_error_and_never_the_default() -> None:
    broken = FlagDocument(
        1, "", {"offline_recording": {"state": "ENABLED", "variants": {"on": "on"}, "targeting": {"foo": []}}}
    )
    with pytest.raises(Refused, match=r"offline_recording can't be evaluated: .*foo") as refused:
        variants(broken, ROOM)
    assert refused.value.reason == "unusable"


def test_a_provider_whose_parameters_have_wrong_names_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def misnamed(self: Provider, key: str, default: str, context: object = None) -> None: ...

    monkeypatch.setattr(Provider, "resolve_string_details", misnamed)
    logging.getLogger("openfeature").setLevel(logging.CRITICAL)
    try:
        with pytest.raises(Refused, match=r"can't be evaluated: .*unexpected keyword argument"):
            chosen({"if": [True, "off"]})
    finally:
        logging.getLogger("openfeature").setLevel(logging.NOTSET)


def test_something_that_is_no_variant_is_an_error() -> None:
    odd = FlagDocument(
        1, "", {"offline_recording": {"state": "ENABLED", "variants": {"x": "x"}, "defaultVariant": "x"}}
    )
    with pytest.raises(Refused, match="'x', which is no variant"):
        variants(odd, ROOM)


def test_the_api_answers_every_type_from_the_document() -> None:
    from openfeature import api

    values: dict[str, Any] = {"switch": True, "word": "w", "number": 7, "part": 0.5, "thing": {"a": 1}}
    flags = {
        name: {"state": "ENABLED", "variants": {"only": value}, "defaultVariant": "only"}
        for name, value in values.items()
    }
    provider = Provider()
    provider.core.set_flags({"flags": flags})
    api.set_provider_and_wait(provider, "every-type")
    client = api.get_client("every-type")
    assert client.get_boolean_value("switch", False) is True
    assert client.get_string_value("word", "?") == "w"
    assert client.get_integer_value("number", 0) == 7
    assert client.get_float_value("part", 0.0) == 0.5
    assert client.get_object_value("thing", {}) == {"a": 1}


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["on", "off", "north", "room-12", "internal", "1.4.0", ">=", "targetingKey", "site", "groups"])
)
operators = st.sampled_from(
    ["if", "fractional", "and", "or", "!", "==", "!=", "in", "var", "cat", "sem_ver", "starts_with", "ends_with"]
) | st.sampled_from(["?:", "map", "reduce", "merge", "*", "/", "log", "missing", "substr", "foo.bar", ""])


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arguments = st.lists(inner, max_size=4)
    return arguments | st.dictionaries(operators, arguments | inner, max_size=2)


texts = st.sampled_from(["north", "room-12", "a" * 256]) | st.sampled_from(
    ["targetingKey", "site", "model", "version", "$flagd.flagKey"]
).map(lambda name: {"var": name})
joined = st.recursive(
    texts, lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"cat": parts}), max_leaves=4
)
lists = st.just({"var": "groups"}) | st.lists(st.sampled_from(["internal", "room-12"]), max_size=3)
versions = st.sampled_from(["1", "1.4", "1.4.0", "0.0.0", "999999999.0.1-rc1"])
truths = st.recursive(
    st.booleans()
    | st.tuples(st.sampled_from(["==", "!=", "===", "!==", "starts_with", "ends_with"]), joined, joined).map(
        lambda parts: {parts[0]: [parts[1], parts[2]]}
    )
    | st.tuples(joined, lists).map(lambda parts: {"in": list(parts)})
    | st.tuples(st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "^", "~"]), versions).map(
        lambda parts: {"sem_ver": [{"var": "version"}, *parts]}
    ),
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
        lambda parts: st.sampled_from([{"and": parts}, {"or": parts}, {"!": parts[:1]}])
    ),
    max_leaves=5,
)
shares = st.lists(st.tuples(st.sampled_from(["on", "off"]), st.integers(0, 1000)).map(list), min_size=1, max_size=4)
outcomes = st.none() | st.sampled_from(["on", "off"]) | shares.map(lambda parts: {"fractional": [["on", 1], *parts]})
branches = st.recursive(
    outcomes,
    lambda inner: st.lists(st.tuples(truths, inner), min_size=1, max_size=3).map(
        lambda pairs: {"if": [each for pair in pairs for each in pair]}
    ),
    max_leaves=5,
)
rules = branches.filter(lambda rule: isinstance(rule, dict))
kiosks = st.builds(
    Target,
    device=st.text(max_size=70),
    site=st.text(max_size=70),
    groups=st.lists(st.text(max_size=10) | st.just("internal"), max_size=3).map(tuple),
    model=st.text(max_size=70),
    version=st.text(max_size=20) | versions,
)


@settings(max_examples=1500)
@given(rule=rules, kiosk=kiosks)
def test_whatever_may_be_written_gives_every_kiosk_a_variant(rule: object, kiosk: Target) -> None:
    assert chosen(rule, kiosk) in ("on", "off")


@settings(max_examples=1500)
@given(rule=st.recursive(leaves, grown, max_leaves=15), kiosk=kiosks)
@example(rule={"if": [{"==": [{"var": ["site", None]}, "x"]}, "on"]}, kiosk=ROOM)
@example(rule={"if": [{"sem_ver": ["1.0", ">", "0.9"]}, "on"]}, kiosk=ROOM)
def test_whatever_else_is_written_is_refused_or_gives_a_variant(rule: object, kiosk: Target) -> None:
    try:
        found = checked(document(rule=rule))
    except Refused:
        return
    assert variants(found, kiosk)["offline_recording"] in ("on", "off")


anything = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=10), inner), max_leaves=15
)


@settings(max_examples=1000)
@given(part=st.sampled_from(["metadata", "flags", "version", "issued", "flag", "state", "variants"]), other=anything)
def test_a_document_with_anything_in_any_place_is_refused_or_understood(part: str, other: object) -> None:
    found = document()
    if part in found:
        found[part] = other
    elif part in ("version", "issued"):
        found["metadata"][part] = other
    elif part == "flag":
        found["flags"]["offline_recording"] = other
    else:
        found["flags"]["offline_recording"][part] = other
    with suppress(Refused):
        assert variants(checked(found), ROOM).keys() == FLAGS.keys()
