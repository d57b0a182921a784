"""Everything here that reads what a power cut or a stranger may have written, each as a function of bytes.

A target returns when its parser understood the bytes or refused them with its own error; anything else it raises is a
fault. `test_parsers.py` feeds them with hypothesis, `guided.py` with atheris, which follows the coverage.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Final, get_args

import soundfile

from agent import config
from agent.commands.times import moment
from agent.config.load import parse
from agent.contract import age
from agent.contract.metrics import RecorderState
from agent.errors import KioskError
from agent.hours import Hours
from agent.mending import readable
from agent.sidecar import SidecarDamaged, read_sidecar, segment_of
from agent.spool import SegmentFile
from agent.status import read_status
from agent.units import ByteRate, Duration, MisreadError, Size
from hw.board import throttled_of
from hw.kernel import count_of, hexadecimal_of, text_of
from hw.memory import pressure_of, swaps_of
from hw.storage import life_used_pct, mount_of
from tests.keys import identity

_DIRECTORY: Final = tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)  # noqa: S108 (ours)
ROOT: Final = Path(_DIRECTORY.name)
"""In memory, for as long as this process lives."""


def _file(name: str, data: bytes) -> Path:
    path = ROOT / name
    path.write_bytes(data)
    return path


def sidecar(data: bytes) -> None:
    """A sidecar."""
    path = _file("x.meta", data)
    try:
        found = read_sidecar(path)
    except SidecarDamaged:
        return
    assert len(found.records) == len(found.places)
    assert all(record.frames <= found.header.planned_frames for record in found.records)
    if found.end is not None:
        assert segment_of(found.header, found.end, len(data)).seconds >= 0


def flac(data: bytes) -> None:
    """A torn recording, mended; what is mended can be decoded, or is refused by the decoder."""
    path = _file("x.flac", data)
    try:
        source = readable(path)
    except KioskError:
        return
    with source.stream, contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(source.stream) as file:
        file.read(65536, dtype="int16")


def encrypted(data: bytes) -> None:
    """A recording that only the holder of a key can hear, by such a holder; also when nothing encrypted is left."""
    path = _file("x.flac.age", data)
    age.header_bytes(data[: age.LONGEST_HEADER_BYTES])
    try:
        source = readable(path, [identity()])
    except KioskError:
        return
    with source.stream, contextlib.suppress(soundfile.LibsndfileError), soundfile.SoundFile(source.stream) as file:
        file.read(65536, dtype="int16")


def status(data: bytes) -> None:
    """The recorder's picture of the moment."""
    _file("recorder.json", data)
    found = read_status(ROOT)
    if found is not None:
        assert found.state in get_args(RecorderState)
        assert isinstance(found.updated_ns + found.pid + found.ring_seconds, int | float)


def configuration(data: bytes) -> None:
    """A configuration, as text and as a file."""
    path = _file("config.toml", data)
    with contextlib.suppress(KioskError):
        config.load(path, {})
    with contextlib.suppress(KioskError):
        parse(data.decode("utf-8", "replace"), "config.toml")


def names(data: bytes) -> None:
    """The name of a file in the spool."""
    text = data.decode("utf-8", "surrogateescape")
    found = SegmentFile.parse(text)
    assert found is None or f"{found.name}{found.suffix}" == text


def words(data: bytes) -> None:
    """Sizes, times and hours, as people write them."""
    text = data.decode("utf-8", "replace")
    for read in (Size.parse, Duration.parse, ByteRate.parse, Hours.parse):
        with contextlib.suppress(MisreadError):
            read(text)
    with contextlib.suppress(KioskError):
        moment(text, UTC, 1_800_000_000_000_000_000)


def kernel(data: bytes) -> None:
    """What a broken driver, firmware or card may have the kernel say."""
    text = text_of(data)
    mount = mount_of("/var/lib/kiosk-recorder", text or "")
    assert mount is None or mount.device.count(":") == 1
    assert all(swap.used_bytes >= 0 for swap in swaps_of(text or "", ROOT))
    for read in (count_of, hexadecimal_of, life_used_pct, throttled_of):
        found = read(text)
        assert found is None or found >= 0
    pressure_of(text or "")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target for target in (sidecar, flac, encrypted, status, configuration, names, words, kernel)
}
