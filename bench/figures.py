"""What was to be reached, and whether it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.contenders import CONTENDERS

_Result = dict[str, Any]

PACED = {"paced-16k-mono": 50, "paced-48k-stereo": 60}
"""Results at real-time pace, and the most memory in MiB that the recorder may take there."""

ENDURANCE = {"endurance-16k-mono": 50, "endurance-48k-stereo": 60}
"""Results over hours, likewise."""

SOAK = "soak"
"""The result over hours in which everything fails now and then."""

COURIER_MIB = 95
WRITTEN_PER_KEPT = 1.15
OF_FFMPEG = 0.4
OF_ARECORD_FLAC = 1.3
OF_PLAIN = 1.1
OF_RCLONE = 0.9
FIRST_FRAME_S = 1.5


@dataclass(frozen=True, slots=True)
class Figure:
    """What was to be reached, what was."""

    what: str
    asked: str
    measured: str
    reached: bool


def figures(results: Mapping[str, _Result]) -> Iterator[Figure]:
    """Every figure for which there is a result."""
    for name, most_mib in PACED.items():
        if name in results:
            yield from _paced(results[name], most_mib)
    for name, most_mib in ENDURANCE.items():
        if name in results:
            yield from _endurance(results[name], most_mib)
    if SOAK in results:
        yield from _soak(results[SOAK])
    if "drain" in results:
        yield from _drain(results["drain"])
    if "start" in results:
        yield from _start(results["start"])


def _paced(result: _Result, most_mib: float) -> Iterator[Figure]:
    sound, medians = result["sound"], result["medians"]
    own = medians["recorder"]
    for other, most in (("ffmpeg", OF_FFMPEG), ("arecord", OF_ARECORD_FLAC)):
        ratio = own["cpu_s_per_hour"] / medians[other]["cpu_s_per_hour"]
        title = CONTENDERS[other].title
        yield Figure(f"recorder's CPU, {sound}", f"≤ {most} × `{title}`", f"{ratio:.2f} ×", ratio <= most)
    if "encrypted" in medians:
        ratio = medians["encrypted"]["cpu_s_per_hour"] / own["cpu_s_per_hour"]
        yield Figure(f"CPU of encrypting, {sound}", f"≤ {OF_PLAIN} × plain", f"{ratio:.2f} ×", ratio <= OF_PLAIN)
    yield _memory("recorder's memory", sound, max(_peaks(result["lanes"], "recorder")), most_mib)
    yield _written(sound, own["written_per_kept"])


def _endurance(result: _Result, most_mib: float) -> Iterator[Figure]:
    when = f"{result['hours']:g} h of {result['sound']}"
    for who, most in (("recorder", most_mib), ("courier", COURIER_MIB)):
        own = result[who]
        yield _memory(f"{who}'s memory", when, own["peak_mib"], most)
        growth = f"{own['growth_mib']:+.2f} MiB"
        yield Figure(f"{who}'s memory is flat, {when}", f"≤ {result['flat_mib']:g} MiB growth", growth, own["flat"])
    yield _written(when, result["written_per_kept"])


def _soak(result: _Result) -> Iterator[Figure]:
    when = f"{result['hours']:g} h with faults"
    for who, levels in result["levels"].items():
        for what, title in (("descriptors", "file descriptors"), ("threads", "threads")):
            growth = levels[what]["growth"]
            yield Figure(f"{who}'s {title}, {when}", "not one more", f"{growth:+.2f} on average", growth < 1)
        growth, most = levels["mib"]["growth"], result["growth_mib"]
        yield Figure(f"{who}'s memory, {when}", f"≤ {most:g} MiB growth", f"{growth:+.2f} MiB", growth <= most)
    account = result["account"]
    segments, whole = account["segments"], account["whole_segments"]
    all_whole = whole == segments == account["objects"] == account["acknowledged"]
    yield Figure(f"recordings in the bucket, sample for sample, {when}", "all", f"{whole} of {segments}", all_whole)
    unexplained = account["unexplained"] + account["faults_of_timeline"]
    yield Figure(f"times not heard and not told as a gap, {when}", "none", str(unexplained), unexplained == 0)


def _drain(result: _Result) -> Iterator[Figure]:
    ratio, count = result["throughput_ratio"], f"{result['objects']} recordings"
    asked = f"≥ {OF_RCLONE} × `rclone copy --transfers {result['transfers']}`"
    yield Figure(f"courier's throughput, {count}", asked, f"{ratio:.2f} ×", ratio >= OF_RCLONE)
    yield _memory("courier's memory", count, max(_peaks(result["rows"], "courier")), COURIER_MIB)


def _start(result: _Result) -> Iterator[Figure]:
    for median in result["medians"]:
        count, way, seconds = f"{median['recordings']:,} in the spool", median["way"], median["first_frame_s"]
        asked = f"≤ {FIRST_FRAME_S} s"
        yield Figure(f"`{way}` to first frame, {count}", asked, f"{seconds:.2f} s", seconds <= FIRST_FRAME_S)
    full = max(result["medians"], key=lambda median: (median["recordings"], median["peak_mib"]))
    yield _memory("recorder's memory", f"{full['recordings']:,} in the spool", full["peak_mib"], 50)


def _memory(whose: str, when: str, peak_mib: float, most_mib: float) -> Figure:
    return Figure(f"{whose}, {when}", f"≤ {most_mib:g} MiB", f"{peak_mib:.1f} MiB", peak_mib <= most_mib)


def _written(when: str, ratio: float) -> Figure:
    return Figure(
        f"bytes written per byte kept, {when}", f"≤ {WRITTEN_PER_KEPT}", f"{ratio:.3f}", ratio <= WRITTEN_PER_KEPT
    )


def _peaks(rows: list[_Result], contender: str) -> Iterator[float]:
    return (row["peak_mib"] for row in rows if row["contender"] == contender)
