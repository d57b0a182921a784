"""With encryption no sound reaches swap, however much the kernel wants the recorder's memory.

The kernel is asked to page out every page of the recorder (MADV_PAGEOUT), which is harder than any shortage, and the
swap file is read byte by byte. A process that doesn't lock its memory shows that this would find the sound.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest

from agent.settings import Capture, Device, Seal, Settings, Spool
from agent.units import Size
from tests.end_to_end.kiosk import Kiosk
from tests.keys import PUBLIC
from tests.plaintext import found_in
from tests.soundcard import RATE, Soundcard, eventually

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PROCESS_MADVISE: Final = 440
_MADV_PAGEOUT: Final = 21
"""linux/mman.h; both since Linux 5.10, the same on all of its architectures."""
_SWAP_MIB: Final = 128

_HOLDS_SOUND: Final = """
import pathlib, sys
held = pathlib.Path(sys.argv[1]).read_bytes()
print("held", flush=True)
sys.stdin.read()
"""


class _Range(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_size_t), ("length", ctypes.c_size_t))


@contextmanager
def swapping(file: Path) -> Iterator[None]:
    """With a swap file of its own, at `file`, in use. Skips where there can be none."""
    file.touch(0o600)
    with file.open("wb") as empty:
        # Swap can't have holes.
        for _ in range(_SWAP_MIB):
            empty.write(bytes(1 << 20))
        os.fsync(empty.fileno())
    for command in ("mkswap", "swapon"):
        try:
            done = subprocess.run([command, str(file)], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip(f"{command} is missing")
        if done.returncode:
            pytest.skip(f"no swap can be made here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["swapoff", str(file)], check=True)


def page_out(pid: int) -> None:
    """Have the kernel move all it may of a process's memory to swap. What is locked it refuses to touch."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    try:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            wanted = _Range(begin, end - begin)
            libc.syscall(_PROCESS_MADVISE, process, ctypes.byref(wanted), 1, _MADV_PAGEOUT, 0)
    finally:
        os.close(process)


def swapped_bytes(pid: int) -> int:
    """How much of a process is in swap."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSwap:"))


def sound() -> NDArray[np.int16]:
    """Noise, which is nowhere by chance."""
    return np.random.default_rng(7).integers(-8000, 8000, RATE * 4).astype(np.int16)


def in_swap(file: Path) -> list[str]:
    """What of the sound lies in a swap file."""
    descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
    try:
        # The kernel writes to a swap file's blocks, past the cache in which it once was read as an ordinary file.
        with mmap.mmap(-1, file.stat().st_size) as content:
            assert os.readv(descriptor, [content]) == len(content)
            return found_in(content[:], sound(), RATE)
    finally:
        os.close(descriptor)


@pytest.fixture
def swap(tmp_path: Path) -> Iterator[Path]:
    """A swap file in use, on a machine where sound was found in another: of a process that locked nothing."""
    sounding, tried, file = (tmp_path / name for name in ("sound", "tried", "swap"))
    sounding.write_bytes(np.tile(sound(), 8).tobytes())
    command = [sys.executable, "-c", _HOLDS_SOUND, str(sounding)]
    with swapping(tried), subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        page_out(holder.pid)
        if swapped_bytes(holder.pid) == 0:
            pytest.skip("this kernel pages nothing out on demand")
        assert any("samples" in finding for finding in in_swap(tried))
    with swapping(file):
        yield file


@pytest.mark.timeout(240)
def test_sound_of_an_encrypting_recorder_never_reaches_swap(tmp_path: Path, soundcard: Soundcard, swap: Path) -> None:
    settings = Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", segment_seconds=2, keep_free=Size(0)),
        seal=Seal(recipients=(PUBLIC,)),
    )
    with Kiosk(settings) as kiosk:
        recorder = kiosk.record(soundcard(sound()[:, None]))
        kiosk.wait_for_recording()
        for count in (1, 2, 3):
            eventually(lambda count=count: len(kiosk.segments()) >= count, "recordings are sealed", 60)  # type: ignore[misc]
            page_out(recorder.pid)
        assert swapped_bytes(recorder.pid) == 0
        assert in_swap(swap) == []
