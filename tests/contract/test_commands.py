"""Which payloads count: each refusal, each signed field changed, and a hundred thousand that nobody signed."""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any

import pytest

from agent.contract.commands import REASONS, TOLERANCE_NS, Command, Refusal, compose, judge, judge_again
from agent.contract.keys import timestamp
from agent.contract.signed import public_key, sign
from agent.contract.verbs import VERBS
from agent.units import NS_PER_S

ALICE, MALLORY = bytes(range(32)), bytes(range(1, 33))
KEYS = frozenset({public_key(ALICE)})
TARGET = "north/room-12"
NOW_NS = 1_800_000_000 * NS_PER_S
ABLE = frozenset(VERBS) - {"identify"}
ARGS: dict[str, dict[str, Any]] = {"set-upload-hours": {"hours": ["20:00-06:00"]}}


def document(verb: str = "mute", **changed: object) -> dict[str, Any]:
    args = ARGS.get(verb, {})
    made = compose(verb, args, site="north", device="room-12", now_ns=NOW_NS, lifetime_s=300)
    return made | changed


def judged(payload: bytes, *, retained: bool = False, now_ns: int | None = NOW_NS, seen: str = "") -> Command | Refusal:
    return judge(
        payload, retained=retained, keys=KEYS, target=TARGET, now_ns=now_ns, seen=lambda name: name == seen, able=ABLE
    )


def reason(payload: bytes, **options: Any) -> str:  # noqa: ANN401 (passed on)
    found = judged(payload, **options)
    assert isinstance(found, Refusal)
    assert found.reason in REASONS
    assert found.text
    return found.reason


def test_a_good_command_counts() -> None:
    made = document("pause", args={"minutes": 5})
    found = judged(sign("command", made, ALICE))
    assert isinstance(found, Command)
    assert (found.id, found.verb, found.args, found.key) == (made["id"], "pause", {"minutes": 5}, public_key(ALICE))
    assert found.expires_ns - found.issued_ns == 300 * NS_PER_S


def test_each_refusal_has_its_own_reason_and_names_the_command() -> None:
    good = document()
    payload = sign("command", good, ALICE)
    unsigned = json.dumps({"signed": json.dumps(good)}).encode()
    forged = payload.replace(b"mute", b"restart")
    other_kind = sign("flags", good, ALICE)
    found = {
        "malformed": judged(sign("command", good | {"extra": 1}, ALICE)),
        "unsigned": judged(unsigned),
        "wrong_key": judged(sign("command", good, MALLORY)),
        "bad_signature": judged(forged),
        "retained": judged(payload, retained=True),
        "other_target": judged(sign("command", good | {"target": "north/room-13"}, ALICE)),
        "expired": judged(payload, now_ns=NOW_NS + 300 * NS_PER_S),
        "not_yet_valid": judged(payload, now_ns=NOW_NS - TOLERANCE_NS - 1),
        "clock": judged(payload, now_ns=None),
        "replayed": judged(payload, seen=good["id"]),
        "unknown_verb": judged(sign("command", good | {"verb": "shell"}, ALICE)),
        "bad_arguments": judged(sign("command", good | {"args": {"minutes": 0}}, ALICE)),
        "unavailable": judged(sign("command", good | {"verb": "identify"}, ALICE)),
    }
    for expected, refusal in found.items():
        assert isinstance(refusal, Refusal), expected
        assert (refusal.reason, refusal.id) == (expected, good["id"])
    assert reason(other_kind) == "bad_signature"
    assert isinstance(judged(payload, now_ns=NOW_NS - TOLERANCE_NS), Command)


