"""What the recorder and the courier cost, beside programs that do a part of their work. Started by bench/run."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import drain, endurance, paced, report, soak, start
from bench.card import can_mount
from bench.contenders import ROOT, Sound
from bench.machine import describe

_SOUNDS = {"16k-mono": Sound(16000, 1), "48k-stereo": Sound(48000, 2)}
_PARTS = ("paced", "endurance", "soak", "start", "drain", "report")

_EPILOG = """\
parts:
  paced      recorder, arecord | flac, ffmpeg and sox at real-time pace: CPU, memory, bytes written
  endurance  hours of audio, accelerated: the memory of recorder and courier
  soak       hours in which microphone, store and broker fail now and then: descriptors, threads, memory, what is kept
  start      from exec to the first frame, with few and with many recordings in the spool
  drain      the courier beside rclone, into a real S3 server
  report     docs/BENCHMARKS.md and its pictures from bench/results/ (also done after every other part)

Exit status: 0 every figure in the results is reached, 1 one is missed, 2 could not run.
"""


def main() -> int:
    """Run the parts asked for."""
    arguments = _arguments()
    if not can_mount():
        print("not root: no images are mounted, so bytes at the device and cold starts aren't measured", flush=True)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    parts = arguments.parts or _PARTS
    sounds = {name: _SOUNDS[name] for name in arguments.sound or _SOUNDS}
    for part in parts:
        if part == "report":
            continue
        for name, measure in _measurements(part, sounds, arguments):
            print(f"{name} …", flush=True)
            _keep(name, measure())
    figures = report.write()
    for figure in figures:
        print(f"{'reached' if figure.reached else 'MISSED ':8} {figure.what}: {figure.measured} ({figure.asked})")
    return 0 if all(figure.reached for figure in figures) else 1


def _measurements(
    part: str, sounds: dict[str, Sound], arguments: argparse.Namespace
) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    scratch: Path = arguments.scratch
    if part == "paced":
        one = partial(paced.compare, minutes=arguments.minutes, replicas=arguments.replicas, scratch=scratch)
        return [(f"paced-{name}", partial(one, sound)) for name, sound in sounds.items()]
    if part == "endurance":
        one = partial(endurance.measure, hours=arguments.hours, speed=arguments.speed, scratch=scratch)
        return [(f"endurance-{name}", partial(one, sound)) for name, sound in sounds.items()]
    if part == "soak":
        one = partial(soak.measure, hours=arguments.hours, speed=arguments.speed, seed=arguments.seed, scratch=scratch)
        return [("soak", partial(one, _SOUNDS["16k-mono"]))]
    if part == "start":
        return [("start", partial(start.measure, (0, arguments.recordings), arguments.starts, scratch))]
    return [("drain", partial(drain.measure, arguments.objects, arguments.pairs, scratch))]


def _keep(name: str, result: dict[str, Any]) -> None:
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    whole = {"command": _command(sys.argv[1:]), "revision": revision, "machine": describe(), **result}
    report.RESULTS.mkdir(exist_ok=True)
    (report.RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")


def _command(words: list[str]) -> str:
    """What repeats this run; where it worked is nobody's business."""
    kept = [word for before, word in pairwise(["", *words]) if "--scratch" not in (before, word.partition("=")[0])]
    return " ".join(["bench/run", *kept])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)}; all of them by default")
    add("--sound", action="append", choices=sorted(_SOUNDS), help="one format only (paced, endurance)")
    add("--minutes", type=float, default=5, help="paced: length after the warm-up (%(default)s)")
    add("--replicas", type=int, default=2, help="paced: how many of each run at once (%(default)s)")
    add("--hours", type=float, default=10, help="endurance, soak: hours of audio (%(default)s)")
    add("--speed", type=float, default=75, help="endurance, soak: times real time (%(default)s)")
    add("--seed", type=int, default=1, help="soak: which misfortunes, and when (%(default)s)")
    add("--recordings", type=int, default=100_000, help="start: recordings in the full spool (%(default)s)")
    add("--starts", type=int, default=5, help="start: how often (%(default)s)")
    add("--objects", type=int, default=500, help="drain: recordings of about 1 MB (%(default)s)")
    add("--pairs", type=int, default=5, help="drain: how often each (%(default)s)")
    add("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="where to work: a disk with 10 GB free")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(_PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if "soak" in (arguments.parts or _PARTS) and arguments.hours < 3:
        parser.error("soak: compares the second hour with the last, so it takes 3 hours or more")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
