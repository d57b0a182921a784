"""The flag desk, step by step: which documents count, which don't, and what the recorder gets to know."""

from __future__ import annotations

import json
import logging
import os
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from agent.contract.evaluation import Target
from agent.contract.messages import FLAGS, Heard
from agent.contract.signed import LONGEST_BYTES, sign
from agent.courier.flags import FlagDesk
from agent.errors import KioskError
from agent.flags import InForce, Variant, read_variants
from agent.spool import Layout
from tests.clocks import FakeClock
from tests.contract.flag_documents import document, rollout
from tests.courier.admin import KEY, SECOND_KEY, SECOND_SEED, SEED, attacks, changed, decided
from tests.soundcard import eventually

SWITCH = "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING"


class Room:
    """A kiosk's card and memory; each desk that is opened here is a courier's start."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        self.layout = Layout(root / "card")
        self.layout.create()
        self.runtime = root / "run"
        self.clock = clock
        self.noted: list[tuple[str, Mapping[str, Any]]] = []
        self.changes = 0

    def start(
        self, *keys: str, groups: tuple[str, ...] = (), environ: Mapping[str, str] = MappingProxyType({})
    ) -> FlagDesk:
        """A desk that has asked the card."""
        target = Target(device="room-12", site="north", groups=groups, version="1.4.0")
        desk = FlagDesk(keys or (KEY,), target, self.layout, self.runtime, self.clock, threading.Event(), environ)
        desk.note = lambda name, facts: self.noted.append((name, facts))
        desk.changed = self._changed
        desk.begin()
        return desk

    def hear(self, desk: FlagDesk, *payloads: bytes, retained: bool = False) -> None:
        """Have the desk hear and judge."""
        for payload in payloads:
            desk.hear(Heard(FLAGS, payload, retained))
            desk.work()

    def told(self) -> Variant:
        """What the recorder gets to know."""
        return read_variants(self.runtime, self.layout.state, {})["offline_recording"]

    def remembered(self) -> Variant:
        """What it would get to know after a power cut."""
        return read_variants(Path("/nowhere"), self.layout.state, {})["offline_recording"]

    def reasons(self) -> list[str]:
        """Why documents were refused, since the last call."""
        reasons = [facts["reason"] for name, facts in self.noted if name == "flags_refused"]
        self.noted.clear()
        return reasons

    def files(self) -> set[str]:
        """What the desk keeps on the card."""
        return {path.name for path in self.layout.state.iterdir()}

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture
def room(tmp_path: Path, clock: FakeClock) -> Room:
    return Room(tmp_path, clock)


def held(desk: FlagDesk) -> tuple[str, str, int | None]:
    """Variant and source of `offline_recording`, and the version of the document that counts."""
    assert desk.in_force is not None
    variant = desk.in_force.variants["offline_recording"]
    return variant.name, variant.source, desk.in_force.version


OFF, NOBODY = Variant("off", "flags"), Variant("on", "default")


def test_where_nobody_ever_chose_the_defaults_hold_and_nothing_is_written(room: Room) -> None:
    desk = room.start()
    assert held(desk) == ("on", "default", None)
    assert room.files() == set()
    assert not room.runtime.exists()
    assert room.changes == 1


def test_what_is_heard_holds_at_once_for_the_recorder_the_fleet_and_the_next_start(room: Room) -> None:
    desk = room.start()
    room.hear(desk, decided(7, "off"))
    assert held(desk) == ("off", "flags", 7)
    assert (room.told(), room.remembered()) == (OFF, OFF)
    assert room.noted == [("flags", {"version": 7, "variants": {"offline_recording": "off"}})]
    assert room.changes == 2
    assert (room.layout.state / "flags.json").read_bytes() == decided(7, "off")
    assert held(room.start()) == ("off", "flags", 7)


def test_a_newer_document_takes_the_place_of_the_one_before(room: Room) -> None:
    desk = room.start()
    room.hear(desk, decided(1, "off"), decided(2, "on"), decided(9, "off"))
    assert held(desk) == ("off", "flags", 9)
    assert held(room.start()) == ("off", "flags", 9)


def test_who_the_kiosk_is_decides(room: Room) -> None:
    payload = sign("flags", document(1, rollout(0), default="off"), SEED)
    room.hear(room.start(), payload)
    assert room.told() == OFF
    assert held(room.start(groups=("internal",))) == ("on", "flags", 1)
    assert room.told() == Variant("on", "flags"), "another configuration is judged at the start"


def test_an_older_document_is_refused_also_by_the_next_start(room: Room) -> None:
    desk = room.start()
    room.hear(desk, decided(7, "off"), decided(6, "on"))
    assert room.reasons() == ["older_version"]
    assert held(desk) == ("off", "flags", 7)
    again = room.start()
    room.hear(again, decided(6, "on"), decided(1, "on"))
    assert room.reasons() == ["older_version", "older_version"]
    assert held(again) == ("off", "flags", 7)
    assert (room.told(), room.remembered()) == (OFF, OFF)


def test_the_same_version_with_other_content_is_refused(room: Room) -> None:
    desk = room.start()
    room.hear(desk, decided(7, "off"), decided(7, "on"))
    assert room.reasons() == ["same_version"]
    assert held(desk) == ("off", "flags", 7)


def test_the_broker_may_repeat_a_document_as_often_as_it_likes(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    desk = room.start()
    room.hear(desk, decided(7, "off"))
    before = (room.layout.state / "flags.json").stat().st_ino
    room.noted.clear()
    caplog.clear()
    room.hear(desk, decided(7, "off"), decided(7, "off"), retained=True)
    room.hear(room.start(), decided(7, "off"), retained=True)
    assert room.noted == []
    assert {record.levelno for record in caplog.records} <= {logging.INFO}
    assert (room.layout.state / "flags.json").stat().st_ino == before


def test_a_refused_document_that_the_broker_repeats_is_told_once(room: Room) -> None:
    desk = room.start()
    room.hear(desk, *[decided(1, "perhaps")] * 3, retained=True)
    assert room.reasons() == ["invalid"]


def test_a_topic_that_was_emptied_changes_nothing(room: Room) -> None:
    desk = room.start()
    room.hear(desk, decided(7, "off"), b"")
    assert held(desk) == ("off", "flags", 7)
    assert held(room.start()) == ("off", "flags", 7)
    assert room.reasons() == []


@pytest.mark.parametrize("attack", attacks(8, "on"))
def test_what_is_no_decision_of_an_admins_takes_nothing_away(room: Room, attack: str) -> None:
    payload, reason = attacks(8, "on")[attack]
    desk = room.start()
    room.hear(desk, decided(7, "off"), payload)
    assert room.reasons() == [reason]
    assert held(desk) == ("off", "flags", 7)
    assert (room.told(), room.remembered()) == (OFF, OFF)
    assert held(room.start()) == ("off", "flags", 7)
    room.hear(desk, decided(8, "on"))
    assert held(desk) == ("on", "flags", 8), "and stands in nobody's way"


@pytest.mark.parametrize("attack", attacks(1, "off"))
def test_where_nobody_chose_it_chooses_nothing(room: Room, attack: str) -> None:
    payload, reason = attacks(1, "off")[attack]
    desk = room.start()
    room.hear(desk, payload)
    assert room.reasons() == [reason]
    assert held(desk) == ("on", "default", None)
    assert room.files() == set()


def test_whoever_floods_the_topic_fills_neither_journal_nor_card(
    room: Room, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    desk = room.start()
    for number in range(1000):
        room.hear(desk, b"%d" % number)
    assert len(room.reasons()) == 10
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 10
    clock.advance(61)
    room.hear(desk, b"x")
    assert room.reasons() == ["malformed"]


def test_more_than_fits_is_forgotten_before_it_is_judged(room: Room) -> None:
    desk = room.start()
    for _ in range(1000):
        desk.hear(Heard(FLAGS, bytes(2 * LONGEST_BYTES["flags"]), retained=False))
    desk.hear(Heard(FLAGS, decided(7, "off"), retained=False))
    desk.work()
    assert held(desk) == ("off", "flags", 7)
    assert len(room.reasons()) <= 4


def test_ten_thousand_payloads_of_which_not_one_is_an_admins(room: Room) -> None:
    """Damaged, spliced and made up from a good one that the desk never hears."""
    chance = random.Random(20260301)
    good = decided(9, "on")
    envelope = json.loads(good)
    desk = room.start()
    room.hear(desk, decided(7, "off"))
    payloads = {mutant(chance, good, envelope, number % 6) for number in range(24_000)}
    assert len(payloads) > 10_000
    for payload in sorted(payloads):
        room.hear(desk, payload)
        assert held(desk) == ("off", "flags", 7), payload
    room.hear(desk, good)
    assert held(desk) == ("on", "flags", 9), "the one they were made of"


def mutant(chance: random.Random, good: bytes, envelope: dict[str, str], way: int) -> bytes:
    """Something that isn't what was signed, however alike."""
    damaged = bytearray(good)
    match way:
        case 0:
            # Not in the last letter of the signature: four of its bits mean nothing.
            last = good.index(envelope["signature"].encode()) + 85
            place = chance.choice([each for each in range(len(good)) if each != last])
            damaged[place] ^= 1 << chance.randrange(8)
        case 1:
            del damaged[chance.randrange(len(damaged)) :]
        case 2:
            start = chance.randrange(len(damaged))
            damaged[start : start + chance.randrange(1, 40)] = chance.randbytes(chance.randrange(40))
            if bytes(damaged) == good:
                return b"?"
        case 3:
            return chance.randbytes(chance.randrange(1, 400))
        case 4:
            name = chance.choice(["signed", "key", "signature"])
            other: list[object] = [
                None,
                True,
                7,
                -0.5,
                [],
                {},
                "",
                envelope["signature"],
                envelope["key"],
                chance.random() * 1e300,
            ]
            return changed(good, **{name: chance.choice([each for each in other if each != envelope[name]])})
        case _:
            text = list(envelope["signed"])
            text[chance.randrange(len(text))] = chance.choice("07\0 {}\"'é\ud800")
            return changed(good, signed="".join(text)) if "".join(text) != envelope["signed"] else b"!"
    return bytes(damaged)


