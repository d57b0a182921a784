"""age files that went bad, were cut short or made to do harm: refused, or opened as far as everything in them is true.

The program `age` says what a file is worth; that it and we agree is tested on files that stand in no relation to how we
make them (tests/fuzz/agefile.py).
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.commands.opening import Wish, open_recordings
from agent.contract import age
from agent.errors import EXIT_UNUSABLE, KioskError
from agent.mending import readable
from tests.cli.kiosk import Kiosk
from tests.fuzz.agefile import another_stanza, chunks_of, header, payload, stanza, whole
from tests.fuzz.damage import Damage, damaged, damages
from tests.fuzz.sound import long_sound, sound
from tests.fuzz.targets import ROOT
from tests.keys import SECRET, KeyPair, age_key, identity, ssh_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = age.CHUNK_BYTES
CONTENT = np.random.default_rng(6).bytes(4 * CHUNK)
HEADER = header([stanza()])

few = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
many = settings(few, max_examples=2000, derandomize=False)

Lengths = st.sampled_from([0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 7])
Stanzas = st.lists(
    st.builds(
        another_stanza,
        st.lists(st.from_regex(rb"\A[!-~]{1,20}\Z"), min_size=1, max_size=3),
        st.binary(max_size=200),
    )
    | st.just(stanza()),
    max_size=4,
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of tests.keys, as a file."""
    path = tmp_path_factory.mktemp("key") / "key.txt"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def opened(file: bytes) -> tuple[bool | None, bytes]:
    """What we make of it: whether it's whole, None if it's refused; and what came out."""
    content = io.BytesIO()
    told: bool | None = None
    with suppress(age.NotEncrypted, age.NotForUs):
        told = age.decrypt(io.BytesIO(file), content, [identity()])
    return told, content.getvalue()


def agree(file: bytes, key: Path) -> bytes:
    """Hold what we make of a file against what `age` makes of it; what came out of both."""
    if shutil.which("age") is None:
        pytest.skip("the program `age` isn't installed")
    theirs = subprocess.run(["age", "-d", "-i", key], input=file, capture_output=True, check=False)
    told, ours = opened(file)
    assert (told is True) == (theirs.returncode == 0), theirs.stderr
    assert ours == theirs.stdout
    return ours


# Against the program `age`.


@few
@given(length=Lengths, stanzas=Stanzas)
def test_what_age_opens_whole_is_opened_byte_for_byte(key: Path, length: int, stanzas: list[bytes]) -> None:
    assert agree(whole(CONTENT[:length], stanzas), key) == CONTENT[:length]


@few
@given(length=Lengths, cut=st.integers(1, CHUNK + 2000))
def test_a_file_that_was_cut_short_yields_every_whole_chunk_and_no_more(key: Path, length: int, cut: int) -> None:
    file = whole(CONTENT[:length])[:-cut]
    kept = max(0, len(file) - len(HEADER) - age.NONCE_BYTES) // (CHUNK + age.TAG_BYTES)
    assert agree(file, key) == CONTENT[: kept * CHUNK]


@few
@given(length=Lengths, changes=damages())
def test_damage_lets_nothing_through_that_was_not_encrypted_so(key: Path, length: int, changes: list[Damage]) -> None:
    content = agree(damaged(whole(CONTENT[:length]), changes), key)
    assert content == CONTENT[: len(content)]


@few
@given(
    chunks=st.lists(st.tuples(st.sampled_from([0, 1, 500, CHUNK - 1, CHUNK, CHUNK + 1]), st.booleans()), max_size=4),
    first=st.sampled_from([0, 0, 0, 1]),
    more=st.binary(max_size=40),
)
def test_chunks_of_another_shape_count_or_order_are_taken_as_age_takes_them(
    key: Path, chunks: list[tuple[int, bool]], first: int, more: bytes
) -> None:
    agree(HEADER + payload([(CONTENT[:size], last) for size, last in chunks], first=first) + more, key)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_chunk_that_was_changed_is_not_taken_for_a_power_cut(chunk: int) -> None:
    file = bytearray(whole(CONTENT[: 3 * CHUNK + 9]))
    file[len(HEADER) + age.NONCE_BYTES + chunk * (CHUNK + age.TAG_BYTES) - 1] ^= 1
    content = io.BytesIO()
    with pytest.raises(age.NotEncrypted, match=f"chunk {chunk} of 3 is damaged"):
        age.decrypt(io.BytesIO(file), content, [identity()])
    assert content.getvalue() == CONTENT[: (chunk - 1) * CHUNK]


@pytest.mark.long
@settings(many)
@given(length=Lengths, stanzas=Stanzas, changes=damages(5))
def test_however_a_file_went_bad_age_and_we_agree(
    key: Path, length: int, stanzas: list[bytes], changes: list[Damage]
) -> None:
    content = agree(damaged(whole(CONTENT[:length], stanzas), changes), key)
    assert content == CONTENT[: len(content)]


