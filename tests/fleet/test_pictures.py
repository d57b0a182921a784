"""What kiosks tell of themselves is read whatever it is, and remembered versions never fall."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.messages import ROOT
from agent.errors import KioskError
from fleet import pictures
from fleet.sightings import Sightings
from tests.contract.test_rollout import JSON

TELLING = {
    "flags": "offline_recording=off,later=x",
    "flags_version": 3,
    "custody_head": "0123456789ab-17-aabbccddeeff0011",
    "upload_attempts_total": 10,
    "upload_failures_total": 1,
    "segments_total": 9,
    "segment_errors_total": 0,
}
BIRTH = {
    "groups": ["internal"],
    "model": "Raspberry Pi 4",
    "versions": {"kiosk-recorder": "1.2.3"},
    "flags_by_environment": {"offline_recording": "on"},
}


def said(**below: object) -> dict[str, bytes]:
    payloads = {"status": b"online"} | {
        name.replace("__", "/"): content if isinstance(content, bytes) else json.dumps(content).encode()
        for name, content in below.items()
    }
    return {f"{ROOT}/north/room-1/{name}": payload for name, payload in payloads.items()}


def test_a_kiosk_is_known_by_what_it_tells() -> None:
    told = said(birth=BIRTH, telemetry=TELLING, alert__disk={"severity": "critical"}, alert__clipping={"severity": "w"})
    (found,) = pictures.read(told)
    assert found.name == "north/room-1"
    assert found.has("offline_recording") == "off"
    assert found.flags_version == 3
    assert found.by_environment == {"offline_recording"}
    assert found.critical == ("disk",)
    assert found.counters is not None
    assert (found.counters.epoch, found.counters.segments_total) == ("0123456789ab", 9)
    assert (found.target.groups, found.target.version) == (("internal",), "1.2.3")


def test_what_a_kiosk_told_before_it_went_is_not_what_it_tells() -> None:
    (found,) = pictures.read(said(birth=BIRTH, telemetry=TELLING) | {f"{ROOT}/north/room-1/status": b"offline"})
    assert (found.counters, found.variants, found.flags_version) == (None, None, None)


def test_a_kiosk_whose_ledger_cannot_be_read_tells_no_counters() -> None:
    (found,) = pictures.read(said(birth=BIRTH, telemetry=TELLING | {"segments_total": None}))
    assert (found.counters, found.has("offline_recording")) == (None, "off")


@given(
    st.dictionaries(st.sampled_from([*TELLING, "x"]), JSON),
    st.dictionaries(st.sampled_from([*BIRTH, "x"]), JSON),
    JSON | st.binary(max_size=20),
)
def test_nothing_that_a_kiosk_says_is_stumbled_over(
    telemetry: dict[str, object], birth: dict[str, object], alert: object
) -> None:
    (found,) = pictures.read(said(birth=BIRTH | birth, telemetry=TELLING | telemetry, alert__disk=alert))
    assert found.should_have(None, "offline_recording") == "on"


def test_the_highest_version_is_remembered_for_each_broker(tmp_path: Path) -> None:
    one, other = (Sightings(tmp_path / "keys" / "seen.json", url) for url in ("mqtt://a", "mqtt://b"))
    for version in (3, 5, 4):
        one.note("flags", version)
    other.note("rollout", 2)
    assert [each.highest(kind) for each in (one, other) for kind in ("flags", "rollout")] == [5, 0, 0, 2]


@pytest.mark.parametrize("content", ["", "[]", '{"mqtt://a": 3}', "{"])
def test_a_memory_that_was_damaged_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "seen.json").write_text(content)
    with pytest.raises(KioskError, match=r"seen\.json"):
        Sightings(tmp_path / "seen.json", "mqtt://a").highest("flags")
