"""The button and the light with their recorder's orders: on mock pins, a clock of the test's, a card that may fail."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.contract.commands import compose
from agent.contract.metrics import RecorderState
from agent.contract.signed import public_key, sign
from agent.ledger import Boot
from agent.mailbox import Mailbox
from agent.recorder import keeper, light, rotation
from agent.recorder.encryption import Recipients
from agent.recorder.light import Sign
from agent.recorder.memory import memory_of
from agent.recorder.orders import Hands, Orders
from agent.recorder.panel import Panel
from agent.recorder.standing import FILE, Standing, decoded, keep
from agent.recorder.vitals import Vitals
from agent.settings import Commands, Gpio, Privacy, Settings
from agent.status import mark_uploading
from hw.gpio import Light
from tests.clocks import FakeClock
from tests.keys import PUBLIC, age_key
from tests.recorder.room import settings
from tests.soundcard import eventually

SEED = bytes(range(32))
LED, BUTTON = 17, 27


class Card:
    """Where orders are kept: may take its time, or fail."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.answers.set()
        self.fails = False

    def keep(self, directory: Path, standing: Standing, *, durable: bool) -> None:
        if durable:
            assert self.answers.wait(30)
            if self.fails:
                raise OSError(5, "Input/output error")
        keep(directory, standing, durable=durable)


class Room:
    """One life of a recorder without its audio: the capture thread is `hear`."""

    def __init__(self, root: Path, clock: FakeClock, pins: Any) -> None:  # noqa: ANN401
        self.settings: Settings = replace(
            settings(root / "card"),
            gpio=Gpio(led=LED, button=BUTTON),
            privacy=Privacy(mute_minutes=30),
            commands=Commands(admin_keys=(public_key(SEED),)),
        )
        self.runtime = root / "run"
        self.runtime.mkdir(exist_ok=True)
        self.settings.spool.path.mkdir(exist_ok=True)
        self.clock = clock
        self.pins = pins
        self.vitals = Vitals(microphone="recording", storage="recording")
        self.vitals.boot = Boot(clock.boot, clock.wall_ns() - clock.monotonic_ns(), "synchronised")
        self.hushed = 0
        self.exposed = ""
        self.recipients = Recipients(())
        hands = Hands(
            hush=self._hush,
            restart=lambda: None,
            identify=self._identify,
            lit=lambda: self.panel.lit,
            erase=lambda _: None,
            erased=lambda _: None,
            exposed=lambda: self.exposed,
        )
        self.orders = Orders(self.settings, clock, self.vitals, self.recipients, self.runtime, hands)
        self.panel = Panel(
            self.settings.gpio, self.runtime, clock, self.orders, self.state, lambda: True, lambda: self.hearing
        )
        self.orders.remember()
        self.panel.open()
        self.turn()

    def _hush(self) -> None:
        self.hushed += 1

    def _identify(self, minutes: int) -> None:
        self.panel.identify(minutes)

    def state(self) -> RecorderState:
        return self.vitals.storage if self.vitals.microphone == "recording" else self.vitals.microphone

    @property
    def hearing(self) -> bool:
        return self.vitals.microphone == "recording"

    def hear(self) -> None:
        quiet = self.orders.quiet()
        self.vitals.microphone = "recording" if quiet is None else quiet.reason

    def turn(self) -> None:
        """Each thread's turn: main, capture, writer, main."""
        self.orders.step()
        self.hear()
        self.vitals.noted.clear()
        self.orders.step()
        self.panel.step()

    @property
    def shown(self) -> Sign | None:
        return self.panel._shown  # noqa: SLF001 (a rhythm takes seconds to be seen)

    def settled(self, sign: Sign) -> None:
        def shows() -> bool:
            self.turn()
            return self.shown is sign

        eventually(shows, f"the light is {sign.seen}")

    def press(self) -> None:
        self.pins.pin(BUTTON).drive_low()
        self.pins.pin(BUTTON).drive_high()

    def command(self, verb: str, **args: object) -> dict[str, Any]:
        made = compose(verb, args, site="north", device="room-1", now_ns=self.clock.wall_ns(), lifetime_s=300)
        return self.deliver(made["id"], sign("command", made, SEED))

    def deliver(self, name: str, payload: bytes) -> dict[str, Any]:
        mailbox, found = Mailbox(self.runtime), list[dict[str, Any]]()
        mailbox.hand_over(name, payload)

        def answered() -> bool:
            self.turn()
            answer = mailbox.answer(name)
            if answer is not None:
                found.append(answer)
            return answer is not None

        eventually(answered, "an answer")
        return found[0]

    def left_minutes(self) -> float:
        left_ns = self.orders.until_heard_ns()
        assert left_ns is not None
        return left_ns / 60e9

    def die(self) -> None:
        self.panel.close()

    def on_card(self) -> Standing:
        return decoded((self.settings.spool.path / FILE).read_bytes())


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    card = Card()
    monkeypatch.setattr(keeper, "keep", card.keep)
    yield card
    card.answers.set()


