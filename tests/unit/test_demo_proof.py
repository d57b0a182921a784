"""The demonstration's proof accepts what was heard, and nothing that only resembles it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from agent.contract import age
from agent.demo.bucket import Bucket, Stored
from agent.demo.proof import Proof, prove, where
from agent.errors import KioskError
from agent.ledger import Segment
from agent.spool import Layout
from hw.speech import speech_like
from tests.keys import PUBLIC, identity

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 16000
PLAYED = speech_like(4, RATE, 1)


class Shelf(Bucket):
    """A bucket without a server."""

    def __init__(self) -> None:
        super().__init__("", 0, "shelf")
        self.contents: dict[str, bytes] = {}

    def objects(self) -> list[Stored]:
        return [Stored(key, len(content)) for key, content in self.contents.items()]

    def read(self, key: str) -> bytes:
        if key not in self.contents:
            raise KioskError("read", place=key, cause="404")
        return self.contents[key]


class Recorded:
    """Segments of one run, in a spool and on a shelf; `prove` compares them."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root / "kiosk")
        self.layout.create()
        self.shelf = Shelf()
        self.segments: list[Segment] = []
        self.into = root / "heard"
        self.into.mkdir()

    def add(self, samples: NDArray[np.int16], *, frames: int | None = None) -> Segment:
        """Seal and upload `samples`; the ledger has them as `frames` long."""
        file = io.BytesIO()
        soundfile.write(file, samples, RATE, format="FLAC", subtype="PCM_16")
        content = file.getvalue()
        number = len(self.segments)
        segment = Segment(
            run="0123456789ab",
            seq=number,
            boot="b" * 32,
            begin_ns=0,
            end_ns=0,
            frames=len(samples) if frames is None else frames,
            rate=RATE,
            channels=1,
            bytes=len(content),
            meta_bytes=0,
            sha256=hashlib.sha256(content).hexdigest(),
            state="acknowledged",
            key=f"demo/room-1/{number}.flac",
        )
        self.segments.append(segment)
        self.layout.audio(segment.name).write_bytes(content)
        self.shelf.contents[f"demo/room-1/{number}.flac"] = content
        return segment

    def prove(self, *, known: bool = True, identities: Sequence[age.Identity] = ()) -> Proof:
        played = PLAYED if known else None
        return prove(self.segments, self.shelf, self.layout, played, self.into, identities)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def test_what_the_room_played_is_accepted_also_past_the_end_where_it_begins_again(recorded: Recorded) -> None:
    twice = np.concatenate([PLAYED, PLAYED])
    recorded.add(twice[1000:40000])
    recorded.add(twice[40000:100000])
    proof = recorded.prove()
    assert proof.faults == ()
    assert [arrival.seconds for arrival in proof.good] == [39000 / RATE, 60000 / RATE]
    assert len(list(recorded.into.iterdir())) == 2


def test_a_recording_longer_than_the_sound_goes_round_with_it(recorded: Recorded) -> None:
    recorded.add(np.concatenate([PLAYED[5000:], PLAYED, PLAYED[:100]]))
    assert recorded.prove().faults == ()


@pytest.mark.parametrize("frame", [0, 20000, 39999])
def test_one_wrong_sample_is_noticed_wherever_it_is(recorded: Recorded, frame: int) -> None:
    samples = PLAYED[:40000].copy()
    samples[frame] ^= 1
    recorded.add(samples)
    assert "isn't what the room played" in recorded.prove().faults[0]


def test_a_doubled_sample_is_noticed(recorded: Recorded) -> None:
    recorded.add(np.concatenate([PLAYED[:20000], PLAYED[19999:40000]]))
    assert "isn't what the room played" in recorded.prove().faults[0]


def test_a_sample_missing_between_two_segments_of_a_run_is_noticed(recorded: Recorded) -> None:
    recorded.add(PLAYED[:20000])
    recorded.add(PLAYED[20001:40000])
    proof = recorded.prove()
    assert len(proof.good) == 1
    assert "isn't what the room played" in proof.faults[0]


def test_an_object_that_differs_from_what_was_sealed_is_noticed(recorded: Recorded) -> None:
    segment = recorded.add(PLAYED[:20000])
    recorded.add(PLAYED[20000:40000])
    assert segment.key is not None
    recorded.shelf.contents[segment.key] = recorded.shelf.contents["demo/room-1/1.flac"]
    proof = recorded.prove()
    assert "was altered" in proof.faults[0]
    assert len(proof.faults) == 1


def test_a_length_other_than_the_ledgers_is_noticed(recorded: Recorded) -> None:
    recorded.add(PLAYED[:20000], frames=20001)
    assert "decodes to 20000 frames where 20001 were recorded" in recorded.prove().faults[0]


def test_an_object_that_isnt_there_is_noticed(recorded: Recorded) -> None:
    segment = recorded.add(PLAYED[:20000])
    assert segment.key is not None
    del recorded.shelf.contents[segment.key]
    assert "isn't in the bucket" in recorded.prove().faults[0]


def test_without_a_known_sound_the_recorders_own_file_decides(recorded: Recorded) -> None:
    segment = recorded.add(np.flip(PLAYED[:20000]))
    assert recorded.prove(known=False).faults == ()
    soundfile.write(recorded.layout.audio(segment.name), PLAYED[:20000], RATE, format="FLAC", subtype="PCM_16")
    assert "the recorder's own file" in recorded.prove(known=False).faults[0]


def test_nothing_recorded_proves_nothing(recorded: Recorded) -> None:
    assert recorded.prove().faults == ("nothing was recorded",)


def test_sound_is_found_only_at_whole_frames() -> None:
    stereo = np.arange(20000, dtype=np.int16).reshape(-1, 2)
    assert where(stereo[500:3000], stereo) == 500
    shifted = stereo.reshape(-1)[1001:6001].reshape(-1, 2)
    assert where(shifted, stereo) is None


def test_where_it_should_be_encrypted_nothing_else_counts(recorded: Recorded) -> None:
    segment = recorded.add(PLAYED[:20_000])
    (key,) = recorded.shelf.contents
    assert recorded.prove(identities=[identity()]).faults == (f"{key}: isn't encrypted",)
    file = io.BytesIO()
    age.encrypt(io.BytesIO(recorded.shelf.contents[key]), file, [age.recipient(PUBLIC)])
    recorded.shelf.contents[key] = file.getvalue()
    recorded.segments[0] = replace(segment, sha256=hashlib.sha256(file.getvalue()).hexdigest())
    assert recorded.prove(identities=[identity()]).faults == ()
    _, other = age.key_pair()
    file = io.BytesIO()
    age.encrypt(io.BytesIO(b"fLaC"), file, [age.recipient(other)])
    recorded.shelf.contents[key] = file.getvalue()
    assert "isn't encrypted to this key" in recorded.prove(identities=[identity()]).faults[0]
