"""Every file of the spool against its sidecar and the ledger: what doesn't agree, and what recovery would do about it.

Nothing is changed. The recorder may be running: then files appear, move and go between one look and the next, so what
seems wrong is looked at again until it has settled, and only what stays wrong is a finding. One segment's examination
begins with a fresh look into the ledger, for the ledger always comes first: it knows of a removal before the file goes,
and of a segment right after its files are in place.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.ledger import Ledger, Segment
from agent.salvage import Kept, Unclear, judge
from agent.sidecar import SidecarDamaged, read_sidecar, segment_of
from agent.spool import AUDIO_SUFFIXES, META_SUFFIX, PART_SUFFIX, Layout, SegmentFile, SegmentName, files_below
from agent.units import human_seconds
from hw.clock import Clock

_SETTLING_S: Final = 3.0
"""A rotation takes milliseconds; an eviction of many files on a slow card longer."""

_LOOK_S: Final = 0.25

_QUARANTINED: Final = "recovery moves it into quarantine/"
_ENTERED: Final = "recovery enters it"
_REMOVED: Final = "recovery removes it"
_REFUSED: Final = "the courier refuses it, then the recorder moves it into quarantine/; so does --repair"
_UPLOADED: Final = "the store holds it as it was; the recorder removes it once spool.keep_uploaded has passed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that isn't as it should be."""

    kind: str
    """Such as "missing", "hash", "unknown"; fixed, for programs."""
    place: str
    """A file below the spool's root, or what else it's about."""
    what: str
    remedy: str
    """What recovery, or who else, does about it."""


