"""The end of the demonstration: what arrived, whether it is what was heard, and how to listen to it."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rich.text import Text

from agent.demo.proof import Arrival, Proof
from agent.units import human_bytes, human_seconds

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN_AT_EACH_END = 6

_PLAYERS = (
    ("ffplay", "-autoexit", "-nodisp"),
    ("mpv",),
    ("play",),
    ("pw-play",),
    ("paplay",),
)
"""Programs that play FLAC, the commonest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Everything there is to tell."""

    proof: Proof
    source: str
    """What the recordings were compared with."""
    bucket: str
    heard: Path
    """Where the recordings that came back are."""
    listing: str
    """The command that lists what was recorded, as long as that is kept."""
    key: str = ""
    """Which one opened them, if they were encrypted."""
    complaints: tuple[str, ...] = ()
    """What else went wrong, in the words of those it happened to."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that is wrong."""
        return (*self.proof.faults, *self.complaints)


def tell(ending: Ending, console: Console) -> None:
    """Print it."""
    arrivals = ending.proof.arrivals
    if arrivals:
        _say(console, f"Downloaded from the bucket {ending.bucket}:", "bold")
        folder = ""
        for arrival in _shortened(arrivals):
            if arrival is None:
                _say(console, f"    … {len(arrivals) - 2 * _SHOWN_AT_EACH_END} more …", "dim")
                continue
            path = PurePosixPath(arrival.key)
            if str(path.parent) != folder:
                folder = str(path.parent)
                _say(console, f"  {folder}/")
            _arrival(console, path.name, arrival)
    good = ending.proof.good
    if good:
        length = human_seconds(round(sum(arrival.seconds for arrival in good), 1))
        _say(console, "")
        opened = f"encrypted, opened with the key {ending.key}, " if ending.key else ""
        _say(
            console,
            f"{_counted(len(good))} ({length}) came back from the bucket {opened}and decoded, sample for sample, to"
            f" {ending.source}.",
            "bold green",
        )
    for fault in ending.faults:
        _say(console, f"FAILED  {fault}", "bold red")
    if good:
        _say(console, f"All of it is in {ending.heard}. Listen:")
        console.print(f"  {_play(ending.heard, good)}", markup=False, soft_wrap=True)
    _say(console, "Recorder, courier, store and broker have ended.", "dim")


def _arrival(console: Console, name: str, arrival: Arrival) -> None:
    figures = f"{arrival.seconds:6.1f} s {human_bytes(arrival.bytes):>9}  "
    mark = ("  FAILED", "bold red") if arrival.fault else ("  ok    ", "green")
    _say(console, Text.assemble(mark, figures, (name, "dim")))


def _shortened(arrivals: Sequence[Arrival]) -> list[Arrival | None]:
    """All of them; of very many the first and the last, None standing for those between."""
    if len(arrivals) <= 2 * _SHOWN_AT_EACH_END + 1:
        return list(arrivals)
    return [*arrivals[:_SHOWN_AT_EACH_END], None, *arrivals[-_SHOWN_AT_EACH_END:]]


def _counted(count: int) -> str:
    return "1 recording" if count == 1 else f"{count} recordings"


def _play(heard: Path, good: Sequence[Arrival]) -> str:
    first = next((str(arrival.file) for arrival in good if arrival.file is not None), str(heard))
    for player in _PLAYERS:
        if shutil.which(player[0]):
            return shlex.join([*player, first])
    if shutil.which("flac") and shutil.which("aplay"):
        return f"flac -dcs {shlex.quote(first)} | aplay"
    return f"{first} with any player (`apt-get install ffmpeg` brings ffplay)"


def _say(console: Console, what: str | Text, style: str = "") -> None:
    # A name is cut at the edge of a terminal, never in a file; a sentence is wrapped.
    if isinstance(what, Text) and console.is_terminal:
        console.print(what, no_wrap=True, overflow="ellipsis", soft_wrap=False)
    else:
        console.print(what, style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal)
