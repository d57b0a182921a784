"""Runs on a card, in its release's Python: a room is simulated, recorded for a while, and what was kept is compared.

Prints how many frames were recorded, and how many seconds that took.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from hw.simulated import SimulatedRoom

COMMAND = "/usr/local/bin/kiosk-recorder"
PLACE = Path("/tmp/kiosk")  # noqa: S108 (the card's own)
CONFIG = f"""
[device]
site = "north"
id = "room-12"
[capture]
pcm = "{{pcm}}"
[spool]
path = "{PLACE}/spool"
segment_seconds = 2
keep_free = "0B"
"""
SEGMENTS = 4


def main() -> int:
    PLACE.mkdir()
    numbers = np.arange(16000 * 600, dtype=np.uint32).astype(np.uint16).view(np.int16)
    room = SimulatedRoom(PLACE / "room", numbers.reshape(-1, 1), 16000, 1)
    os.environ.update(room.environment)
    os.environ["KIOSK_RECORDER_CONFIG"] = str(PLACE / "config.toml")
    (PLACE / "config.toml").write_text(CONFIG.format(pcm=room.pcm))
    began = time.monotonic()
    recorder = subprocess.Popen([COMMAND, "record"])
    while len(list(PLACE.glob("spool/spool/sealed/*.flac"))) < SEGMENTS:
        if recorder.poll() is not None or time.monotonic() > began + 300:
            recorder.kill()
            return 1
        time.sleep(0.2)
    seconds = time.monotonic() - began
    recorder.send_signal(signal.SIGTERM)
    recorder.wait(60)
    subprocess.run([COMMAND, "verify"], check=True)
    frames = 0
    for path in sorted(PLACE.glob("spool/spool/sealed/*.flac")):
        heard, _ = soundfile.read(path, dtype="int16")
        steps = np.diff(heard.view(np.uint16))
        if not np.all(steps == 1):
            return 1
        frames += len(heard)
    sys.stdout.write(f"{frames} frames in {seconds:.1f} s on {os.uname().machine}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
