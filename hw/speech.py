"""Sound like somebody talking in a quiet room, made from a seed: for demonstrations, tests and benchmarks.

Phrases of voiced syllables (a harmonic source shaped by the formants of vowels) and hissing consonants, between them
pauses with nothing but the room's noise. A voice detector, a level meter and a compressor find in it what they find in
speech; a person hears that it is none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_FLOOR_DBFS = -65.0
_PHRASE_DBFS = (-29.0, -21.0)
_PHRASE_S = (0.8, 3.5)
_PAUSE_S = (0.4, 2.5)
_SYLLABLE_S = (0.11, 0.26)
_HARMONICS_UP_TO_HZ = 4000.0

_VOWELS = (
    (730.0, 1090.0, 2440.0),
    (270.0, 2290.0, 3010.0),
    (530.0, 1840.0, 2480.0),
    (570.0, 840.0, 2410.0),
    (300.0, 870.0, 2240.0),
)
"""First three formants in Hz: the averages for of ah, ee, eh, aw, oo by Peterson and Barney, 1952."""

_FORMANT_GAIN = (1.0, 0.5, 0.25)
_FORMANT_WIDTH_HZ = 110.0

_Samples = NDArray[np.float64]


def speech_like(seconds: float, rate: int, channels: int, seed: int = 1) -> NDArray[np.int16]:
    """Sound of shape (frames, channels), the same for the same arguments.

    Phrases lie between -30 and -20 dBFS rms, the pauses at about -65. Every channel hears the same voice, a little
    later and softer than the one before, and a noise of its own.
    """
    frames = round(seconds * rate)
    generator = np.random.default_rng(seed)
    voice = np.zeros(frames)
    for start, phrase in _phrases(frames, rate, generator):
        voice[start : start + len(phrase)] = phrase[: frames - start]
    sound = np.empty((frames, channels), dtype=np.int16)
    for channel in range(channels):
        heard = np.roll(voice, channel * rate // 2000) * 0.8**channel
        heard += generator.normal(0.0, 10 ** (_FLOOR_DBFS / 20), frames)
        sound[:, channel] = np.clip(np.rint(heard * 32767), -32768, 32767)
    return sound


def _phrases(frames: int, rate: int, generator: np.random.Generator) -> Iterator[tuple[int, _Samples]]:
    """Where each phrase begins, and its samples."""
    at = round(0.3 * rate)
    while at < frames:
        pitch_hz = generator.uniform(95, 210)
        left = round(generator.uniform(*_PHRASE_S) * rate)
        parts: list[_Samples] = []
        while left > 0:
            parts.append(_syllable(pitch_hz * generator.uniform(0.85, 1.2), rate, generator))
            left -= len(parts[-1])
        phrase = np.concatenate(parts)
        wanted = 10 ** (generator.uniform(*_PHRASE_DBFS) / 20)
        phrase *= wanted / np.sqrt(np.mean(phrase**2))
        yield at, phrase
        at += len(phrase) + round(generator.uniform(*_PAUSE_S) * rate)


def _syllable(pitch_hz: float, rate: int, generator: np.random.Generator) -> _Samples:
    """A vowel whose pitch falls a little, now and then with a consonant's hiss before it."""
    frames = round(generator.uniform(*_SYLLABLE_S) * rate)
    time = np.arange(frames) / rate
    glide = generator.uniform(-0.6, 0.2) * pitch_hz
    turn = np.exp(2j * np.pi * (pitch_hz * time + glide * time**2 / 2))
    formants = np.array(_VOWELS[generator.integers(len(_VOWELS))])
    vowel = np.zeros(frames)
    harmonic = np.ones(frames, dtype=complex)
    for number in range(1, int(min(_HARMONICS_UP_TO_HZ, rate / 2.2) / (1.3 * pitch_hz)) + 1):
        harmonic *= turn
        resonance = _FORMANT_GAIN / (1 + ((number * pitch_hz - formants) / _FORMANT_WIDTH_HZ) ** 2)
        vowel += (resonance.sum() + 0.02) * harmonic.imag
    vowel *= np.sin(np.pi * (np.arange(frames) + 0.5) / frames) ** 0.7
    if generator.random() < 0.6:
        return vowel
    hiss = np.diff(generator.normal(0.0, 0.12, round(0.07 * rate) + 1))
    return np.concatenate([hiss * np.hanning(len(hiss)), vowel])
