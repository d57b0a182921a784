"""`open` with a key: what only its holder can hear."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from agent.commands.times import iso
from agent.settings import Seal
from tests.cli.kiosk import Kiosk
from tests.clocks import FakeClock
from tests.keys import KeyPair, age_key, ssh_key
from tests.recorder.room import RATE, WriterRoom, noise, settings
from tests.servers import S3Store

if TYPE_CHECKING:
    from numpy.typing import NDArray


def heard(path: Path) -> NDArray[np.int16]:
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    assert rate == RATE
    return np.asarray(samples, np.int16)


def encrypting(root: Path, *recipients: str, segment_seconds: int = 2) -> WriterRoom:
    chosen = replace(settings(root, segment_seconds=segment_seconds), seal=Seal(recipients=recipients))
    return WriterRoom(chosen, FakeClock())


def life(root: Path, seconds: float, *recipients: str, segment_seconds: int = 2) -> WriterRoom:
    room = encrypting(root, *recipients, segment_seconds=segment_seconds)
    room.hear(noise(seconds))
    room.end()
    return room


def encrypted(room: WriterRoom) -> list[Path]:
    return sorted(room.layout.sealed.glob("*.flac.age"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.flac"


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return age_key(tmp_path)


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_a_run_is_joined_without_losing_a_sample(kiosk: Kiosk, key: KeyPair, tmp_path: Path, suffix: str) -> None:
    room = life(kiosk.spool, 5, key.public)
    assert list(room.layout.sealed.glob("*.flac")) == []
    out = tmp_path / f"out{suffix}"
    answer = kiosk.run("open", "--run", encrypted(room)[0].name[:12], "-i", key.secret, "-o", out)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == f"{out}: 5 s, 8000 Hz × 1, from 3 segments\n"
    assert np.array_equal(heard(out), noise(5))


def test_every_recipient_opens_every_recording_with_an_ordinary_age_and_sees_plain_flac(
    tmp_path: Path, key: KeyPair
) -> None:
    if shutil.which("age") is None:
        pytest.skip("the program `age` isn't installed")
    other = ssh_key(tmp_path)
    sound = noise(4.5)
    plain = WriterRoom(settings(tmp_path / "plain"), FakeClock())
    room = encrypting(tmp_path / "encrypted", key.public, other.public)
    for each in (plain, room):
        each.hear(sound)
        each.end()
    files = [
        (path.read_bytes(), sealed)
        for path, sealed in zip(sorted(plain.layout.sealed.glob("*.flac")), encrypted(room), strict=True)
    ]
    for secret in (key.secret, other.secret):
        for number, (content, sealed) in enumerate(files):
            found = subprocess.run(["age", "-d", "-i", secret, sealed], check=True, capture_output=True).stdout
            if number < 2:
                assert found == content
            else:
                # Its length alone is mended where it isn't encrypted.
                assert found[42:] == content[42:]


def test_an_ordinary_age_yields_every_whole_chunk_of_a_file_that_was_cut_short(tmp_path: Path, key: KeyPair) -> None:
    if shutil.which("age") is None:
        pytest.skip("the program `age` isn't installed")
    room = life(tmp_path / "kiosk", 20, key.public, segment_seconds=20)
    path = encrypted(room)[0]
    whole = subprocess.run(["age", "-d", "-i", key.secret, path], check=True, capture_output=True).stdout
    assert len(whole) > 3 * 65536
    path.write_bytes(path.read_bytes()[:-100])
    found = subprocess.run(["age", "-d", "-i", key.secret, path], check=False, capture_output=True)
    assert found.returncode == 1
    assert found.stdout == whole[: len(whole) // 65536 * 65536]


def test_a_file_cut_anywhere_is_heard_up_to_its_last_whole_chunk(
    kiosk: Kiosk, key: KeyPair, tmp_path: Path, out: Path
) -> None:
    sound = noise(20)
    path = encrypted(life(kiosk.spool, 20, key.public, segment_seconds=20))[0]
    torn = tmp_path / "torn.flac.age"
    torn.write_bytes(path.read_bytes()[:-70_000])
    answer = kiosk.run("open", torn, "-i", key.secret, "-o", out, config=False)
    assert answer.status == 0, answer.err
    assert "ends early: it was cut off while it was being written" in answer.out
    found = heard(out)
    assert 10 * RATE < len(found) < len(sound)
    assert np.array_equal(found, sound[: len(found)])
    torn.write_bytes(path.read_bytes()[:60_000])
    answer = kiosk.run("open", torn, "-i", key.secret, "-o", out, "--force", config=False)
    assert answer.status == 2
    assert "ends before its first sound" in answer.err


def test_the_segment_being_written_is_heard_as_far_as_it_is_durable(kiosk: Kiosk, key: KeyPair, out: Path) -> None:
    room = encrypting(kiosk.spool, key.public, segment_seconds=15)
    sound = noise(25)
    room.hear(sound)
    run = room.sealed()[0].run
    answer = kiosk.run("open", "--run", run, "-i", key.secret, "-o", out)
    assert answer.status == 0, answer.err
    assert f"note: {run}-000001 ends early" in answer.out
    found = heard(out)
    assert len(found) > 15 * RATE
    assert np.array_equal(found, sound[: len(found)])
    room.end()


def test_without_a_key_it_says_that_it_takes_one(kiosk: Kiosk, key: KeyPair, tmp_path: Path, out: Path) -> None:
    path = encrypted(life(kiosk.spool, 2, key.public))[0]
    answer = kiosk.run("open", path, "-o", out, config=False)
    assert answer.status == 2
    assert answer.err == f"open recording {path}: is encrypted\n  → name a file with a key that opens it: -i KEY\n"
    answer = kiosk.run("open", path, "-i", age_key(tmp_path, "other").secret, "-o", out, config=False)
    assert answer.status == 2
    assert answer.err.startswith(f"open recording {path}: isn't encrypted to this key\n")
    assert not out.exists()


def test_a_key_that_others_may_read_is_refused(kiosk: Kiosk, key: KeyPair, out: Path) -> None:
    path = encrypted(life(kiosk.spool, 2, key.public))[0]
    key.secret.chmod(0o640)
    answer = kiosk.run("open", path, "-i", key.secret, "-o", out, config=False)
    assert (answer.status, answer.err) == (
        2,
        f"read key {key.secret}: others may read it\n  → chmod 600 {key.secret}\n",
    )


def test_what_is_no_usable_key_is_told_without_showing_it(kiosk: Kiosk, tmp_path: Path, out: Path) -> None:
    protected = ssh_key(tmp_path, "protected", passphrase="secret")
    empty, public, broken = tmp_path / "empty", tmp_path / "public", tmp_path / "broken"
    empty.write_text("# nothing\n")
    public.write_text(age_key(tmp_path).public)
    broken.write_text("AGE-SECRET-KEY-1CANARY")
    for path, cause in (
        (protected.secret, "is protected by a passphrase"),
        (empty, "holds no key"),
        (public, "is a public key"),
        (broken, "isn't a key of age or SSH"),
        (tmp_path / "nowhere", "No such file or directory"),
    ):
        if path.exists():
            path.chmod(0o600)
        answer = kiosk.run("open", "anything", "-i", path, "-o", out, config=False)
        assert answer.status == 2
        assert answer.err.startswith(f"read key {path}: {cause}\n")
        assert "CANARY" not in answer.err


def test_a_time_range_has_silence_where_nothing_was_recorded(kiosk: Kiosk, key: KeyPair, out: Path) -> None:
    clock = FakeClock()
    chosen = replace(settings(kiosk.spool), seal=Seal(recipients=(key.public,)))
    begin_ns = clock.wall_ns()

    def written(seconds: float) -> str:
        return iso(begin_ns + round(seconds * 1e9), UTC)

    for seed in (1, 2):
        room = WriterRoom(chosen, clock)
        room.hear(noise(5, seed=seed))
        room.end()
        clock.advance(7.5)
    answer = kiosk.run("open", "--from", written(1), "--to", written(16), "-i", key.secret, "-o", out)
    assert answer.status == 0, answer.err
    expected = np.zeros((15 * RATE, 1), np.int16)
    expected[: 4 * RATE] = noise(5, seed=1)[RATE:]
    expected[round(11.5 * RATE) :] = noise(5, seed=2)[: round(3.5 * RATE)]
    assert np.array_equal(heard(out), expected)
    assert "7.5 s of it not recorded" in answer.out


def test_each_recording_becomes_a_file_of_its_own(kiosk: Kiosk, key: KeyPair, tmp_path: Path) -> None:
    room = life(kiosk.spool, 5, key.public)
    place = tmp_path / "opened"
    place.mkdir()
    answer = kiosk.run("open", room.layout.root, "--each", "-i", key.secret, "-o", place, config=False)
    assert answer.status == 0, answer.err
    found = [heard(path) for path in sorted(place.iterdir())]
    assert [len(each) for each in found] == [2 * RATE, 2 * RATE, RATE]
    assert np.array_equal(np.concatenate(found), noise(5))
    answer = kiosk.run("open", room.layout.root, "--each", "-i", key.secret, "-o", place, config=False)
    assert (answer.status, "is there already" in answer.err) == (2, True)


def test_recordings_are_opened_from_a_bucket(kiosk: Kiosk, key: KeyPair, s3_store: S3Store, out: Path) -> None:
    bucket = s3_store.bucket()
    kiosk.configure(rest=f'[upload]\ntarget = "s3://{bucket.name}/clinics"\nendpoint_url = "{s3_store.url}"\n')
    run = encrypted(life(kiosk.spool, 5, key.public))[0].name[:12]
    kiosk.environment = s3_store.admin.environment
    assert kiosk.run("courier", "--once").status == 0
    where = ("open", f"s3://{bucket.name}/clinics/north/room-1", "--endpoint-url", s3_store.url)
    wish = (*where, "-i", key.secret, "-o", out, "--force")
    for which in (("--run", run), ("--from", "2020-01-01")):
        answer = kiosk.run(*wish, *which, config=False)
        assert answer.status == 0, answer.err
        assert np.array_equal(heard(out), noise(5))
    kiosk.environment = s3_store.kiosk.environment
    answer = kiosk.run(*wish, config=False)
    assert answer.status == 2
    assert answer.err.startswith(f"read store s3://{bucket.name}/clinics/north/room-1/")


def test_nothing_of_a_run_that_is_not_there_is_opened(kiosk: Kiosk, key: KeyPair, out: Path) -> None:
    room = life(kiosk.spool, 2, key.public)
    answer = kiosk.run("open", room.layout.root, "--run", "0123456789ab", "-i", key.secret, "-o", out, config=False)
    assert answer.err == f"open run 0123456789ab: nothing of it is in {room.layout.root}\n"
