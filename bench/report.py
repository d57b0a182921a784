"""docs/BENCHMARKS.md and its pictures, made from bench/results/ alone."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from bench import pictures
from bench.contenders import CONTENDERS, ROOT
from bench.figures import ENDURANCE, PACED, SOAK, Figure, figures

RESULTS = ROOT / "bench" / "results"
_PAGE = ROOT / "docs" / "BENCHMARKS.md"

_Result = dict[str, Any]

_INTRODUCTION = """\
# What it costs

This page is written by `bench/run`; nobody edits it. Every number is the operating system's own: CPU from each
process's CPU clock, memory from `VmHWM` and `VmRSS`, bytes written from `write_bytes` of `/proc/PID/io`, bytes at the
device from `/sys/block/*/stat` of an ext4 file system made for the purpose. What misses its figure stands in the first
table.

    bench/run                     everything: about 50 minutes, as root (it mounts images)
    bench/run paced --minutes 10  one part
    bench/run --help              the parts and their options
"""


def write() -> list[Figure]:
    """Write page and pictures; the figures, reached or not."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    judged = list(figures(results))
    sections = [_INTRODUCTION, _verdicts(judged)]
    paced = [results[name] for name in PACED if name in results]
    if paced:
        pictures.cpu(paced, "bench-cpu.svg")
        sections += [_paced(result) for result in paced]
        sections.append("![CPU seconds per hour of audio](images/bench-cpu.svg)\n")
    for name in ENDURANCE:
        if name in results:
            picture = name.replace("endurance", "bench-memory") + ".svg"
            pictures.memory(results[name], picture)
            sections.append(_endurance(results[name], picture))
    if SOAK in results:
        pictures.levels(results[SOAK], "bench-soak.svg")
        sections.append(_soak(results[SOAK], "bench-soak.svg"))
    if "start" in results:
        sections.append(_start(results["start"]))
    if "drain" in results:
        sections.append(_drain(results["drain"]))
    if results:
        sections.append(_origins(results))
    _PAGE.write_text("\n".join(sections))
    return judged


def _verdicts(judged: list[Figure]) -> str:
    rows = [(one.what, one.asked, one.measured, "reached" if one.reached else "**missed**") for one in judged]
    missed = sum(not one.reached for one in judged)
    tally = f", **{missed} missed**." if missed else "."
    summary = f"{len(judged) - missed} of {len(judged)} are reached{tally}"
    return f"## Figures\n\n{summary}\n\n{_table(('', 'asked', 'measured', ''), rows)}"


def _paced(result: _Result) -> str:
    columns = {
        "CPU s per hour": ("cpu_s_per_hour", ".2f"),
        "recorder is × this": ("recorder_cpu_ratio", ".2f"),
        "CPU s of the first 10 s": ("start_cpu_s", ".2f"),
        "CPU s in all": ("total_cpu_s", ".2f"),
        "CPU s per hour of the journal's thread": ("journal_cpu_s_per_hour", ".2f"),
        "wake-ups per s": ("wakeups_per_s", ".1f"),
        "peak MiB": ("peak_mib", ".1f"),
        "of it anonymous": ("anonymous_mib", ".1f"),
        "written per kept": ("written_per_kept", ".3f"),
        "with the start": ("written_per_kept_with_start", ".3f"),
        "at the device": ("device_per_kept", ".2f"),
    }
    rows = []
    for name, contender in CONTENDERS.items():
        own = result["medians"].get(name)
        if own is None:
            continue
        cells = (format(own[key], form) if key in own else "–" for key, form in columns.values())
        rows.append((f"`{contender.title}`", *cells))
    text = f"""\
Everybody at once, {result["replicas"]} of each, {result["seconds"] / 60:g} minutes after a warm-up of 10 s; medians.
The machine was {result["machine_busy_pct"]:g} % busy in all. The recorder measures levels, encodes, hashes, syncs every
2 s, seals every minute, keeps its ledger and tells its status; the others encode. FLAC at level 5 everywhere; `arecord`
and `flac` are summed.
"""
    note = """\
“Written per kept” counts pages made dirty. “At the device” adds what the file system writes on its own account: each
`fdatasync` of a file that grows is a commit of ext4's journal, 16 to 20 KiB. The others never sync.
"""
    return (
        f"## At real-time pace, {result['sound']}\n\n{_prose(text)}\n\n{_table(('', *columns), rows)}\n{_prose(note)}\n"
    )


def _endurance(result: _Result, picture: str) -> str:
    columns = {
        "MiB, 2nd tenth": ("second_tenth_mib", ".2f"),
        "MiB, last tenth": ("last_tenth_mib", ".2f"),
        "growth": ("growth_mib", "+.2f"),
        "peak MiB": ("peak_mib", ".2f"),
        "CPU s per hour": ("cpu_s_per_hour", ".2f"),
    }
    rows = [
        (who, *(format(result[who][key], form) for key, form in columns.values())) for who in ("recorder", "courier")
    ]
    device = result["device_per_kept"]
    text = f"""\
{result["hours"]:g} hours at {result["speed"]:g} times real time. The recorder lives by the room's clock, so it
syncs and seals as often as in real hours; {result["segments"]} segments were sealed, {result["arrived"]} arrived in the
store and were deleted here; {result["gaps"]} gaps. Written per byte kept: {result["written_per_kept"]:.3f}, at
the device {"not measured" if device is None else format(device, ".2f")}.
"""
    image = f"![Memory over the hours](images/{picture})\n"
    return f"## Hours of {result['sound']}\n\n{_prose(text)}\n\n{_table(('', *columns), rows)}\n\n{image}"


