"""How files leave `sealed/`: removed, or set aside for a person. The ledger's word comes before (invariant 2)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from agent.ledger import Ledger, Segment
from agent.spool import Layout, SegmentName, sync_directory

log = logging.getLogger(__name__)


def remove_files(layout: Layout, name: SegmentName) -> int:
    """Delete a settled segment's files, returning the bytes freed.

    Not durable by itself: recovery removes what comes back, be it one of both or both.
    """
    freed = 0
    for path in (*layout.audio_either_way(name), layout.meta(name)):
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            continue
        freed += size
    return freed


def quarantine(layout: Layout, *paths: Path) -> int:
    """Set files aside for a person to look at, returning the bytes moved; durable on return. Missing ones are skipped.

    Nothing that lies there already is replaced.
    """
    moved = 0
    for path in paths:
        try:
            size = path.stat().st_size
            path.rename(_free_place(layout.quarantine, path.name))
        except FileNotFoundError:
            continue
        moved += size
        sync_directory(path.parent)
    sync_directory(layout.quarantine)
    return moved


def set_damaged_aside(layout: Layout, ledger: Ledger, damaged: Sequence[Segment]) -> int:
    """Move recordings that aren't what was sealed into quarantine/, returning the bytes moved.

    The ledger first: what it calls `quarantined` and still lies in `sealed/` is moved by recovery.
    """
    if not damaged:
        return 0
    with ledger.transaction():
        for segment in damaged:
            ledger.settle(segment.name, "quarantined", segment.reason or "damaged")
        ledger.forget_files(segment.name for segment in damaged)
        ledger.count(segment_errors_total=len(damaged))
    for segment in damaged:
        log.error(
            "recording %s (%.0f s) is damaged on the card and goes to quarantine: %s",
            segment.name,
            segment.seconds,
            segment.reason or "damaged",
        )
    return sum(quarantine(layout, layout.audio(each.name), layout.meta(each.name)) for each in damaged)


def _free_place(directory: Path, name: str) -> Path:
    place, number = directory / name, 1
    while place.exists():
        number += 1
        place = directory / f"{name}.{number}"
    return place