def test_what_this_kiosk_cannot_do_is_refused_plainly() -> None:
    found = judge(
        sign("command", document("identify"), ALICE),
        retained=False,
        keys=KEYS,
        target=TARGET,
        now_ns=NOW_NS,
        seen=lambda _: False,
        able=frozenset(),
    )
    assert isinstance(found, Refusal)
    assert (found.reason, found.text) == ("unavailable", "this kiosk has no LED")


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("pause", {"minutes": 0}),
        ("pause", {"minutes": True}),
        ("pause", {"minutes": 1.5}),
        ("pause", {"minutes": "5"}),
        ("pause", {"minutes": 7 * 24 * 60 + 1}),
        ("mute", {"minutes": 24 * 60 + 1}),
        ("mute", {"seconds": 1}),
        ("resume", {"minutes": 1}),
        ("restart", {"what": "machine"}),
        ("set-upload-hours", {}),
        ("set-upload-hours", {"hours": "20:00-06:00"}),
        ("set-upload-hours", {"hours": ["20:00"]}),
        ("set-upload-hours", {"hours": ["08:00-10:00", "09:00-11:00"]}),
        ("set-upload-hours", {"hours": [7]}),
        ("report", {"to": "evil.example"}),
    ],
)
def test_arguments_that_a_verb_does_not_take_are_refused(verb: str, args: dict[str, Any]) -> None:
    assert reason(sign("command", document(verb, args=args), ALICE)) == "bad_arguments"


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "abc"},
        {"id": "../../../../etc/passwd"},
        {"id": "0" * 65},
        {"id": 7},
        {"issued": "yesterday"},
        {"issued": "2027-02-30T00:00:00Z"},
        {"expires": timestamp(NOW_NS + 24 * 3600 * NS_PER_S + 10**6)},
        {"expires": timestamp(NOW_NS)},
        {"expires": None},
        {"target": ["north/room-12"]},
        {"verb": {}},
        {"args": []},
    ],
)
def test_a_body_of_another_shape_is_malformed(changed: dict[str, Any]) -> None:
    assert reason(sign("command", document() | changed, ALICE)) == "malformed"


def test_a_change_of_any_signed_field_breaks_the_signature() -> None:
    good = document()
    envelope = json.loads(sign("command", good, ALICE))
    for name, value in {
        "id": "f" * 32,
        "issued": timestamp(NOW_NS + NS_PER_S),
        "expires": timestamp(NOW_NS + 3600 * NS_PER_S),
        "target": "north/room-13",
        "verb": "resume",
        "args": {"minutes": 1},
    }.items():
        changed = envelope | {"signed": json.dumps(good | {name: value}, separators=(",", ":"))}
        assert reason(json.dumps(changed).encode()) == "bad_signature", name


def test_what_is_kept_is_judged_again_without_its_time() -> None:
    payload = sign("command", document("set-upload-hours"), ALICE)
    assert isinstance(judge_again(payload, keys=KEYS, target=TARGET, able=ABLE), Command)
    assert isinstance(judge_again(payload, keys=frozenset(), target=TARGET, able=ABLE), Refusal)
    assert isinstance(judge_again(payload[:-9] + b'AAAAAA"}', keys=KEYS, target=TARGET, able=ABLE), Refusal)


def garbage(source: random.Random, good: list[bytes]) -> bytes:
    """Bytes, JSON of any shape, and good payloads that were changed somewhere."""
    kind = source.randrange(5)
    if kind == 0:
        return source.randbytes(source.randrange(300))
    if kind == 1:
        return json.dumps(_any(source, 4)).encode()
    base = bytearray(source.choice(good))
    if kind == 2:
        base[source.randrange(len(base))] ^= 1 << source.randrange(8)
    elif kind == 3:
        begin = source.randrange(len(base))
        del base[begin : begin + source.randrange(1, 40)]
    else:
        envelope = json.loads(base)
        envelope[source.choice(["signed", "key", "signature", "more"])] = _any(source, 3)
        if "more" in envelope:
            del envelope["signature"]
        return json.dumps(envelope).encode()
    return bytes(base)


def _any(source: random.Random, depth: int) -> Any:  # noqa: ANN401 (any JSON)
    kind = source.randrange(7 if depth else 5)
    if kind == 5:
        return [_any(source, depth - 1) for _ in range(source.randrange(4))]
    if kind == 6:
        names = ["id", "verb", "args", "target", "issued", "expires", "signed", "key", "signature"]
        return {source.choice(names): _any(source, depth - 1) for _ in range(source.randrange(5))}
    return [None, True, source.randrange(-(10**20), 10**20), "mute", "\ud800é" * source.randrange(5)][kind]


@pytest.mark.timeout(300)
def test_of_a_hundred_thousand_payloads_none_is_obeyed_and_none_is_remembered() -> None:
    source = random.Random(20261125)
    good = [sign("command", document(verb), ALICE) for verb in VERBS]
    whole = set(good)
    for number in range(100_000):
        if number == 2_000:
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
        payload = garbage(source, good)
        # A flipped bit may leave a good one only where it changes nothing that is signed: nowhere in these.
        if payload not in whole:
            assert isinstance(judged(payload), Refusal), payload
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 256 * 1024
