"""What spool, ledger and retention promise, in plain Python: no files, no threads, no database.

The model is told what happened to the recorder and predicts which segments there are, where their files lie, what the
ledger says of them, what is counted, and how all time is accounted for. Names and sizes, which are the encoder's and
chance's business, it learns when a segment is sealed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from agent.ledger import Segment
from agent.settings import Settings
from agent.spool import AUDIO_SUFFIX, ENCRYPTED_SUFFIX, SegmentName
from agent.units import NS_PER_S
from tests.clocks import FakeClock

UNNAMED = SegmentName("", 0)
"""Of what isn't sealed yet."""

Place = Literal["sealed", "quarantine", "nowhere"]


@dataclass(slots=True)
class Piece:
    """A segment as the model knows it; `first` is the place of its first frame in everything that was ever heard."""

    boot: str
    begin_ns: int
    first: int
    wall_ns: int = 0
    """When it began, as the machine then believed."""
    frames: int = 0
    end_ns: int = 0
    name: SegmentName = UNNAMED
    size: int = 0
    """Of both files."""
    meta_size: int = 0
    state: str = "pending"
    place: Place = "sealed"
    truncated: bool = False
    encrypted: bool = False
    flipped: bool = False
    key: str | None = None
    settled_ns: int = 0

    @property
    def audio(self) -> str:
        """The name of its file."""
        return f"{self.name}{ENCRYPTED_SUFFIX if self.encrypted else AUDIO_SUFFIX}"


@dataclass(slots=True)
class Stretch:
    """Time of one boot without a recording (`reason`) or with one (`run`)."""

    begin_ns: int
    end_ns: int
    reason: str = ""
    run: str = ""


