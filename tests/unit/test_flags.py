"""Which variant holds, where it came from, and files that nobody should trust."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.errors import KioskError
from agent.flags import FILE_NAME, FLAGS, OFFLINE_RECORDING, Choice, Variant, overrides, read_variants
from tests.choices import write_variants

SWITCH = "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def picture(directory: Path, text: str | bytes) -> None:
    (directory / FILE_NAME).write_bytes(text.encode() if isinstance(text, str) else text)


def held(runtime: Path, state: Path, **environ: str) -> Variant:
    return read_variants(runtime, state, environ)["offline_recording"]


def test_every_flag_has_a_default_that_is_one_of_its_variants() -> None:
    for name, flag in FLAGS.items():
        assert (flag.name, flag.default in flag.variants) == (name, True)
        assert flag.description


def test_nobody_chose() -> None:
    assert held(Path("/nowhere"), Path("/nowhere")) == Variant("on", "default")


def test_the_environment_wins_over_memory_and_memory_over_the_card(runtime: Path, state: Path) -> None:
    picture(state, '{"offline_recording": "off"}')
    assert held(runtime, state) == Variant("off", "flags")
    picture(runtime, '{"offline_recording": "on"}')
    assert held(runtime, state) == Variant("on", "flags")
    assert held(runtime, state, **{SWITCH: "off"}) == Variant("off", "environment")
    assert held(runtime, state, **{SWITCH: ""}) == Variant("on", "flags"), "an empty value chooses nothing"


GARBAGE = [
    b"",
    b"\0" * 4096,
    b"\xff\xfe",
    b"off",
    b"null",
    b"7",
    b'["offline_recording"]',
    b'{"offline_recording": ',
    b'{"offline_recording": 0}',
    b'{"offline_recording": null}',
    b'{"offline_recording": ["off"]}',
    b'{"offline_recording": {"off": "off"}}',
    b'{"offline_recording": "OFF"}',
    b'{"another": "off"}',
    b"[" * 60_000,
    b'{"offline_recording": "off", "padding": "' + b"x" * 70_000 + b'"}',
    b'{"offline_recording": ' + b"9" * 10_000 + b"}",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:30]))
def test_a_picture_that_makes_no_sense_is_passed_over(runtime: Path, state: Path, garbage: bytes) -> None:
    picture(runtime, garbage)
    assert held(runtime, state) == Variant("on", "default")
    picture(state, '{"offline_recording": "off"}')
    assert held(runtime, state) == Variant("off", "flags")
    picture(runtime, '{"offline_recording": "on"}')
    picture(state, garbage)
    assert held(runtime, state) == Variant("on", "flags")


def test_a_directory_where_the_picture_should_be_is_passed_over(runtime: Path, state: Path) -> None:
    (runtime / FILE_NAME).mkdir()
    assert held(runtime, state) == Variant("on", "default")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        (SWITCH, "maybe", ['"maybe" is no variant of offline_recording', 'use "on" or "off"']),
        (SWITCH, "OFF", ['"OFF" is no variant']),
        (SWITCH, "x" * 10_000, ["is no variant"]),
        ("KIOSK_RECORDER_FLAG_OFLINE_RECORDING", "off", ["there is no such flag", f"did you mean {SWITCH}?"]),
        ("KIOSK_RECORDER_FLAG_", "off", ["there is no such flag", SWITCH]),
    ],
)
def test_an_environment_that_can_not_be_obeyed_is_refused(variable: str, value: str, told: list[str]) -> None:
    with pytest.raises(KioskError) as refused:
        overrides({variable: value})
    text = str(refused.value)
    assert all(each in text for each in [variable, "/etc/kiosk-recorder/environment", *told])
    assert not refused.value.retryable
    assert len(text) < 400


def test_what_is_written_is_read_in_both_places_and_only_changes_are_written(runtime: Path, state: Path) -> None:
    write_variants(runtime, state, {"offline_recording": "off"})
    for directory in (runtime, state):
        assert json.loads((directory / FILE_NAME).read_text()) == {"offline_recording": "off"}
        assert [path.name for path in directory.iterdir()] == [FILE_NAME]
    before = [(directory / FILE_NAME).stat().st_ino for directory in (runtime, state)]
    write_variants(runtime, state, {"offline_recording": "off"})
    assert [(directory / FILE_NAME).stat().st_ino for directory in (runtime, state)] == before
    write_variants(runtime, state, {})
    assert held(runtime, state) == Variant("on", "default"), "what isn't named is nobody's choice any more"


def test_a_runtime_directory_that_is_not_there_yet_is_made(tmp_path: Path, state: Path) -> None:
    write_variants(tmp_path / "new" / "run", state, {"offline_recording": "off"})
    assert held(tmp_path / "new" / "run", Path("/nowhere")) == Variant("off", "flags")


def chosen(choice: Choice) -> Variant:
    return choice.variants()["offline_recording"]


def test_a_change_is_noticed_and_the_card_is_asked_once(runtime: Path, state: Path) -> None:
    picture(state, '{"offline_recording": "off"}')
    choice = Choice(runtime, state, {})
    assert chosen(choice) == Variant("off", "flags")
    picture(state, '{"offline_recording": "on"}')
    assert chosen(choice) == Variant("off", "flags")
    for variant in ("on", "off", "on", "off"):
        write_variants(runtime, state, {"offline_recording": variant})
        assert chosen(choice) == Variant(variant, "flags")
    write_variants(runtime, state, {})
    assert chosen(choice) == Variant("on", "default")


def test_a_picture_that_makes_no_sense_changes_nothing_while_running(runtime: Path, state: Path) -> None:
    write_variants(runtime, state, {"offline_recording": "off"})
    choice = Choice(runtime, state, {})
    for garbage in (b"", b"\0" * 64, b"[]", b'{"offline_recording": 1}'):
        picture(runtime, garbage)
        assert chosen(choice) == Variant("off", "flags")
    (runtime / FILE_NAME).unlink()
    assert chosen(choice) == Variant("off", "flags")
    write_variants(runtime, state, {"offline_recording": "on"})
    assert chosen(choice) == Variant("on", "flags")


def test_the_technicians_switch_holds_whatever_comes(runtime: Path, state: Path) -> None:
    choice = Choice(runtime, state, {OFFLINE_RECORDING.variable: "off"})
    write_variants(runtime, state, {"offline_recording": "on"})
    assert chosen(choice) == Variant("off", "environment")


def test_as_long_as_nothing_changes_the_picture_is_not_read(
    runtime: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_variants(runtime, state, {"offline_recording": "off"})
    choice = Choice(runtime, state, {})
    monkeypatch.setattr(Path, "open", None)
    asked: list[str] = []
    stat = os.stat

    def counted(path: str) -> os.stat_result:
        asked.append(path)
        return stat(path)

    monkeypatch.setattr(os, "stat", counted)
    for _ in range(3):
        chosen(choice)
    assert asked == [str(runtime / FILE_NAME)] * 3
