"""Recordings that the kiosk itself can't open: what reaches the card, and what a power cut costs."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyrage
import pytest
import soundfile

from agent.contract import age
from agent.mending import readable
from agent.recorder.encryption import EncryptionFailed, Encryptor
from agent.recorder.envelope import Encrypted
from agent.settings import Seal, Settings
from agent.sidecar import CUT, read_sidecar
from agent.units import Frames
from hw.process import swap_in_use
from tests.clocks import FakeClock
from tests.keys import PUBLIC, age_key, identity
from tests.plaintext import chances, encoded, found_in
from tests.recorder.room import RATE, WriterRoom, noise, settings


def encrypting(root: Path, segment_seconds: int = 20) -> Settings:
    return replace(settings(root, segment_seconds=segment_seconds), seal=Seal(recipients=(PUBLIC,)))


def recipients() -> list[age.Recipient]:
    return [age.recipient(PUBLIC)]


def opened(content: bytes) -> bytes:
    found = io.BytesIO()
    age.decrypt(io.BytesIO(content), found, [identity()])
    return found.getvalue()


def test_what_is_in_memory_alone_is_never_more_than_a_chunk_of_flac() -> None:
    """A power cut costs 64 KiB of FLAC, and what came since the last sync."""
    envelope = Encrypted(recipients())
    generator = np.random.default_rng(1)
    taken, written, kept = b"", b"", 0
    for _ in range(400):
        piece = generator.bytes(int(generator.integers(1, 9000)))
        taken += piece
        envelope.take(piece, Frames(1))
        written += envelope.ready()
        assert envelope.whole_bytes == len(written)
        kept = age.content_bytes(age.header_bytes(written) or 0, len(written)) if written else 0
        assert kept % age.CHUNK_BYTES == 0
        assert 0 <= len(taken) - kept <= age.CHUNK_BYTES
    assert opened(written) == taken[:kept], "a file that was cut short yields every whole chunk"
    written += envelope.rest()
    envelope.close()
    assert opened(written) == taken
    assert envelope.whole_frames == 400


def test_a_killed_recorder_keeps_every_whole_chunk(tmp_path: Path) -> None:
    clock = FakeClock()
    room = WriterRoom(encrypting(tmp_path), clock)
    sound = noise(18)
    room.hear(sound)
    room.ledger.close()
    again = WriterRoom(encrypting(tmp_path), clock)
    (segment,) = again.sealed()
    path = again.layout.audio(segment.name)
    assert path.name.endswith(".flac.age")
    assert segment.truncated
    end = read_sidecar(again.layout.meta(segment.name)).end
    assert end is not None
    assert (end.kind, end.size) == (CUT, path.stat().st_size)
    source = readable(path, [identity()])
    assert source.frames == segment.frames
    samples, _ = soundfile.read(source.stream, dtype="int16", always_2d=True)
    assert np.array_equal(samples, sound[: segment.frames])
    lost = sum(map(len, encoded(sound[segment.frames :, 0], RATE)))
    assert lost <= age.CHUNK_BYTES + 2 * RATE * settings(tmp_path).spool.sync_seconds * 2
    again.end()


def test_nothing_that_was_heard_lies_in_the_spool_in_plain_at_any_moment(tmp_path: Path) -> None:
    room = WriterRoom(encrypting(tmp_path, 5), FakeClock())
    sound = noise(17)
    for second in range(17):
        room.hear(sound[second * RATE : (second + 1) * RATE])
        content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert found_in(content, sound[:, 0], RATE) == []
    room.end()
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert found_in(content, sound[:, 0], RATE) == []
    by_chance, expected = chances(content)
    assert by_chance <= expected + 5


def test_what_is_looked_for_is_found_where_it_is(tmp_path: Path) -> None:
    room = WriterRoom(settings(tmp_path, segment_seconds=5), FakeClock())
    sound = noise(6)
    room.hear(sound)
    room.end()
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(found_in(content, sound[:, 0], RATE)) == 2


def test_recordings_before_and_after_a_change_are_each_for_their_own_recipients(tmp_path: Path) -> None:
    new = age_key(tmp_path)
    room = WriterRoom(encrypting(tmp_path / "kiosk", 5), FakeClock())
    room.hear(noise(7))
    room.recipients.change([new.public])
    room.hear(noise(8))
    room.seal()
    keys = {"old": [identity()], "new": age.identities(new.secret)}
    can: list[str] = []
    for segment in room.sealed():
        for whose, key in keys.items():
            try:
                age.decrypt(io.BytesIO(room.layout.audio(segment.name).read_bytes()), io.BytesIO(), key)
                can.append(f"{segment.seq} {whose}")
            except age.NotForUs:
                continue
    assert can == ["0 old", "1 old", "2 new"]


def test_a_plain_spool_goes_on_encrypted_and_everything_is_kept(tmp_path: Path) -> None:
    clock = FakeClock()
    room = WriterRoom(settings(tmp_path, segment_seconds=5), clock)
    room.hear(noise(8))
    room.ledger.close()
    room = WriterRoom(encrypting(tmp_path, 5), clock)
    room.hear(noise(6))
    room.seal()
    room.ledger.check()
    suffixes = ["".join(room.layout.audio(segment.name).suffixes) for segment in room.sealed()]
    assert suffixes == [".flac", ".flac", ".flac.age", ".flac.age"]
    again = WriterRoom(encrypting(tmp_path, 5), clock)
    assert not again.recovered
    again.end()


def test_when_nothing_can_be_encrypted_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise pyrage.EncryptError("out of entropy")

    monkeypatch.setattr(age, "encrypt", broken)
    room = WriterRoom(encrypting(tmp_path), FakeClock())
    with pytest.raises(EncryptionFailed, match="out of entropy"):
        room.hear(noise(20))
    assert [path.stat().st_size for path in room.layout.open.glob("*.part")] == [0]
    assert list(room.layout.sealed.iterdir()) == []


def test_an_encryptor_ends_with_its_file() -> None:
    before = threading.active_count()
    for content in (b"", b"x" * 10, b"x" * age.CHUNK_BYTES, b"x" * (3 * age.CHUNK_BYTES + 1)):
        for finished in (True, False):
            emitted = bytearray()
            encryptor = Encryptor(recipients(), emitted.extend)
            encryptor.write(content)
            if finished:
                encryptor.finish()
                assert opened(bytes(emitted)) == content
            encryptor.abandon()
    assert threading.active_count() == before


def test_swap_is_noticed(tmp_path: Path) -> None:
    table = tmp_path / "swaps"
    table.write_text("Filename Type Size Used Priority\n")
    assert not swap_in_use(table)
    table.write_text("Filename Type Size Used Priority\n/swapfile file 1 0 -2\n")
    assert swap_in_use(table)
    assert not swap_in_use(tmp_path / "none")
