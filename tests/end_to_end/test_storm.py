"""Kill storms: whatever is killed whenever, nothing is lost, doubled or torn.

Two kiosks side by side, each in a room of its own, the second one encrypting, into one real S3 server; see
tests.end_to_end.storm for the moments and tests.end_to_end.judge for what must hold afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.settings import Capture, Device, Mqtt, Seal, Settings, Spool, Upload
from agent.units import ByteRate, Duration, Size
from hw.simulated import SimulatedRoom
from tests.end_to_end.judge import Judge, noise_that_never_repeats
from tests.end_to_end.kiosk import ROOT, Kiosk
from tests.end_to_end.storm import Scales, Storm
from tests.keys import PUBLIC
from tests.servers import Broker, Bucket

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


RATE = 16000
CAP_BYTES_PER_KILL = 10_000
"""About what a kiosk captures between two kills, so that retention has work to do; and yet room for what waits
while a busy machine lets the courier get nowhere: what is given up before it's uploaded is lost."""


def settings_of(number: int, cap: Size, root: Path, bucket: Bucket, broker: Broker) -> Settings:
    return Settings(
        device=Device(site="north", id=f"room-{number}"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(
            path=root / "kiosk",
            segment_seconds=3,
            sync_seconds=0.5,
            cap=cap,
            keep_free=Size(0),
            keep_uploaded=Duration(3600),
        ),
        seal=Seal(recipients=(PUBLIC,) if number == 2 else ()),
        upload=Upload(
            target=f"s3://{bucket.name}/storm-{number}",
            endpoint_url=bucket.store.url,
            clock_wait=Duration(0),
            # An upload lasts a good part of a segment's length, so that kills find it under way.
            max_rate=ByteRate(300_000),
        ),
        mqtt=Mqtt(url=broker.url),
    )


def rage(settings: Settings, kills: int, seed: int, bucket: Bucket, source: NDArray[np.int16]) -> tuple[Storm, Scales]:
    """One kiosk's storm, and the calm after it: everything is finished and uploaded."""
    with ExitStack() as stack:
        kiosk = stack.enter_context(Kiosk(settings, bucket.store.kiosk.environment))
        room = SimulatedRoom(settings.spool.path.parent / "room", source, RATE, 1)
        storm, scales = Storm(kiosk, room), Scales(kiosk.layout)
        with scales.watching():
            storm.rage(kills, seed)
            storm.calm()
        return storm, scales


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(200, marks=pytest.mark.timeout(900)),
        pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(4500)]),
    ],
)
def test_after_a_storm_of_kills_everything_ever_sealed_is_in_the_bucket_once_and_whole(
    kills: int, tmp_path: Path, bucket: Bucket, broker: Broker, tell: Callable[[str], None]
) -> None:
    cap = Size(CAP_BYTES_PER_KILL * kills)

    def weather(number: int) -> tuple[Storm, Scales, Judge]:
        source = noise_that_never_repeats(6 * kills, RATE, seed=number)
        settings = settings_of(number, cap, tmp_path / f"storm-{number}", bucket, broker)
        storm, scales = rage(settings, kills // 2, 100 * number, bucket, source)
        return storm, scales, Judge(storm.kiosk, bucket, storm.room, source)

    with ThreadPoolExecutor(2) as pool:
        storms = list(pool.map(weather, (1, 2)))
    for storm, scales, judge in storms:
        tell(summary(storm, scales, judge))
        assert len(storm.lives) == kills // 2
        judge.assert_all()
        judge.assert_a_kill_costs_what_is_promised(storm.lives_of("recorder"))
        assert scales.peak_bytes <= cap
        # A life of less than a chunk leaves nothing of what is encrypted: that kiosk's spool may never be half full.
        assert scales.peak_bytes > cap / 2 or storm.kiosk.settings.seal.recipients
        assert_verify_is_content(storm.kiosk)
    assert_kills_came_everywhere(storms)


def assert_kills_came_everywhere(storms: list[tuple[Storm, Scales, Judge]]) -> None:
    """A storm that always came at the same moment of a life would prove little."""
    phases = sum((storm.phases() for storm, _, _ in storms), Counter())
    assert set(phases) >= {
        ("recorder", "starting"),
        ("recorder", "recovering"),
        ("recorder", "writing"),
        ("courier", "starting"),
        ("courier", "uploading"),
    }
    assert {segment.truncated for _, _, judge in storms for segment in judge.segments} == {False, True}


def summary(storm: Storm, scales: Scales, judge: Judge) -> str:
    """What to know about a storm besides that it did no harm."""
    costs = [cost.lost_s - cost.starting_s for cost in judge.costs_of_kills(storm.lives_of("recorder"))]
    already_there = sum(segment.reason == "already_there" for segment in judge.segments)
    truncated = sum(segment.truncated for segment in judge.segments)
    phases = ", ".join(f"{count} × {role} {phase}" for (role, phase), count in sorted(storm.phases().items()))
    return (
        f"killed: {phases}; {len(judge.segments)} segments ({truncated} truncated, {already_there} put twice), "
        f"{judge.counters['captured_seconds_total']:.1f} s captured; a kill cost {max(costs, default=0):.2f} s at most "
        f"(promised {judge.promised_s:.2f} s); {scales.peak_bytes:,} bytes at most in {scales.weighings:,} weighings"
    )


def assert_verify_is_content(kiosk: Kiosk) -> None:
    """What a technician would ask, asked as a technician would."""
    spool = kiosk.settings.spool
    config = spool.path / "config.toml"
    config.write_text(
        f'[device]\nsite = "north"\nid = "{kiosk.settings.device.id}"\n'
        f'[spool]\npath = "{spool.path}"\ncap = "{spool.cap}"\nkeep_free = "0B"\n'
        f"segment_seconds = {spool.segment_seconds}\n"
    )
    command = [sys.executable, "-P", "-m", "agent.cli", "verify", "--config", str(config)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "all is well"), done.stdout + done.stderr