def _soak(result: _Result, picture: str) -> str:
    titles = {"descriptors": "file descriptors", "threads": "threads", "mib": "MiB", "anonymous_mib": "of it anonymous"}
    rows = [
        (
            f"{who}: {titles[what]}",
            *(f"{level[key]:g}" for key in ("first", "second", "last", "highest")),
            f"{level['growth']:+g}",
        )
        for who, levels in result["levels"].items()
        for what, level in levels.items()
    ]
    account = result["account"]
    apart_s = account["worst_disagreement_s"]
    faults = ", ".join(f"{count} × {kind}" for kind, count in result["faults"].items())
    gaps = ", ".join(f"{count} × `{reason}`" for reason, count in account["gaps"].items())
    text = f"""\
{result["hours"]:g} hours at {result["speed"]:g} times real time, both processes living by the room's clock and neither
ever restarted, with what goes wrong in a clinic drawn from seed {result["seed"]}: {faults}. Means of an
hour; growth counts from the second one, as in the first everything happens for the first time.
The most audio that waited in the recorder's ring was
{max(sample["ring_s"] for sample in result["samples"]):g} s. The ledger grows with its history, by design; the spool
fills while the store is away.
"""
    told = f"""\
The room played {account["played_s"] / 3600:.2f} h, of which {account["heard_s"] / 3600:.2f} h were heard, in
{account["runs"]} runs of {account["segments"]} segments; {account["whole_segments"]} of them are in the bucket, each
once, sample for sample as the room played them. By the room's frames {account["missed_s"]:,.1f} s between them were
missed, the kiosk's gaps say {account["gap_s"]:,.1f} s ({gaps}). About
no gap do they differ by more than {apart_s:g} s, {apart_s / result["speed"] * 1000:.0f} ms of real time.
"""
    image = f"![Levels over the hours](images/{picture})\n"
    table = _table(("", "first hour", "second hour", "last hour", "highest", "growth"), rows)
    return f"## Hours with faults\n\n{_prose(text)}\n\n{table}\n{_prose(told)}\n\n{image}"


def _start(result: _Result) -> str:
    columns = {
        "first frame, s": ("first_frame_s", ".2f"),
        "slowest": ("slowest_s", ".2f"),
        "writing, s": ("writing_s", ".2f"),
        "CPU s": ("cpu_s", ".2f"),
        "peak MiB": ("peak_mib", ".1f"),
    }
    rows = [
        (f"{one['recordings']:,}", f"`{one['way']}`", *(format(one[key], form) for key, form in columns.values()))
        for one in result["medians"]
    ]
    cold = "mounted anew before each start" if result["rows"][0]["cold"] else "as the kernel has it cached"
    text = f"""\
From exec to the end of the first block heard, {result["medians"][0]["starts"]} starts each, taking turns; medians. The
spool's file system is {cold}; the programs are in the page cache. What is heard before the first segment is begun
("writing") waits in the ring, which holds 30 s.
"""
    return f"## Start\n\n{_prose(text)}\n\n{_table(('recordings', 'command', *columns), rows)}"


def _drain(result: _Result) -> str:
    columns = {
        "MB/s": ("mb_per_s", ".1f"),
        "seconds": ("seconds", ".2f"),
        "CPU s": ("cpu_s", ".2f"),
        "peak MiB": ("peak_mib", ".1f"),
        "of it anonymous": ("anonymous_mib", ".1f"),
    }
    rows = [
        (f"`{title}`", *(format(result["medians"][name][key], form) for key, form in columns.values()))
        for name, title in (("courier", "courier --once"), ("rclone", "rclone copy"))
    ]
    ratios = ", ".join(f"{ratio:.2f}" for ratio in result["throughput_ratios"])
    text = f"""\
{result["objects"]} recordings, {result["bytes"] / 1e6:.0f} MB, into SeaweedFS on loopback, {result["transfers"]} at a
time; {result["pairs"]} pairs, the first place taken in turns; whole processes, from exec to exit. Throughput of the
courier as a part of rclone's, pair by pair: {ratios}; median {result["throughput_ratio"]:.2f}; CPU
{result["cpu_ratio"]:.2f}. The server runs on the same cores: the machine was {result["machine_busy_pct"]:g} % busy.
"""
    return f"## Emptying a spool\n\n{_prose(text)}\n\n{_table(('', *columns), rows)}"


def _origins(results: dict[str, _Result]) -> str:
    rows = []
    for name, result in results.items():
        machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
        rows.append((name, f"`{result['command']}`", result["revision"], machine))
    return f"## Where this was measured\n\n{_table(('result', 'command', 'revision', 'machine'), rows)}"


def _prose(text: str) -> str:
    """One paragraph, filled after its values came in."""
    return textwrap.fill(" ".join(text.split()), 119, break_on_hyphens=False, break_long_words=False)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    # A pipe would end the cell, even in code.
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
