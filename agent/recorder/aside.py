"""What lies in quarantine and the ledger never knew: recovery set it aside before anybody could enter it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from agent.ledger import Ledger
from agent.sidecar import HEADER_BYTES, Header, SidecarDamaged
from agent.spool import META_SUFFIX, Layout, SegmentName, files_below
from agent.units import NS_PER_S


def span(header: Header, offsets: Mapping[str, int]) -> tuple[int, int] | None:
    """From when to when it may have been heard, in wall time; None when nobody can tell. Pure.

    `offsets` are the ledger's, by boot. How much of it came about isn't known: as much as was planned.
    """
    offset_ns = offsets.get(header.boot)
    if offset_ns is None and header.clock == "unsynchronised":
        return None
    begin_ns = header.wall_ns if offset_ns is None else offset_ns + header.begin_ns
    return begin_ns, begin_ns + header.planned_frames * NS_PER_S // header.rate


def unknown_within(layout: Layout, ledger: Ledger, from_ns: int, to_ns: int) -> tuple[list[str], list[str]]:
    """The stems of what may have been heard in a stretch of wall time, and of what can't be dated.

    Raises OSError.
    """
    offsets = ledger.offsets()
    within: list[str] = []
    undated: list[str] = []
    stems: dict[str, list[Path]] = {}
    for entry in files_below(layout.quarantine):
        stems.setdefault(entry.name.partition(".")[0], []).append(Path(entry.path))
    for stem, paths in sorted(stems.items()):
        try:
            name = SegmentName.parse(stem)
        except ValueError:
            undated.append(stem)
            continue
        if ledger.segment(name) is not None:
            continue
        spans = [span(header, offsets) for header in _headers(paths, name)]
        if not spans or None in spans:
            undated.append(stem)
        elif any(found is not None and found[1] > from_ns and found[0] < to_ns for found in spans):
            within.append(stem)
    return within, undated


def _headers(paths: Iterable[Path], name: SegmentName) -> Iterator[Header]:
    """Of each sidecar among `paths` that is the segment's own: two of one name were set aside one after the other."""
    for path in paths:
        if META_SUFFIX in path.name:
            with path.open("rb") as file:
                data = file.read(HEADER_BYTES)
            try:
                header = Header.unpack(data)
            except SidecarDamaged:
                continue
            if header.name == name:
                yield header
