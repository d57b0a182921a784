"""docs/FLAGS.md says what is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from agent.contract.evaluation import Target, checked, variants
from agent.contract.flags import FLAGS
from agent.contract.targeting import LISTS, TEXTS
from tests.contract.bucketing import DEVICES, bucket

DOCUMENT = (Path(__file__).parents[2] / "docs" / "FLAGS.md").read_text()


def test_the_flags_are_documented_as_the_table_has_them() -> None:
    documented = re.findall(r"^\| `(\w+)` \| (.*) \| `(\w+)` \| (.*) \|$", DOCUMENT, re.MULTILINE)
    assert documented == [
        (flag.name, ", ".join(f"`{name}`" for name in flag.variants), flag.default, flag.description)
        for flag in FLAGS.values()
    ]


def test_the_example_does_what_is_said_of_it() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    document = checked(json.loads(example))
    assert (document.version, document.notes) == (7, ())
    internal = Target(device="room-12", site="north", groups=("internal",))
    assert variants(document, internal) == {"offline_recording": "on"}
    for device in DEVICES:
        tenth = bucket("offline_recording", device) < 10
        assert variants(document, Target(device=device, site="north"))["offline_recording"] == (
            "on" if tenth else "off"
        )


def test_every_form_of_a_rule_that_is_documented_passes() -> None:
    forms: dict[str, list[str]] = {
        kind: re.findall(r"`([^`]+)`", cells)
        for kind, cells in re.findall(r"^\| (variant|truth|text|list) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    }
    assert forms.keys() == {"variant", "truth", "text", "list"}
    for form in forms["truth"]:
        if form.startswith("{") or form == "true":
            passes({"if": [filled(form), "on"]})
        else:
            passes({"if": [{form: ["a", "b"]}, "on"]})
    for form in forms["variant"]:
        passes({"if": [True, filled(form)]})
    for form in forms["text"]:
        passes({"if": [{"==": [filled(form), "a"]}, "on"]})
    for form in forms["list"]:
        passes({"if": [{"in": ["a", filled(form)]}, "on"]})
    (by_site,) = re.findall(r"`(\{\"fractional\": \[\{.*?)`", DOCUMENT)
    passes(json.loads(by_site))


def filled(form: str) -> Any:  # noqa: ANN401
    """A form with its words replaced by the simplest of their kind."""
    for word, instance in {"truth": "true", "variant": '"on"', "text": '"a"', "list": '["a"]'}.items():
        form = re.sub(rf'(?<!["\w]){word}(?!["\w])', instance, form)
    return json.loads(form.replace(", …", ""))


def passes(rule: object) -> None:
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "targeting": rule}
    checked({"metadata": {"version": 1}, "flags": {"offline_recording": flag}})


def test_everything_known_of_a_kiosk_is_documented() -> None:
    for name in (*TEXTS, *LISTS):
        assert f"`{name}`" in DOCUMENT
