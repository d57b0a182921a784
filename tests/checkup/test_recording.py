"""What a running recorder wrote last, judged by what it entered and says, wherever its file is by now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.checkup import recording
from agent.checkup.finding import Finding
from agent.checkup.visit import Visit
from agent.contract.age import label
from agent.settings import Seal
from agent.status import RecorderStatus, write_status
from agent.units import NS_PER_S
from tests.checkup.kiosk import found, visit
from tests.clocks import FakeClock
from tests.keys import age_key
from tests.recorder.room import WriterRoom, noise, settings

PID = 4711


class Running:
    """A recorder that has recorded 5 s, in segments of 2 s, and goes on."""

    def __init__(self, root: Path) -> None:
        self.clock = FakeClock()
        self.room = WriterRoom(settings(root / "kiosk"), self.clock)
        self.room.hear(noise(5))
        self.visit = visit(self.room.settings, self.clock, recorder_pid=PID, seconds=1)
        self.visit.runtime.mkdir()
        self.says()

    def says(self, **changes: object) -> None:
        """Its picture of this moment."""
        now_ns = self.clock.monotonic_ns()
        picture = RecorderStatus(pid=PID, boot=self.clock.boot, state="recording", since_ns=0, updated_ns=now_ns)
        write_status(self.visit.runtime, replace(picture, **changes))  # type: ignore[arg-type]

    def newest(self, **entered: object) -> None:
        """Its newest segment is gone from the card, and became what is `entered`."""
        segment = next(self.room.ledger.newest())
        self.room.layout.audio(segment.name).unlink()
        self.room.layout.meta(segment.name).unlink()
        match entered:
            case {"state": "acknowledged"}:
                self.room.ledger.acknowledge(segment.name, "stored")
            case {"state": str(state)}:
                self.room.ledger.settle(segment.name, state, "a test")  # type: ignore[arg-type]

    def found(self) -> dict[str, Finding]:
        return found(recording.look, self.visit)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.room.end()


def test_what_is_here_is_opened_again(running: Running) -> None:
    finding = running.found()["recording"]
    assert finding.verdict == "green"
    assert "read, hashed and decoded again" in finding.text


def test_what_was_uploaded_and_removed_is_good(running: Running) -> None:
    running.newest(state="acknowledged")
    running.clock.advance(1)
    finding = running.found()["recording"]
    assert finding.verdict == "green"
    assert "2 s ago, is in the store, which verified its SHA-256" in finding.text
    assert finding.facts["seconds"] == 2.0


@pytest.mark.parametrize(
    ("state", "verdict"), [("lost", "red"), ("quarantined", "red"), ("evicted", "red"), ("erased", "grey")]
)
def test_what_became_of_it_otherwise_is_told(running: Running, state: str, verdict: str) -> None:
    running.newest(state=state)
    finding = running.found()["recording"]
    assert (finding.verdict, "the newest, " in finding.text) == (verdict, True), finding


def test_a_file_that_vanished_is_not_good(running: Running) -> None:
    running.newest()
    assert running.found()["recording"].verdict == "grey"


def test_a_recorder_that_says_it_records_and_finishes_nothing_is_red(running: Running) -> None:
    running.clock.advance(61)
    running.says()
    assert running.found()["recording"].verdict == "green"
    running.clock.advance(10)
    running.says()
    finding = running.found()["recording"]
    assert (finding.verdict, "has finished no recording for 1 min 1" in finding.text) == ("red", True), finding
    # It has only just begun to hear again, or doesn't hear.
    running.says(since_ns=running.clock.monotonic_ns() - 5 * NS_PER_S)
    assert running.found()["recording"].verdict == "green"
    running.says(state="muted")
    assert running.found()["recording"].verdict == "green"


def test_a_recorder_that_goes_round_the_card_is_yellow(running: Running) -> None:
    running.says(path="direct", detour="use card: it is read-only\n  → take another card")
    finding = running.found()["recording"]
    assert (finding.verdict, finding.way_out) == ("yellow", "take another card")
    running.says(path="direct")
    assert running.found()["recording"].verdict == "green"


def test_something_made_up_is_uploaded_in_the_place_of_what_the_recorder_hears(running: Running) -> None:
    running.found()
    sample, kept = running.visit.sample, running.visit.kept
    assert sample is not None
    assert kept is not None
    assert sample.seconds == 1
    assert sample.content.startswith(b"fLaC")
    assert sample.content != kept.content
    # What an hour takes is known by what was recorded, though: noise this loud takes more.
    assert running.visit.bytes_per_hour is not None
    assert running.visit.bytes_per_hour > 1.3 * len(sample.content) * 3600


@pytest.fixture
def sealing(running: Running, tmp_path: Path) -> Callable[..., Visit]:
    """The same for a recipient, by the configuration; the recorder says for whom it encrypts."""
    key = age_key(tmp_path)

    def make(*labels: str, identities: tuple[Path, ...] = (key.secret,)) -> Visit:
        running.newest(state="acknowledged")
        running.visit.settings = replace(running.room.settings, seal=Seal(recipients=(key.public,)))
        running.visit.identities = identities
        running.says(recipients=labels or (label(key.public),))
        return running.visit

    return make


def test_with_recipients_what_is_uploaded_is_sealed_and_its_local_copy_opened(sealing: Callable[..., Visit]) -> None:
    checked = sealing()
    finding = found(recording.look, checked)["sealing"]
    assert finding.verdict == "green"
    assert "opened again" in finding.text
    assert checked.sample is not None
    assert checked.sample.suffix == "flac.age"
    assert b"fLaC" not in checked.sample.content


def test_another_key_does_not_open_it(sealing: Callable[..., Visit], tmp_path: Path) -> None:
    checked = sealing(identities=(age_key(tmp_path, "other").secret,))
    assert found(recording.look, checked)["sealing"].verdict == "red"


def test_a_recorder_that_seals_for_others_is_red_whatever_opens_the_sample(sealing: Callable[..., Visit]) -> None:
    finding = found(recording.look, sealing("age1other"))["sealing"]
    assert (finding.verdict, "is for others" in finding.text) == ("red", True)