@pytest.mark.parametrize("make", [age_key, ssh_key])
def test_among_many_recipients_each_kind_of_key_opens_and_another_does_not(
    tmp_path: Path, make: Callable[[Path, str], KeyPair]
) -> None:
    mine, other = make(tmp_path, "mine"), make(tmp_path, "other")
    others = [age_key(tmp_path, f"{number}").public for number in range(age.MOST_RECIPIENTS - 1)]
    file = io.BytesIO()
    age.encrypt(io.BytesIO(CONTENT), file, [age.recipient(each) for each in (*others, mine.public)])
    found = io.BytesIO()
    assert age.decrypt(io.BytesIO(file.getvalue()), found, age.identities(mine.secret))
    assert found.getvalue() == CONTENT
    for changed in range(0, age.header_bytes(file.getvalue()) or 0, 7):
        torn = bytearray(file.getvalue())
        torn[changed] ^= 1
        with pytest.raises((age.NotEncrypted, age.NotForUs)):
            age.decrypt(io.BytesIO(torn), io.BytesIO(), age.identities(mine.secret))
    with pytest.raises(age.NotForUs):
        age.decrypt(io.BytesIO(file.getvalue()), io.BytesIO(), age.identities(other.secret))


# Files that are made to do harm.

HARMFUL = {
    "a header without end": age.MAGIC + b"-> X25519 " + b"A" * (1 << 20),
    "a stanza of a megabyte": whole(b"x", [another_stanza([b"x"], bytes(1 << 20))]),
    "ten thousand stanzas": whole(b"x", [stanza()] * 10_000),
    "a hundred thousand arguments": whole(b"x", [another_stanza([b"x"] * 100_000, b"")]),
    "an empty body a million lines long": age.MAGIC + b"-> x\n" + b"\n" * (1 << 20),
    "nothing but the name": age.MAGIC,
    "no stanza": header([]) + payload(chunks_of(CONTENT)),
    "no nonce": HEADER,
    "no chunk": HEADER + payload([]),
    "chunks of another size": HEADER + payload(chunks_of(CONTENT, 1000)),
    "the second chunk first": HEADER + payload(chunks_of(CONTENT), first=1),
    "no FLAC": whole(CONTENT),
    "a passphrase": header([another_stanza([b"scrypt", b"A" * 22, b"63"], bytes(32))]) + payload(chunks_of(CONTENT)),
    "a share of low order": header([another_stanza([b"X25519", b"A" * 43], bytes(32))]) + payload(chunks_of(CONTENT)),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", HARMFUL)
def test_what_is_made_to_do_harm_is_refused_at_once_and_nothing_is_written(
    key: Path, tmp_path: Path, what: str
) -> None:
    """The longest of these headers keeps pyrage busy for minutes."""
    file, out = tmp_path / "x.flac.age", tmp_path / "out.flac"
    file.write_bytes(HARMFUL[what])
    wish = Wish([str(file)], None, None, None, [key], out, False, False, False, "", None)
    with pytest.raises(KioskError) as refused:
        open_recordings(wish, as_json=False)
    assert refused.value.place == str(file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_person_reads_one_line_of_it(key: Path, tmp_path: Path) -> None:
    kiosk = Kiosk(tmp_path)
    file = tmp_path / "x.flac.age"
    file.write_bytes(HARMFUL["ten thousand stanzas"])
    answer = kiosk.run("open", file, "-i", key, "-o", tmp_path / "out.flac", config=False)
    assert answer.status == EXIT_UNUSABLE
    cause = f"can't be decrypted: its header doesn't end within {age.LONGEST_HEADER_BYTES} bytes"
    assert answer.err == f"open recording {file}: {cause}\n"


# Recordings.


def heard(file: Path) -> NDArray[np.int16] | None:
    """What is decoded of a recording; None when it's refused."""
    try:
        source = readable(file, [identity()])
        with source.stream, soundfile.SoundFile(source.stream) as decoder:
            return np.asarray(decoder.read(dtype="int16"))
    except (KioskError, soundfile.LibsndfileError):
        return None


@few
@given(changes=damages())
def test_of_a_damaged_recording_only_what_was_heard_is_heard(changes: list[Damage]) -> None:
    file = ROOT / "damaged.flac.age"
    file.write_bytes(damaged(sound("encrypted"), changes))
    samples = heard(file)
    assert samples is None or np.array_equal(samples, long_sound()[: len(samples)])


@few
@given(at=st.floats(0, 1, exclude_max=True))
def test_a_recording_cut_anywhere_is_heard_to_the_last_flac_frame_of_its_last_whole_chunk(at: float) -> None:
    recorded, plain = sound("encrypted"), sound("long flac")
    file, alike = ROOT / "cut.flac.age", ROOT / "cut.flac"
    file.write_bytes(recorded[: int(at * len(recorded))])
    chunks = max(0, file.stat().st_size - (age.header_bytes(recorded) or 0) - age.NONCE_BYTES) // (CHUNK + 16)
    alike.write_bytes(plain[: chunks * CHUNK])
    samples, expected = heard(file), heard(alike)
    assert (samples is None) == (expected is None)
    if samples is not None and expected is not None:
        assert chunks
        assert np.array_equal(samples, expected)
