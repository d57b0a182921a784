"""The pictures of docs/BENCHMARKS.md. The same results make the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from bench.contenders import CONTENDERS, ROOT

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "kiosk-recorder", "svg.fonttype": "none", "font.size": 9})

import matplotlib.pyplot as plt  # noqa: E402 (the backend is chosen before)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES = ROOT / "docs" / "images"
_OURS, _OTHERS, _COURIER = "#1f6f8b", "#b8c4c9", "#d98b2b"

_Result = dict[str, Any]


def cpu(results: list[_Result], name: str) -> None:
    """CPU seconds per hour of audio of every contender, one panel a format."""
    figure, axes = plt.subplots(1, len(results), figsize=(4.5 * len(results), 2.6), squeeze=False, layout="constrained")
    for axis, result in zip(axes[0], results, strict=True):
        there = [name for name in CONTENDERS if name in result["medians"]]
        titles = [CONTENDERS[name].title for name in there]
        seconds = [result["medians"][name]["cpu_s_per_hour"] for name in there]
        colours = [_OURS if CONTENDERS[name].ours else _OTHERS for name in there]
        bars = axis.barh(titles, seconds, color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=3)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_title(result["sound"])
        axis.set_xlabel("CPU seconds per hour of audio")
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, name)


def memory(result: _Result, name: str) -> None:
    """Resident memory of recorder and courier over the hours."""
    figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
    hours = [sample["hour"] for sample in result["samples"]]
    for who, colour in (("recorder", _OURS), ("courier", _COURIER)):
        axis.plot(hours, [sample[f"{who}_mib"] for sample in result["samples"]], color=colour, label=who)
    axis.set_ylim(bottom=0)
    axis.set_xlim(0, max(hours))
    axis.set_xlabel("hours of audio")
    axis.set_ylabel("resident MiB")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="lower right", frameon=False)
    _save(figure, name)


def levels(result: _Result, name: str) -> None:
    """What must stay level in recorder and courier over the hours, and below what goes up and down on the card."""
    panels = {"mib": "resident MiB", "descriptors": "file descriptors", "threads": "threads"}
    figure, axes = plt.subplots(len(panels) + 1, 1, figsize=(9, 7), sharex=True, layout="constrained")
    hours = [sample["hour"] for sample in result["samples"]]
    for axis, (what, title) in zip(axes, panels.items(), strict=False):
        for who, colour in (("recorder", _OURS), ("courier", _COURIER)):
            axis.plot(hours, [sample[f"{who}_{what}"] for sample in result["samples"]], color=colour, label=who)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(title)
    axes[0].legend(loc="lower right", frameon=False)
    for what, title, colour in (("spool_mib", "spool", _OURS), ("ledger_mib", "ledger", _OTHERS)):
        axes[-1].plot(hours, [sample[what] for sample in result["samples"]], color=colour, label=title)
    axes[-1].set_ylabel("MiB on the card")
    axes[-1].legend(loc="upper right", frameon=False)
    axes[-1].set_xlim(0, max(hours))
    axes[-1].set_xlabel("hours of audio")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    _save(figure, name)


def _save(figure: Figure, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / name, metadata={"Date": None})
    plt.close(figure)
