"""The table of verbs, and that its documentation is the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.contract.commands import REASONS
from agent.contract.verbs import VERBS
from agent.units import MisreadError

DOCUMENT = (Path(__file__).parents[2] / "docs" / "COMMANDS.md").read_text()


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_every_verb_is_documented_as_it_is(verb: object) -> None:
    name = getattr(verb, "name", "")
    (row,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` |")]
    found = VERBS[name]
    assert found.text in row
    assert found.actor in row
    for argument in found.arguments:
        assert f"`{argument.name}`: {argument.kind.described}; {argument.text}" in row


def test_every_reason_is_documented_with_its_way_out() -> None:
    for name, (meaning, way_out) in REASONS.items():
        assert f"| `{name}` | it {meaning} | {way_out} |" in DOCUMENT


@pytest.mark.parametrize(
    ("verb", "text", "value"),
    [
        ("mute", "10", 10),
        ("set-upload-hours", "20:00-06:00", ["20:00-06:00"]),
        ("set-upload-hours", "always", []),
        ("set-upload-hours", "file", None),
    ],
)
def test_what_a_person_writes_is_what_a_kiosk_takes(verb: str, text: str, value: object) -> None:
    (argument,) = VERBS[verb].arguments
    assert argument.kind.read(text) == value
    assert argument.kind.holds(value)


@pytest.mark.parametrize(
    ("verb", "text"),
    [("mute", "0"), ("mute", "1_0"), ("mute", "ten"), ("mute", "9" * 5000), ("mute", "²"), ("restart", "machine")]
    + [("set-upload-hours", text) for text in ("", "25:00-26:00", "08:00-10:00,09:00-11:00")],
)
def test_what_makes_no_sense_is_refused_before_it_is_sent(verb: str, text: str) -> None:
    (argument,) = VERBS[verb].arguments
    with pytest.raises(MisreadError):
        argument.kind.read(text)


@pytest.mark.parametrize(
    ("args", "sound"),
    [
        ({"last": "10m"}, True),
        ({"from": "2026-03-01T08:00:00Z"}, True),
        ({"from": "2026-03-01T08:00:00Z", "to": "2026-03-01T08:00:01.5Z", "reason": "asked by the patient"}, True),
        ({}, False),
        ({"last": "0s"}, False),
        ({"last": "10m", "from": "2026-03-01T08:00:00Z"}, False),
        ({"to": "2026-03-01T08:00:00Z"}, False),
        ({"from": "2026-03-01T08:00:00Z", "to": "2026-03-01T08:00:00Z"}, False),
        ({"from": "2026-03-01 08:00"}, False),
        ({"from": "2026-13-01T08:00:00Z"}, False),
        ({"last": "10m", "reason": "two\nlines"}, False),
    ],
)
def test_what_is_to_be_erased_is_one_stretch_of_time(args: dict[str, str], sound: bool) -> None:  # noqa: FBT001
    assert (VERBS["erase"].wrong_with(args) is None) == sound
