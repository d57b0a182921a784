"""The recorder process with mock pins that a test can reach: `python -m …buttoned_recorder FD DIRECTORY`.

A line in the pipe `DIRECTORY/button` moves the button, "down" or "up". `DIRECTORY/light` has a line each time the light
is told something else: the rhythm, and what `orders.json` on the card held in that moment.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from gpiozero import Device
from gpiozero.pins.mock import MockFactory

from agent.handover import take_over
from agent.log import log_to_stderr
from agent.recorder.service import RecorderService
from agent.settings import Settings
from hw.clock import SystemClock
from hw.gpio import Light, Rhythm


def move(settings: Settings, pipe: Path) -> None:
    pin = Device.pin_factory.pin(settings.gpio.button)
    while True:
        with pipe.open() as lines:
            for line in lines:
                (pin.drive_low if line.strip() == "down" else pin.drive_high)()


def watch(settings: Settings, file: Path) -> None:
    orders, show = settings.spool.path / "orders.json", Light.show

    def shown(self: Light, rhythm: Rhythm) -> None:
        kept = json.loads(orders.read_bytes())["quiets"] if orders.exists() else []
        with file.open("a") as log:
            log.write(json.dumps([rhythm.on_s, rhythm.off_s, [quiet[:2] for quiet in kept]]) + "\n")
        show(self, rhythm)

    Light.show = shown  # type: ignore[method-assign]


if __name__ == "__main__":
    chosen, directory = take_over(int(sys.argv[1])), Path(sys.argv[2])
    log_to_stderr("info")
    Device.pin_factory = MockFactory()
    watch(chosen, directory / "light")
    service = RecorderService(chosen, SystemClock())
    threading.Thread(target=move, args=(chosen, directory / "button"), daemon=True).start()
    sys.exit(service.run())
