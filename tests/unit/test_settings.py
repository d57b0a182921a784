"""What holds for settings however they came to be."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.settings import Capture, Device, Settings, Spool
from agent.units import Size

MINIMAL = '[device]\nsite = "north"\nid = "room-12"\n'


class TestTheReserveOfASegment:
    def test_it_bounds_what_flac_makes_of_noise(self, tmp_path: Path) -> None:
        import numpy as np
        import soundfile

        noise = np.random.default_rng(1)
        for rate, channels, seconds in ((16000, 1, 1), (16000, 1, 61), (48000, 2, 7), (8000, 8, 3)):
            kept = Settings(
                device=Device(site="a", id="b"),
                capture=Capture(rate=rate, channels=channels),
                spool=Spool(segment_seconds=seconds, sync_seconds=0.5),
            )
            file = tmp_path / "noise.flac"
            samples = noise.integers(-(2**15), 2**15, (rate * seconds, channels), dtype=np.int16)
            soundfile.write(file, samples, rate, subtype="PCM_16")
            sidecar = 128 + 64 * (2 * seconds + 1)
            assert file.stat().st_size > samples.nbytes
            assert file.stat().st_size + sidecar <= kept.segment_reserve_bytes

    def test_on_the_direct_path_segments_get_shorter_until_several_fit(self, tmp_path: Path) -> None:
        long = Settings(device=Device(site="a", id="b"), spool=Spool(segment_seconds=3600, keep_free=Size(2**30)))
        direct = long.on_direct_path(tmp_path)
        assert direct.spool.path == tmp_path
        assert (direct.spool.cap, direct.spool.keep_free) == (long.spool.direct_cap, 0)
        assert 4 * direct.segment_reserve_bytes <= direct.spool.cap < 8 * direct.segment_reserve_bytes
        short = Settings(device=Device(site="a", id="b"))
        assert short.on_direct_path(tmp_path).spool.segment_seconds == short.spool.segment_seconds

    def test_the_sidecar_of_a_long_segment_with_frequent_syncs_has_room_besides_the_audio(self) -> None:
        kept = Settings(
            device=Device(site="a", id="b"),
            capture=Capture(rate=8000),
            spool=Spool(segment_seconds=3600, sync_seconds=0.5),
        )
        audio = 3600 * 8000 * 2
        assert kept.segment_reserve_bytes - audio - audio // 64 >= 128 + 64 * (7200 + 1)

    def test_a_small_cap_lowers_the_quarantine_nobody_set(self) -> None:
        read = config.parse(MINIMAL + '[spool]\ncap = "20MB"', "config.toml")
        assert read.spool.quarantine_cap == Size(2_500_000)
        tight = config.parse(MINIMAL + '[spool]\ncap = "4MiB"', "config.toml")
        assert tight.spool.cap - tight.spool.quarantine_cap >= 2 * tight.segment_reserve_bytes


def test_a_change_of_settings_needs_a_new_one() -> None:
    read = config.parse(MINIMAL, "config.toml")
    for section in fields(Settings):
        part: Any = getattr(read, section.name)
        assert not hasattr(part, "__dict__")
        with pytest.raises(AttributeError):
            setattr(part, fields(part)[0].name, None)
    assert replace(read) == read
