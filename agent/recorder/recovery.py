"""What the recorder does first: understand what a crash or a power cut left, and make files and ledger agree.

Every step can be cut short and repeated; a second recovery finds nothing to do. In order:

    1. finish a move into `sealed/` that was cut in between
    2. cut each `open/*.part` back to its last record whose hash is right, mend its header, seal it as truncated;
       drop it (as `empty`) when nothing of it became durable, set it aside when that can't be told (agent.salvage)
    3. enter every sealed file that the ledger doesn't know; set aside what can't be understood
    4. remove files the ledger has settled, set aside what the courier found damaged; mark segments whose file is gone,
       or never came from memory, as lost

What is set aside or lost counts in `segment_errors_total`, what is entered as if it had been sealed just now.

The ledger's word about removal always comes before the removal (invariant 2).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.ledger import Boot, Ledger, Segment
from agent.recorder.removal import quarantine, remove_files, set_damaged_aside
from agent.recorder.segment import hash_file, move_into_sealed
from agent.recorder.succession import Cut
from agent.salvage import Empty, Unclear, judge
from agent.sidecar import (
    CLOCKS,
    CUT,
    HEADER_BYTES,
    RECORD_BYTES,
    Header,
    Record,
    Sidecar,
    SidecarDamaged,
    read_sidecar,
    segment_of,
)
from agent.spool import (
    AUDIO_SUFFIXES,
    META_SUFFIX,
    PART_SUFFIX,
    Layout,
    SegmentFile,
    SegmentName,
    files_below,
    sync_directory,
)
from agent.streaminfo import STREAMINFO_END, with_total_frames

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Recovered:
    """What recovery did, for the journal of the service and for tests."""

    truncated: list[SegmentName] = field(default_factory=list)
    empty: list[SegmentName] = field(default_factory=list)
    entered: list[SegmentName] = field(default_factory=list)
    lost: list[SegmentName] = field(default_factory=list)
    removed: list[SegmentName] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = {name: getattr(self, name) for name in Recovered.__slots__}
        return ", ".join(f"{len(names)} {what}" for what, names in told.items() if names) or "nothing"

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in Recovered.__slots__)


def recover(layout: Layout, ledger: Ledger, cuts: Iterable[Cut] | None = None) -> Recovered:
    """Make spool and ledger agree. Durable on return. Raises OSError when the card fails.

    `cuts` are segments of which only the beginning counts here: the rest, or all, is in the spool in memory. Without
    `cuts` there is no other spool to think of.
    """
    done = Recovered()
    counting = None if cuts is None else {cut.name: cut.frames for cut in cuts}
    _finish_moves(layout)
    # Sealed files first: they are older than what was being written, and a rebuilt ledger is entered in order.
    _reconcile(layout, ledger, counting, done)
    _recover_parts(layout, ledger, counting or {}, done)
    for entry in list(files_below(layout.open)):
        _set_stranger_aside(layout, entry, done)
    if done:
        # What was removed must stay away: its room is given to the next recording.
        for directory in (layout.open, layout.sealed):
            sync_directory(directory)
    return done


def _recover_parts(layout: Layout, ledger: Ledger, cuts: dict[SegmentName, int], done: Recovered) -> None:
    found = _stems(layout.open)
    for stem in sorted(found[PART_SUFFIX] | found[META_SUFFIX]):
        name = SegmentName.parse(stem)
        _recover_open(layout, ledger, name, cuts.get(name), done)


def _finish_moves(layout: Layout) -> None:
    """Bring a pair that was parted by a cut move together again, on the side where its audio is."""
    opened = _stems(layout.open)
    for stem in opened[PART_SUFFIX] - opened[META_SUFFIX]:
        name = SegmentName.parse(stem)
        meta = layout.meta(name)
        if meta.exists() and not layout.audio(name).exists():
            meta.rename(layout.open / meta.name)
    for stem in opened[META_SUFFIX] - opened[PART_SUFFIX]:
        name = SegmentName.parse(stem)
        if layout.audio(name).exists() and not layout.meta(name).exists():
            layout.open_meta(name).rename(layout.meta(name))
    sync_directory(layout.open)
    sync_directory(layout.sealed)


def _recover_open(layout: Layout, ledger: Ledger, name: SegmentName, most_frames: int | None, done: Recovered) -> None:
    files = (layout.part(name), layout.open_meta(name))
    known = ledger.segment(name)
    if known is not None and known.state == "pending" and not known.present:
        # A copy from memory that was cut short: memory still has it.
        for path in files:
            path.unlink(missing_ok=True)
        done.removed.append(name)
        return
    if known is not None:
        _set_aside(layout, ledger, name, "it is being written although the ledger has it sealed", done)
        return
    found = judge(layout, name, most_frames)
    if isinstance(found, Unclear):
        _set_aside(layout, ledger, name, found.why, done)
    elif isinstance(found, Empty):
        ledger.empty(name)
        for path in files:
            path.unlink(missing_ok=True)
        done.empty.append(name)
    else:
        segment = _cut_and_seal(layout, found.sidecar, found.place, found.record)
        with ledger.transaction():
            _know_boot(ledger, found.sidecar.header)
            ledger.seal(segment)
            ledger.count(segments_total=1, captured_seconds_total=segment.seconds)
        done.truncated.append(name)


def _set_aside(layout: Layout, ledger: Ledger, name: SegmentName, why: str, done: Recovered) -> None:
    log.error("unfinished segment %s goes to quarantine: %s", name, why)
    ledger.count(segment_errors_total=1)
    quarantine(layout, layout.part(name), layout.open_meta(name))
    done.quarantined.append(str(name))


def _cut_and_seal(layout: Layout, sidecar: Sidecar, place: int, record: Record) -> Segment:
    """Cut the files back to `record`, mend the header, add the CUT record, move both into `sealed/`.

    What is encrypted keeps the header it has: `kiosk-recorder open` mends it, where the key is.
    """
    header = sidecar.header
    part, meta = layout.part(header.name), layout.open_meta(header.name)
    with part.open("r+b") as audio:
        audio.truncate(record.size)
        if not (record.final or header.encrypted):
            head = audio.read(STREAMINFO_END)
            audio.seek(0)
            audio.write(with_total_frames(head, record.frames))
        audio.flush()
        os.fsync(audio.fileno())
    if not record.final:
        record = replace(record, kind=CUT, digest=hash_file(part).digest())
        with meta.open("r+b") as file:
            file.truncate(HEADER_BYTES + (place + 1) * RECORD_BYTES)
            file.seek(0, os.SEEK_END)
            file.write(record.pack(place + 1))
            file.flush()
            os.fsync(file.fileno())
    move_into_sealed(layout, header.name, encrypted=header.encrypted)
    return segment_of(header, record, layout.meta(header.name).stat().st_size)


def _reconcile(layout: Layout, ledger: Ledger, in_memory: Collection[SegmentName] | None, done: Recovered) -> None:
    """Steps 3 and 4, in one pass over the directory and one over the ledger."""
    with ledger.census(_sealed_files(layout, done)) as census:
        lost, settled, unlisted = census.lost(), census.settled(), census.unlisted()
        if in_memory is not None:
            lost += [segment for segment in census.elsewhere() if segment.name not in in_memory]
    for segment in settled:
        _carry_out(layout, ledger, segment, done)
    with ledger.transaction():
        for segment in lost:
            _lose(ledger, segment, done)
        ledger.forget_files(segment.name for segment in [*settled, *lost])
    for segment in lost:
        # Its sidecar alone tells nothing.
        remove_files(layout, segment.name)
    _enter_unlisted(layout, ledger, unlisted, done)


def _sealed_files(layout: Layout, done: Recovered) -> Iterator[tuple[str, int, bool]]:
    """What lies in `sealed/`; strangers are set aside on the way."""
    for entry in files_below(layout.sealed):
        file = SegmentFile.parse(entry.name)
        if file is None or file.suffix not in (*AUDIO_SUFFIXES, META_SUFFIX):
            _set_stranger_aside(layout, entry, done)
        else:
            yield file.name.run, file.name.seq, file.suffix in AUDIO_SUFFIXES


def _lose(ledger: Ledger, segment: Segment, done: Recovered) -> None:
    cause = "its file is gone" if segment.present else "it was in memory when the power went"
    # The courier may have acknowledged it in this very moment: then it isn't lost.
    if ledger.settle(segment.name, "lost", cause):
        log.error("segment %s is lost: the ledger knows it, %s", segment.name, cause)
        ledger.count(segment_errors_total=1)
        done.lost.append(segment.name)


def _carry_out(layout: Layout, ledger: Ledger, segment: Segment, done: Recovered) -> None:
    """Finish what the ledger decided about a file before the lights went out."""
    if segment.state == "damaged":
        set_damaged_aside(layout, ledger, [segment])
        done.quarantined.append(str(segment.name))
    elif segment.state == "quarantined":
        quarantine(layout, layout.audio(segment.name), layout.meta(segment.name))
        done.quarantined.append(str(segment.name))
    elif segment.state == "pending" and layout.audio(segment.name).exists():
        # It had just come from memory, or a bit flipped in the ledger.
        ledger.recall_files(segment.name)
        done.entered.append(segment.name)
    else:
        remove_files(layout, segment.name)
        done.removed.append(segment.name)


def _enter_unlisted(layout: Layout, ledger: Ledger, names: list[SegmentName], done: Recovered) -> None:
    """Sealed files that the ledger doesn't count as present: new to it, or settled and come back."""
    fresh: list[tuple[Header, Segment]] = []
    for name in names:
        known = ledger.segment(name)
        if known is not None:
            _carry_out(layout, ledger, known, done)
            continue
        try:
            fresh.append(_read_sealed(layout, name))
        except (OSError, SidecarDamaged) as error:
            log.warning("segment %s goes to quarantine: %s", name, error)
            ledger.count(segment_errors_total=1)
            quarantine(layout, layout.audio(name), layout.meta(name))
            done.quarantined.append(str(name))
    with ledger.transaction():
        for header, segment in _in_order(fresh, ledger.boot):
            _know_boot(ledger, header)
            ledger.seal(segment)
            ledger.count(segments_total=1, captured_seconds_total=segment.seconds)
            done.entered.append(segment.name)