def test_a_key_that_is_no_longer_listed_takes_back_what_it_signed(room: Room) -> None:
    room.hear(room.start(), decided(40, "off"))
    room.noted.clear()
    revoked = room.start(SECOND_KEY)
    assert held(revoked) == ("on", "default", None)
    assert room.reasons() == ["wrong_key"]
    assert (room.told(), room.remembered()) == (NOBODY, NOBODY)
    room.hear(revoked, decided(5, "off", seed=SECOND_SEED))
    assert held(revoked) == ("off", "flags", 5), "nor does its version bind anybody"


def test_without_any_key_nobody_is_listened_to(room: Room, clock: FakeClock) -> None:
    target = Target(device="room-12", site="north")
    deaf = FlagDesk((), target, room.layout, room.runtime, clock, threading.Event(), {})
    assert deaf.listens_to == {}
    assert list(room.start().listens_to) == [FLAGS]


def test_the_same_decision_under_another_key_outlives_the_first_key(room: Room) -> None:
    desk = room.start(KEY, SECOND_KEY)
    room.hear(desk, decided(7, "off"), decided(7, "off", seed=SECOND_SEED))
    assert room.reasons() == []
    assert held(room.start(SECOND_KEY)) == ("off", "flags", 7)


def test_a_flag_that_a_later_document_no_longer_has_is_nobodys_choice(room: Room) -> None:
    desk = room.start()
    room.hear(desk, decided(1, "off"), sign("flags", {"metadata": {"version": 2}, "flags": {}}, SEED))
    assert held(desk) == ("on", "default", 2)
    assert (room.told(), room.remembered()) == (NOBODY, NOBODY)