class Inspection:
    """Looks at one spool. `recording` says whether a recorder is writing it now."""

    def __init__(
        self, layout: Layout, ledger: Ledger, clock: Clock, recording: Callable[[], bool], *, hashing: bool
    ) -> None:
        self._layout = layout
        self._ledger = ledger
        self._clock = clock
        self._recording = recording
        self._hashing = hashing

    def expected(self) -> dict[SegmentName, int]:
        """Every segment that the ledger or the spool knows, and the bytes of audio to read for it."""
        names = {segment.name: segment.bytes for segment in self._ledger.kept()}
        for directory in (self._layout.open, self._layout.sealed):
            for entry in files_below(directory):
                file = SegmentFile.parse(entry.name)
                if file is not None:
                    names.setdefault(file.name, 0)
        return names

    def segments(self, names: Iterable[SegmentName], progress: Callable[[SegmentName], None]) -> list[Finding]:
        """What is wrong with these segments; `progress` hears of each that was looked at."""
        suspects = []
        for name in names:
            if any(True for _ in self._examine(name)):
                suspects.append(name)
            progress(name)
        return self.settled(lambda: [finding for name in suspects for finding in self._examine(name)])

    def strangers(self) -> list[Finding]:
        """Files where recordings are looked for that nobody here would have put there."""
        return self.settled(lambda: list(self._strangers()))

    def settled(self, look: Callable[[], list[Finding]]) -> list[Finding]:
        """What `look` finds and goes on finding: a single look may fall between two moves of the recorder."""
        found = look()
        never = threading.Event()
        waited_s = 0.0
        while found and waited_s < _SETTLING_S and self._recording():
            self._clock.wait(never, _LOOK_S)
            waited_s += _LOOK_S
            known = {(finding.kind, finding.place) for finding in found}
            found = [finding for finding in look() if (finding.kind, finding.place) in known]
        return found

    def _strangers(self) -> Iterator[Finding]:
        for directory, own in (
            (self._layout.open, (PART_SUFFIX, META_SUFFIX)),
            (self._layout.sealed, (*AUDIO_SUFFIXES, META_SUFFIX)),
        ):
            for entry in files_below(directory):
                file = SegmentFile.parse(entry.name)
                if file is None or file.suffix not in own:
                    yield Finding("stranger", self._place(Path(entry.path)), "isn't a file of ours", _QUARANTINED)

    # One segment.

    def _examine(self, name: SegmentName) -> Iterator[Finding]:
        known = self._ledger.segment(name)
        try:
            yield from self._examine_open(name, known)
            yield from self._examine_sealed(name, known)
        except OSError as error:
            cause = error.strerror or str(error)
            yield Finding("unreadable", str(name), f"can't be read: {cause}", "nothing: the card may be failing")

    def _examine_sealed(self, name: SegmentName, known: Segment | None) -> Iterator[Finding]:
        audio, meta = self._layout.audio(name), self._layout.meta(name)
        here = audio.exists()
        left = audio if here else meta if meta.exists() else None
        settled = known is not None and (not known.present or known.state not in ("pending", "acknowledged"))
        if known is None:
            if left is not None:
                yield self._unknown(name)
        elif settled or (known.state == "acknowledged" and not here):
            if left is not None:
                yield self._settled(known, left, here=here)
        elif here:
            yield from self._examine_audio(audio, known)
            yield from self._examine_sidecar(name, known)
        elif known.state == "pending":
            yield Finding("missing", self._place(audio), "is gone, and wasn't uploaded", "recovery enters it as lost")

    def _settled(self, known: Segment, left: Path, *, here: bool) -> Finding:
        """A file that should have gone."""
        if known.state == "pending" and here:
            return Finding("settled", self._place(left), "is here although the ledger says it's gone", _ENTERED)
        aside = known.state in ("damaged", "quarantined")
        what = f"is still here although it is {known.state}"
        return Finding("settled", self._place(left), what, _QUARANTINED if aside else _REMOVED)

    def _examine_audio(self, audio: Path, known: Segment) -> Iterator[Finding]:
        place, size = self._place(audio), audio.stat().st_size
        remedy = _UPLOADED if known.state == "acknowledged" else _REFUSED
        if size != known.bytes:
            yield Finding("size", place, f"has {size} bytes, the ledger says {known.bytes}", remedy)
        elif self._hashing and _sha256(audio) != known.sha256:
            yield Finding("hash", place, "isn't what was recorded: its SHA-256 differs from the ledger's", remedy)

    def _examine_sidecar(self, name: SegmentName, known: Segment) -> Iterator[Finding]:
        """It counts once the ledger is lost: until then nothing depends on it."""
        meta, remedy = self._layout.meta(name), "nothing while the ledger lives: only a rebuild needs it"
        place = self._place(meta)
        try:
            sidecar = read_sidecar(meta)
        except FileNotFoundError:
            yield Finding("sidecar", place, "is gone", remedy)
            return
        except SidecarDamaged as damage:
            yield Finding("sidecar", place, f"is damaged: {damage}", remedy)
            return
        if sidecar.end is None:
            yield Finding("sidecar", place, "doesn't say where its segment ends", remedy)
        elif differences := _differences(segment_of(sidecar.header, sidecar.end, known.meta_bytes), known):
            yield Finding("sidecar", place, f"and the ledger differ in {', '.join(differences)}", remedy)
        elif meta.stat().st_size != known.meta_bytes:
            yield Finding("sidecar", place, f"has {meta.stat().st_size} bytes instead of {known.meta_bytes}", remedy)

    def _unknown(self, name: SegmentName) -> Finding:
        """A sealed file of which the ledger has never heard."""
        audio = self._layout.audio(name)
        if not audio.exists():
            place = self._place(self._layout.meta(name))
            return Finding("unknown", place, "is a sidecar without audio, unknown to the ledger", _QUARANTINED)
        place, what = self._place(audio), "is unknown to the ledger"
        try:
            sidecar = read_sidecar(self._layout.meta(name))
            end = sidecar.end
            good = end is not None and sidecar.header.name == name and audio.stat().st_size == end.size
            good = good and end is not None and _sha256(audio) == end.digest.hex()
        except (SidecarDamaged, FileNotFoundError):
            good = False
        return Finding("unknown", place, what, _ENTERED if good else _QUARANTINED)

    def _examine_open(self, name: SegmentName, known: Segment | None) -> Iterator[Finding]:
        part, meta = self._layout.part(name), self._layout.open_meta(name)
        if not part.exists() and not meta.exists():
            return
        place = self._place(part if part.exists() else meta)
        if known is not None and known.state == "pending" and not known.present:
            if not self._recording():
                remedy = "recovery drops it: memory still has the recording"
                yield Finding("unfinished", place, "is a copy from memory that was cut short", remedy)
        elif known is not None:
            yield Finding("twice", place, "is being written although the ledger has it sealed", _QUARANTINED)
        elif not (self._recording() and name == self._newest_open()):
            yield Finding("unfinished", place, "was never finished", self._fate(name))

    def _newest_open(self) -> SegmentName | None:
        """The segment that a running recorder writes."""
        found = []
        for entry in files_below(self._layout.open):
            file = SegmentFile.parse(entry.name)
            if file is not None:
                try:
                    found.append((entry.stat().st_mtime_ns, file.name))
                except FileNotFoundError:
                    continue
        return max(found)[1] if found else None

    def _fate(self, name: SegmentName) -> str:
        """What recovery makes of an unfinished segment."""
        found = judge(self._layout, name)
        if isinstance(found, Kept):
            return f"recovery keeps the {human_seconds(found.seconds)} that are durable"
        return _QUARANTINED if isinstance(found, Unclear) else f"recovery drops it: {found.why}"

    def _place(self, path: Path) -> str:
        return str(path.relative_to(self._layout.root))


def _differences(sidecar: Segment, ledger: Segment) -> list[str]:
    told = ("run", "seq", "boot", "begin_ns", "end_ns", "frames", "rate", "channels", "bytes", "sha256", "truncated")
    return [field for field in told if getattr(sidecar, field) != getattr(ledger, field)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
