"""`kiosk-recorder mics`: the microphones of this machine, by names that stay."""

from __future__ import annotations

from dataclasses import asdict

from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD
from agent.terminal import complain, say, say_json
from hw.alsa import microphones


def list_microphones(*, as_json: bool) -> int:
    """Print every capture device as `capture.pcm` takes it; 1 when there is none."""
    found = microphones()
    if as_json:
        say_json([asdict(microphone) for microphone in found])
    else:
        width = max((len(microphone.pcm) for microphone in found), default=0)
        for microphone in found:
            say(f"{microphone.pcm:{width}}  {microphone.card}, {microphone.device}")
    if found:
        return EXIT_GOOD
    complain("no microphone found\n  → plug one in; `arecord -l` should name it, and `lsusb` one on USB")
    return EXIT_FOUND_WRONG