def test_the_environment_wins_and_the_document_still_counts(room: Room) -> None:
    desk = room.start(environ={SWITCH: "off"})
    assert held(desk) == ("off", "environment", None)
    room.hear(desk, decided(7, "on"))
    assert held(desk) == ("off", "environment", 7)
    assert desk.overridden == {"offline_recording": "off"}
    assert room.told() == Variant("on", "flags"), "the recorder reads the environment itself"


def test_an_environment_that_can_not_be_obeyed_is_an_error(room: Room) -> None:
    with pytest.raises(KioskError, match="no variant"):
        room.start(environ={SWITCH: "maybe"})


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_torn_document_on_the_card_does_not_count_until_the_broker_repeats_it(room: Room, length: int) -> None:
    payload = decided(7, "off")
    room.hear(room.start(), payload)
    (room.layout.state / "flags.json").write_bytes(payload[:length])
    room.noted.clear()
    again = room.start()
    assert held(again) == ("on", "default", None)
    assert room.reasons() == ["malformed"]
    room.hear(again, payload, retained=True)
    assert held(again) == ("off", "flags", 7)
    assert held(room.start()) == ("off", "flags", 7)


def test_a_document_on_the_card_that_somebody_changed_does_not_count(room: Room) -> None:
    room.hear(room.start(), decided(7, "off"))
    room.noted.clear()
    for payload, reason in attacks(8, "off").values():
        (room.layout.state / "flags.json").write_bytes(payload)
        assert held(room.start()) == ("on", "default", None)
        assert room.reasons() == [reason]