@pytest.fixture
def room(tmp_path: Path, pins: Any, card: Card) -> Iterator[Room]:  # noqa: ANN401, ARG001
    room = Room(tmp_path, FakeClock(), pins)
    yield room
    room.die()


def reborn(room: Room) -> Room:
    room.die()
    return Room(room.settings.spool.path.parent, room.clock, room.pins)


def test_a_press_mutes_at_once_and_the_light_follows_when_the_card_knows(room: Room, card: Card) -> None:
    assert room.shown is light.RECORDING
    card.answers.clear()
    room.press()
    room.turn()
    assert room.orders.quiet() is not None
    assert room.hushed, "the microphone doesn't wait for its next half second"
    assert room.vitals.microphone == "muted"
    room.turn()
    assert room.shown is light.RECORDING, "a power cut would still undo the mute"
    card.answers.set()
    room.settled(light.QUIET)
    assert [quiet.source for quiet in room.on_card().quiets] == ["button"]


def test_the_light_does_not_say_muted_while_the_microphone_is_open(room: Room) -> None:
    room.press()
    room.orders.step()
    eventually(lambda: room.orders.keeping == "kept", "the card knows")
    room.panel.step()
    assert room.shown is light.RECORDING
    room.settled(light.QUIET)


def test_a_card_that_fails_or_is_stuck_mutes_all_the_same_and_the_light_tells_the_difference(
    room: Room, card: Card
) -> None:
    card.fails = True
    room.press()
    room.settled(light.UNKEPT)
    again = reborn(room)
    assert again.orders.quiet() is not None, "memory has it"
    card.fails = False
    again.clock.advance(61)
    again.settled(light.QUIET)
    card.answers.clear()
    again.press()
    again.turn()
    again.clock.advance(3)
    again.settled(light.UNKEPT)
    assert again.left_minutes() == pytest.approx(30, abs=0.1)
    card.answers.set()
    again.settled(light.QUIET)
    again.die()


def test_it_ends_by_itself_and_is_announced_a_minute_before(room: Room) -> None:
    room.press()
    room.settled(light.QUIET)
    room.clock.advance(29 * 60 - 1)
    room.turn()
    assert room.shown is light.QUIET
    assert room.panel.step() <= 1.01, "it wakes for the warning by itself"
    room.clock.advance(1)
    room.turn()
    assert room.shown is light.SOON
    room.clock.advance(59)
    room.turn()
    assert room.orders.quiet() is not None
    room.clock.advance(1)
    room.turn()
    assert room.shown is light.RECORDING


def test_pressing_again_begins_the_time_anew(room: Room) -> None:
    room.press()
    room.settled(light.QUIET)
    room.clock.advance(29.5 * 60)
    room.turn()
    assert room.shown is light.SOON
    room.press()
    room.settled(light.QUIET)
    assert room.left_minutes() == pytest.approx(30)


def test_holding_takes_a_mute_back_but_not_the_one_that_this_press_began(room: Room) -> None:
    room.orders.press()
    room.orders.hold()
    room.settled(light.QUIET)
    room.orders.press()
    room.orders.hold()
    room.settled(light.RECORDING)
    room.command("mute", minutes=10)
    room.orders.press()
    room.orders.hold()
    room.settled(light.QUIET)
    room.orders.press()
    room.orders.hold()
    room.turn()
    assert room.left_minutes() == pytest.approx(10, abs=0.1), "what was ordered by command stays"


def test_a_mute_by_button_is_neither_lifted_nor_shortened_from_afar(room: Room) -> None:
    room.command("pause")
    room.press()
    room.settled(light.QUIET)
    made = compose("resume", {}, site="north", device="room-1", now_ns=room.clock.wall_ns(), lifetime_s=86400)
    refused = room.deliver(made["id"], sign("command", made, SEED))
    assert (refused["ok"], refused["error"], refused["output"]["by"]) == (False, "muted_in_room", "button")
    assert room.command("mute", minutes=1)["ok"]
    quiet = room.orders.quiet()
    assert quiet is not None
    assert quiet.source == "button"
    room.clock.advance(30 * 60)
    room.turn()
    assert room.deliver(made["id"], sign("command", made, SEED))["error"] == "replayed", "nor later, by a repeat"
    room.turn()
    assert room.vitals.microphone == "paused", "what the refused command would have ended goes on"


def test_a_press_while_a_resume_is_on_its_way_to_the_card_wins(room: Room, card: Card) -> None:
    room.command("pause")
    card.answers.clear()
    made = compose("resume", {}, site="north", device="room-1", now_ns=room.clock.wall_ns(), lifetime_s=300)
    mailbox = Mailbox(room.runtime)
    mailbox.hand_over(made["id"], sign("command", made, SEED))
    room.turn()
    room.press()
    room.turn()
    assert room.vitals.microphone == "muted"
    card.answers.set()
    eventually(lambda: room.orders.keeping == "kept", "the card knows")
    assert [quiet.source for quiet in room.on_card().quiets] == ["button"]


