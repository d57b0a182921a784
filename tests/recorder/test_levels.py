from __future__ import annotations

import numpy as np
import pytest

from agent.recorder.levels import FLOOR_DBFS, dbfs, measure, slice_rms_dbfs


def test_a_full_scale_sine_reads_minus_three_dbfs_rms_and_zero_peak() -> None:
    sine = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    levels = measure((sine * 32767).astype(np.int16).reshape(-1, 1))
    assert levels.rms_dbfs == pytest.approx(-3.01, abs=0.01)
    assert levels.peak_dbfs == pytest.approx(0.0, abs=0.01)
    assert levels.dc_offset == pytest.approx(0.0, abs=1e-4)


def test_clipping_is_the_share_of_samples_at_either_rail() -> None:
    samples = np.zeros((1000, 1), np.int16)
    samples[:30], samples[30:50] = 32767, -32768
    assert measure(samples).clipped_pct == pytest.approx(5.0)


def test_every_channel_counts() -> None:
    samples = np.zeros((1000, 2), np.int16)
    samples[:, 1] = 16384
    levels = measure(samples)
    assert levels.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert levels.rms_dbfs == pytest.approx(-9.03, abs=0.01)
    assert levels.dc_offset == pytest.approx(0.5)


def test_digital_silence_is_told_from_the_quietest_sound() -> None:
    silence = np.zeros((16000, 1), np.int16)
    assert measure(silence).silent
    silence[7] = 1
    assert not measure(silence).silent


def test_slices_are_measured_each_by_itself() -> None:
    samples = np.zeros((250, 1), np.int16)
    samples[100:200] = 3277
    levels = slice_rms_dbfs(samples, 100)
    assert levels.tolist() == pytest.approx([FLOOR_DBFS, -20.0], abs=0.01)


def test_dbfs_of_nothing_is_the_floor() -> None:
    assert dbfs(0) == FLOOR_DBFS
    assert dbfs(32768) == 0.0