@dataclass(slots=True)
class Model:
    """The recorder's card, as it should be."""

    settings: Settings
    clock: FakeClock
    pieces: list[Piece] = field(default_factory=list)
    open: Piece | None = None
    counters: Counter[str] = field(default_factory=Counter)
    offsets: dict[str, int] = field(default_factory=dict)
    """Wall time minus monotonic time of each boot, as the ledger believes."""
    trusted: set[str] = field(default_factory=set)
    rows: dict[str, list[Stretch]] = field(default_factory=dict)
    accounted: tuple[str, int] | None = None
    """Boot and monotonic time up to which all time is accounted for."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Sizes of the files in quarantine."""
    stamps: dict[str, int] = field(default_factory=dict)
    """The order in which files were last written, where that counts: the oldest leave quarantine first."""
    others: int = 0
    """Bytes of the card that somebody else fills."""
    disk: int = 1 << 30
    believed_ns: int | None = None
    believed_since_ns: int = 0
    recording: bool = False
    stopped: bool = False
    heard: int = 0
    tidied_ns: int = 0
    # The gap that is open: from when, on which boot's clock if not this one's, and why.
    silent_ns: int | None = None
    silent_boot: str | None = None
    reason: str = "restart"
    run_end_ns: int = 0

    # What is there.

    @property
    def used(self) -> int:
        sealed = sum(piece.size for piece in self.pieces if piece.place == "sealed")
        return sealed + sum(self.quarantined.values())

    @property
    def free(self) -> int:
        return self.disk - self.others - self.used

    def here(self, state: str) -> list[Piece]:
        return [piece for piece in self.pieces if piece.place == "sealed" and piece.state == state]

    # What happens.

    def hears(self, frames: int, sealed: Iterator[Segment]) -> None:
        """A block of frames that ends now."""
        now_ns, rate = self.clock.monotonic_ns(), self.settings.capture.rate
        first, self.heard = self.heard, self.heard + frames
        planned = self.settings.spool.segment_seconds * rate
        if not self.recording:
            begin_ns = now_ns - frames * NS_PER_S // rate
            if self.silent_ns is not None and self.silent_boot is None:
                begin_ns = max(begin_ns, self.silent_ns)
            if not self.makes_room():
                self.falls_silent("spool_full", begin_ns)
                return
            self.speaks(begin_ns)
        left = frames
        while left:
            if self.open is None:
                if not self.makes_room():
                    self.recording = False
                    self.silent_ns, self.reason = self.run_end_ns, "spool_full"
                    return
                wall_ns = self.clock.wall_ns() - now_ns + self.run_end_ns
                self.open = Piece(self.clock.boot, self.run_end_ns, first + frames - left, wall_ns)
                self.open.encrypted = bool(self.settings.seal.recipients)
            fitting = min(left, planned - self.open.frames)
            self.open.frames += fitting
            left -= fitting
            self.run_end_ns = now_ns - left * NS_PER_S // rate
            if self.open.frames == planned:
                self.seals(sealed)

    def is_interrupted(self, reason: str, sealed: Iterator[Segment]) -> None:
        now_ns = self.clock.monotonic_ns()
        self.counters["overruns_total"] += reason == "overrun"
        if not self.recording:
            self.falls_silent(reason, now_ns)
            return
        self.seals(sealed)
        self.recording = False
        self.silent_ns, self.reason = self.run_end_ns, reason

    def seals(self, sealed: Iterator[Segment]) -> None:
        piece, self.open = self.open, None
        if piece is None:
            return
        piece.end_ns = self.run_end_ns
        self.learns(piece, next(sealed))
        self.tidies()

    def learns(self, piece: Piece, segment: Segment) -> None:
        """A segment is in the ledger: everything about it but name and size was known before."""
        told = (segment.boot, segment.begin_ns, segment.end_ns, segment.frames, segment.truncated)
        assert told == (piece.boot, piece.begin_ns, piece.end_ns, piece.frames, piece.truncated)
        piece.name, piece.size = segment.name, segment.bytes + segment.meta_bytes
        piece.meta_size = segment.meta_bytes
        self.pieces.append(piece)
        self.counters["segments_total"] += 1
        self.row(piece.boot, Stretch(piece.begin_ns, piece.end_ns, run=segment.run))

    def turn_ends(self) -> None:
        """After each batch."""
        now_ns = self.clock.monotonic_ns()
        if self.silent_ns is not None and self.silent_boot is None and now_ns - self.silent_ns >= 600 * NS_PER_S:
            self.enters_gap(now_ns)
        if now_ns - self.tidied_ns >= 10 * NS_PER_S and self.open is None:
            self.tidies()
            self.tidied_ns = now_ns

    def ends(self, sealed: Iterator[Segment]) -> None:
        """In good order."""
        self.is_interrupted("restart", sealed)
        if self.silent_ns is not None and self.silent_boot is None:
            self.enters_gap(self.clock.monotonic_ns())

    def starts(self, *, off: bool) -> None:
        """A recorder begins; `off`: the machine was, before."""
        boot = self.clock.boot
        if off:
            self.offsets[boot] = self.clock.wall_ns() - self.clock.monotonic_ns()
            self.trusted.add(boot)
        for piece in self.here("damaged"):
            self.sets_aside(piece)
        self.recording = self.stopped = False
        self.believed_ns = None
        self.open, self.silent_ns, self.silent_boot, self.tidied_ns = None, None, None, 0
        if self.accounted is not None:
            last, self.silent_ns = self.accounted
            self.silent_boot = last if last != boot else None
            self.reason = "power_off" if self.silent_boot else "restart"

    def loses_the_ledger(self) -> None:
        """Everything that is still in sealed/ is pending again, everything else forgotten."""
        newest = {piece.boot: piece.wall_ns for piece in self.pieces if piece.place == "sealed" and not piece.flipped}
        order = sorted(newest, key=lambda boot: (boot == self.clock.boot, newest[boot]))
        self.pieces = [piece for piece in self.pieces if piece.place == "sealed"]
        self.pieces.sort(key=lambda piece: (piece.flipped or order.index(piece.boot), piece.begin_ns))
        for piece in self.pieces:
            piece.state, piece.key = "pending", None
        self.counters = Counter()
        for piece in [piece for piece in self.pieces if piece.flipped]:
            self.sets_aside(piece)
            self.pieces.remove(piece)
        self.counters["segments_total"] = len(self.pieces)

    # Time.

    @property
    def now_ns(self) -> int:
        """Wall time as the ledger knows it."""
        return self.offsets[self.clock.boot] + self.clock.monotonic_ns()

    def is_retimed(self, offset_ns: int, *, trusted: bool) -> None:
        """The offset of this boot is repaired; what was settled in it moves along."""
        boot, now_ns = self.clock.boot, self.now_ns
        known_ns, self.offsets[boot] = self.offsets[boot], offset_ns
        for piece in self.pieces:
            if known_ns <= piece.settled_ns <= now_ns:
                piece.settled_ns += offset_ns - known_ns
        (self.trusted.add if trusted else self.trusted.discard)(boot)

    def doubts_the_clock(self) -> bool:
        """Whether it is as it is for less than six hours, as far as this recorder knows."""
        boot, now_ns = self.clock.boot, self.clock.monotonic_ns()
        offset_ns = self.offsets[boot] if boot in self.trusted else None
        known_ns, self.believed_ns = self.believed_ns, offset_ns
        if known_ns is None or offset_ns is None or abs(offset_ns - known_ns) > 60 * NS_PER_S:
            self.believed_since_ns = now_ns
        return now_ns - self.believed_since_ns < 6 * 3600 * NS_PER_S

    def row(self, boot: str, stretch: Stretch) -> None:
        self.accounted = (boot, stretch.end_ns)
        row = self.rows.setdefault(boot, [])
        last = row[-1] if row else None
        if last and (last.end_ns, last.reason, last.run) == (stretch.begin_ns, stretch.reason, stretch.run):
            last.end_ns = stretch.end_ns
        else:
            row.append(stretch)

    def falls_silent(self, reason: str, at_ns: int) -> None:
        """While nothing is recorded anyway: another reason, or the first one."""
        if self.silent_ns is None:
            self.silent_ns = at_ns
        elif reason != self.reason:
            self.enters_gap(at_ns)
        self.reason = reason

    def enters_gap(self, end_ns: int) -> None:
        assert self.silent_ns is not None
        if self.silent_boot is None:
            end_ns = max(end_ns, self.silent_ns)
            if end_ns > self.silent_ns:
                self.row(self.clock.boot, Stretch(self.silent_ns, end_ns, self.reason))
                self.counters["gap_ns"] += end_ns - self.silent_ns
        else:
            self.rows[self.clock.boot] = []
            self.accounted = (self.clock.boot, end_ns)
        self.silent_ns, self.silent_boot = end_ns, None

    def speaks(self, begin_ns: int) -> None:
        if self.silent_ns is not None:
            self.enters_gap(begin_ns)
        self.silent_ns, self.recording, self.run_end_ns = None, True, begin_ns
        self.counters["recordings_total"] += 1

    # Who has to go.

    def makes_room(self) -> bool:
        limits = self.settings.spool
        wanted = self.settings.segment_reserve_bytes * (2 if self.stopped else 1)

        def excess() -> int:
            return max(self.used + wanted - limits.cap, limits.keep_free + wanted - self.free)

        if excess() > 0:
            self.clears_quarantine()
        for piece in self.here("acknowledged"):
            if excess() > 0:
                piece.place = "nowhere"
        pending = self.here("pending")
        if limits.when_full == "drop-oldest" and excess() <= sum(piece.size for piece in pending):
            for piece in pending:
                if excess() > 0:
                    self.gives_up(piece)
        self.stopped = excess() > 0
        return not self.stopped

    def gives_up(self, piece: Piece) -> None:
        piece.state, piece.place = "evicted", "nowhere"
        self.counters["evicted_unsent_total"] += 1

    def tidies(self) -> None:
        limits = self.settings.spool
        far_past_ns = 86400 * NS_PER_S if self.doubts_the_clock() else None

        def is_past(moment_ns: int, horizon_ns: int, *, believed: bool) -> bool:
            """Older than it may be, and not by so much that a clock must be wrong."""
            far = far_past_ns is not None and not believed and moment_ns <= horizon_ns - far_past_ns
            return moment_ns <= horizon_ns and not far

        for piece in self.here("acknowledged"):
            horizon_ns = self.now_ns - limits.keep_uploaded.ns
            if not limits.keep_uploaded or is_past(piece.settled_ns, horizon_ns, believed=False):
                piece.place = "nowhere"
        if limits.max_age and self.clock.boot in self.trusted:
            horizon_ns = self.now_ns - limits.max_age.ns
            for piece in self.here("pending"):
                end_ns = self.offsets[piece.boot] + piece.end_ns
                if piece.boot in self.trusted and is_past(end_ns, horizon_ns, believed=piece.boot == self.clock.boot):
                    self.gives_up(piece)
        self.clears_quarantine()

    def clears_quarantine(self) -> None:
        for piece in self.here("damaged"):
            self.sets_aside(piece)
        self.trims_quarantine()

    def sets_aside(self, piece: Piece) -> None:
        piece.state, piece.place = "quarantined", "quarantine"
        self.counters["segment_errors_total"] += 1
        self.quarantined |= {piece.audio: piece.size - piece.meta_size, f"{piece.name}.meta": piece.meta_size}

    def trims_quarantine(self) -> None:
        for name in sorted(self.quarantined, key=lambda name: (self.stamps[name], name)):
            if sum(self.quarantined.values()) <= self.settings.spool.quarantine_cap:
                return
            del self.quarantined[name]
            for piece in self.pieces:
                if str(piece.name) == name.partition(".")[0] and piece.state == "quarantined":
                    self.gives_up(piece)