def _in_order(fresh: list[tuple[Header, Segment]], now: str) -> Iterator[tuple[Header, Segment]]:
    """As they were recorded, each with the header that knows best when its boot was.

    Within a boot the monotonic clock tells; wall clocks, which may have been set meanwhile, only order the boots, of
    which this one (`now`) is the last.
    """
    best: dict[str, Header] = {}
    for header, _ in fresh:
        best[header.boot] = max(best.get(header.boot, header), header, key=_knows_its_time)
    order = sorted(best.values(), key=lambda header: (header.boot == now, header.wall_ns))
    places = {header.boot: place for place, header in enumerate(order)}
    for _, segment in sorted(fresh, key=lambda pair: (places[pair[1].boot], pair[1].begin_ns)):
        yield best[segment.boot], segment


def _knows_its_time(header: Header) -> tuple[int, int]:
    return CLOCKS.index(header.clock), header.begin_ns


def _read_sealed(layout: Layout, name: SegmentName) -> tuple[Header, Segment]:
    """Understand a sealed pair by its sidecar alone. Raises OSError or SidecarDamaged."""
    audio = layout.audio(name)
    sidecar = read_sidecar(layout.meta(name))
    header, end = sidecar.header, sidecar.end
    if header.name != name or end is None:
        raise SidecarDamaged("its sidecar is another's, or unfinished")
    if audio.stat().st_size != end.size or hash_file(audio).digest() != end.digest:
        raise SidecarDamaged("the audio isn't what its sidecar vouches for")
    return header, segment_of(header, end, layout.meta(name).stat().st_size)


def _know_boot(ledger: Ledger, header: Header) -> None:
    """A rebuilt ledger learns about earlier boots from the sidecars."""
    if all(boot.boot != header.boot for boot in ledger.boots()):
        ledger.add_boot(Boot(header.boot, header.wall_ns - header.begin_ns, header.clock))


def _stems(directory: Path) -> dict[str, set[str]]:
    """The names ("<run>-<seq>") of unfinished audio and of sidecars in a small directory, by suffix."""
    stems: dict[str, set[str]] = {PART_SUFFIX: set(), META_SUFFIX: set()}
    for entry in files_below(directory):
        file = SegmentFile.parse(entry.name)
        if file is not None and file.suffix in stems:
            stems[file.suffix].add(str(file.name))
    return stems


def _set_stranger_aside(layout: Layout, entry: os.DirEntry[str], done: Recovered) -> None:
    """Files that aren't ours to understand don't lie where recordings are looked for."""
    quarantine(layout, Path(entry.path))
    done.quarantined.append(entry.name)