@pytest.mark.parametrize("wall_is_right", [True, False])
def test_a_power_cut_never_shortens_it(room: Room, wall_is_right: bool) -> None:  # noqa: FBT001
    room.press()
    room.settled(light.QUIET)
    room.clock.advance(10 * 60)
    (memory_of(room.runtime) / FILE).unlink()
    room.clock.reboot("c" * 32, off_s=300)
    again = reborn(room)
    if not wall_is_right:
        again.vitals.boot = Boot(room.clock.boot, 0, "unsynchronised")
    assert again.left_minutes() == pytest.approx(15 if wall_is_right else 30, abs=0.5)
    again.settled(light.QUIET)
    again.die()


def test_recording_is_announced_too_when_the_clock_becomes_right_after_a_power_cut(room: Room) -> None:
    room.press()
    room.settled(light.QUIET)
    (memory_of(room.runtime) / FILE).unlink()
    room.clock.reboot("c" * 32, off_s=1200)
    again = reborn(room)
    right, again.vitals.boot = again.vitals.boot, Boot(room.clock.boot, 0, "unsynchronised")
    again.settled(light.QUIET)
    room.clock.advance(900)
    again.settled(light.QUIET)
    again.vitals.boot = right
    again.settled(light.SOON)
    room.clock.advance(59)
    again.settled(light.SOON)
    room.clock.advance(1)
    again.settled(light.RECORDING)
    again.die()


def test_nobody_else_can_press_the_button_by_the_pipe_that_tells_of_it(room: Room) -> None:
    pipes = memory_of(room.runtime) / "pins"
    assert pipes.stat().st_mode & 0o777 == 0o700
    assert os.environ["LG_WD"] == str(pipes)


def test_the_light_is_lit_while_the_card_is_still_looked_at_and_the_room_is_heard(room: Room) -> None:
    room.vitals.storage = "starting"
    room.settled(light.RECORDING)


def test_a_card_that_can_not_be_read_after_a_restart_does_not_mute_who_never_was(room: Room) -> None:
    room.die()
    (room.settings.spool.path / FILE).mkdir()
    again = reborn(room)
    assert again.orders.quiet() is None
    again.die()


def test_a_clock_that_jumps_changes_nothing(room: Room) -> None:
    room.press()
    room.settled(light.QUIET)
    for jump_s in (3600, -7200, 86400 * 365):
        room.clock.step(jump_s)
        room.vitals.boot = Boot(room.clock.boot, room.clock.wall_ns() - room.clock.monotonic_ns(), "synchronised")
        room.clock.advance(60)
        room.turn()
        assert room.shown is light.QUIET
    assert room.left_minutes() == pytest.approx(27)


def test_uploads_and_who_looks_for_the_kiosk_are_shown_for_a_while(room: Room) -> None:
    mark_uploading(room.runtime)
    room.turn()
    assert room.shown is light.UPLOADING
    room.clock.advance(6)
    room.turn()
    assert room.shown is light.RECORDING
    assert room.command("identify", minutes=2)["ok"]
    room.turn()
    assert room.shown is light.IDENTIFY
    room.clock.advance(121)
    room.turn()
    assert room.shown is light.RECORDING


def test_without_pins_the_room_is_recorded_and_the_trouble_told(tmp_path: Path, pins: Any) -> None:  # noqa: ANN401
    other = Light(LED, tmp_path)
    room = Room(tmp_path, FakeClock(), pins)
    assert "GPIO 17" in room.panel.trouble
    assert room.command("identify")["error"] == "unavailable"
    room.press()
    room.turn()
    assert room.vitals.microphone == "muted", "the button works without the light"
    room.die()
    other.close()


# Recipients by command, in the same hands.


def test_a_command_makes_no_recorder_encrypt_that_would_not_start_so(room: Room) -> None:
    """What is heard could lie on a disk in plain, beside what is encrypted."""
    room.exposed = "memory can't be locked (Operation not permitted), and this machine swaps"
    answer = room.command("rotate-recipients", recipients=[PUBLIC])
    assert (answer["ok"], answer["error"]) == (False, "failed")
    assert answer["text"].startswith(f"{room.exposed}: a recorder that encrypts wouldn't start here; ")
    assert (room.recipients.now, room.orders.rotated_ns) == ((), None)
    assert not (room.settings.spool.path / rotation.FILE).exists()
    room.exposed = ""
    assert room.command("rotate-recipients", recipients=[PUBLIC])["ok"]
    assert room.recipients.labels == (f"{PUBLIC[:12]}…{PUBLIC[-6:]}",)
    assert room.orders.rotated_ns == room.clock.wall_ns() // 10**9 * 10**9


def test_who_is_revoked_is_so_also_where_memory_can_swap_since(room: Room, tmp_path: Path) -> None:
    assert room.command("rotate-recipients", recipients=[PUBLIC])["ok"]
    room.exposed = "memory can't be locked, and this machine swaps"
    assert room.command("rotate-recipients", recipients=[age_key(tmp_path).public])["ok"]
    assert len(room.recipients.now) == 1
