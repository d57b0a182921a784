# ruff: noqa: INP001 (a script, in no package)
"""Draws docs/images/try.svg: what `kiosk-recorder try` shows after half a minute, taken from a real run.

python docs/images/draw_try.py
"""

from __future__ import annotations

import io
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from agent.demo.children import Wish
from agent.demo.hearing import SIMULATED, find
from agent.demo.picture import Picture
from agent.demo.screens import Face
from agent.demo.story import Story

SECONDS = 34.0
WIDTH, HEIGHT = 96, 24


class Camera:
    """Keeps the last picture of the recording itself."""

    def __init__(self) -> None:
        self.taken: Picture | None = None

    def show(self, picture: Picture) -> None:
        if not picture.phase and (self.taken is None or picture.elapsed_s < SECONDS - 1.5):
            self.taken = picture

    def close(self) -> None:
        pass


def drawn(picture: Picture) -> str:
    """The picture as SVG that loads nothing from anywhere."""
    console = Console(width=WIDTH, height=HEIGHT, record=True, file=io.StringIO(), force_terminal=True)
    # Without the command that names a directory of this machine.
    console.print(Face(replace(picture, invitations=picture.invitations[:2])))
    svg = console.export_svg(title="./install.sh try", unique_id="try")
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    return re.sub(r"\n\s*\n+", "\n", svg)


def main() -> None:
    """Run the demonstration and write the picture."""
    camera = Camera()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        hearing = find(SIMULATED, place / "room")
        Story(place, replace(hearing, title="a simulated room, through alsa-lib"), SECONDS, Wish(), camera).run(
            place / "heard"
        )
    if camera.taken is None:
        raise SystemExit("nothing was shown")
    Path(__file__).with_name("try.svg").write_text(drawn(camera.taken))


if __name__ == "__main__":
    main()