def test_a_document_that_a_release_no_longer_understands_still_bars_older_ones(room: Room) -> None:
    (room.layout.state / "flags.json").write_bytes(decided(7, "of a later release"))
    desk = room.start()
    assert room.reasons() == ["invalid"]
    room.hear(desk, decided(6, "off"))
    assert room.reasons() == ["older_version"]
    room.hear(desk, decided(8, "off"))
    assert held(desk) == ("off", "flags", 8)


def writing() -> bool:
    """Whether somebody is at the card."""
    return any(thread.name == "flags-card" for thread in threading.enumerate())


def test_a_card_that_can_not_be_written_keeps_nobody_from_knowing(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    (room.layout.state / "flags.json.new").mkdir()
    desk = room.start()
    room.hear(desk, decided(7, "off"))
    assert held(desk) == ("off", "flags", 7)
    assert (room.told(), room.remembered()) == (OFF, NOBODY)
    for _ in range(3):
        desk.work()
        eventually(lambda: not writing(), "it gives up")
    assert caplog.text.count("keep flags") == 1
    (room.layout.state / "flags.json.new").rmdir()
    desk.work()
    eventually(lambda: room.remembered() == OFF, "it is made good")
    assert held(room.start()) == ("off", "flags", 7)


def test_a_card_that_is_stuck_keeps_nobody_from_knowing(room: Room) -> None:
    # Opening a pipe that nobody reads doesn't return: as a card does that hangs in the kernel.
    stuck = room.layout.state / "flags.json.new"
    os.mkfifo(stuck)
    desk = room.start()
    room.hear(desk, decided(7, "off"), decided(8, "on"), decided(9, "off"))
    assert held(desk) == ("off", "flags", 9)
    assert (room.told(), room.remembered()) == (OFF, NOBODY)
    with stuck.open("rb"):
        eventually(lambda: not writing(), "it gives up")
    stuck.unlink()
    desk.work()
    eventually(lambda: room.remembered() == OFF, "it is made good")
    assert held(room.start()) == ("off", "flags", 9)


def test_a_card_that_is_not_there_takes_nothing_back(room: Room, tmp_path: Path) -> None:
    room.hear(room.start(), decided(7, "off"))
    room.layout.root.rename(tmp_path / "elsewhere")
    desk = room.start()
    assert held(desk) == ("off", "flags", None)
    assert room.told() == OFF
    desk.work()
    assert room.told() == OFF
    room.hear(desk, decided(8, "on"))
    assert held(desk) == ("on", "flags", 8)
    assert room.told() == Variant("on", "flags")


def test_memory_that_is_full_is_tried_again(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    desk = room.start()
    room.runtime.touch()
    room.hear(desk, decided(7, "off"))
    desk.work()
    assert caplog.text.count("tell recorder flags") == 1
    room.runtime.unlink()
    desk.work()
    assert room.told() == OFF


def test_what_an_earlier_courier_chose_is_taken_back_where_there_is_no_document(room: Room) -> None:
    room.hear(room.start(), decided(7, "off"))
    (room.layout.state / "flags.json").unlink()
    assert held(room.start()) == ("on", "default", None)
    assert (room.told(), room.remembered()) == (NOBODY, NOBODY)


def test_everybody_reads_a_whole_picture(room: Room) -> None:
    desk = room.start()
    before = desk.in_force
    room.hear(desk, decided(7, "off"))
    assert before == InForce({"offline_recording": NOBODY}, None)
    assert desk.in_force == InForce({"offline_recording": OFF}, 7)
