"""How much memory it takes to verify a store, however much lies there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.contract.custody import GENESIS, Enrolment, Manifest, Stretch, link
from agent.contract.keys import Recording
from agent.contract.signed import public_key, sign

ROOT = Path(__file__).parents[2]
SEED = bytes(range(32))
EPOCH, BOOT, RUN = "a" * 12, "b" * 32, "c" * 12
NS = 1_000_000_000
BEGAN_NS = 1_790_000_000 * NS

_PROGRAM = """
import resource, sys
from fleet.cli import app
try:
    app(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def recording(number: int) -> tuple[Recording, bytes]:
    content = f"recording {number}".encode()
    return (
        Recording(
            run=RUN,
            seq=number,
            start_ns=BEGAN_NS + number * 60 * NS,
            frames=960_000,
            rate=16_000,
            channels=1,
            boot=BOOT,
            clock="synchronised",
            truncated=False,
            sha256=hashlib.sha256(content).hexdigest(),
            suffix=".flac",
        ),
        content,
    )


def fill(store: Path, count: int) -> None:
    """A store of `count` minutes, with a manifest an hour."""
    custody = store / "north/room-1/custody"
    custody.mkdir(parents=True)
    digest, seq = GENESIS, 0
    entries: list[list[Any]] = []
    before = digest

    def enter(kind: str, at_ns: int, **body: Any) -> None:  # noqa: ANN401 (whatever JSON can hold)
        nonlocal digest, seq
        seq += 1
        entries.append([seq, EPOCH, at_ns, BOOT, at_ns - BEGAN_NS, kind, body])
        digest = link(digest, entries[-1])

    enter("boot", BEGAN_NS, of=BOOT, offset_ns=BEGAN_NS, clock="synchronised")
    for number in range(count):
        made, content = recording(number)
        key = made.key("", "north", "room-1")
        path = store / key
        if number % 1440 == 0 or not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        at_ns, named = made.start_ns + 60 * NS, {"run": RUN, "seq": number}
        begin_ns = number * 60 * NS
        enter(
            "sealed",
            at_ns,
            **named,
            of=BOOT,
            begin_ns=begin_ns,
            end_ns=begin_ns + 60 * NS,
            frames=made.frames,
            rate=made.rate,
            channels=1,
            bytes=len(content),
            sha256=made.sha256,
            truncated=False,
            provisional=False,
        )
        enter("keyed", at_ns, **named, key=key, clock="synchronised")
        enter("acknowledged", at_ns, **named, how="stored")
        if number % 60 == 59 or number == count - 1:
            stretch = Stretch(EPOCH, entries[0][0], seq)
            manifest = Manifest(
                "north",
                "room-1",
                stretch,
                before,
                digest,
                "2026-10-01T00:00:00.000Z",
                "synchronised",
                list(entries),
            )
            (custody / stretch.name).write_bytes(sign("manifest", manifest.document(), SEED))
            entries.clear()
            before = digest


def peak_kib(place: Path, count: int) -> tuple[int, float]:
    """The most memory that verifying `count` recordings took, in KiB, and how many seconds."""
    store = place / "store"
    fill(store, count)
    enrolment = place / "room-1.json"
    enrolment.write_text(Enrolment("north", "room-1", public_key(SEED), "2026-03-01T08:00:00.000Z").text())
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "verify", str(store), "--enrolment", str(enrolment), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began_s
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = json.loads(done.stdout)
    assert told["verified"]["recordings"] == count
    return int(done.stderr.split()[-1]), seconds


@pytest.mark.parametrize(
    "count", [3_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])], ids=str
)
def test_memory_doesnt_grow_with_the_store(tmp_path: Path, count: int, tell: Callable[[str], None]) -> None:
    few, _ = peak_kib(tmp_path / "few", 100)
    many, seconds = peak_kib(tmp_path / "many", count)
    tell(f"verify: {count} recordings in {seconds:.1f} s, {many / 1024:.0f} MiB at most ({few / 1024:.0f} for 100)")
    assert many - few < 32 * 1024
