"""Who has to go, and when: the cap, the room kept for others, and ages.

Everything under `spool/` is counted to the byte. Before a segment begins, room for the largest it could become is
reserved, so the cap holds at every moment. What goes first: what quarantine can't hold; uploaded recordings, oldest
first; then, loudly, those not uploaded yet, oldest first; never the one being written.

Within a boot an age is monotonic time, which nobody can step. Of earlier boots the wall clock tells, and it may be
wrong, also when it counts as synchronised. A recording that passes its age while we watch goes at once. One that is
far past it when it's first looked at got there by a jump of the clock or a long time without power: it stays for some
hours, in which it can be uploaded and the clock be put right.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

from agent.contract.keys import utc
from agent.hours import closed_throughout
from agent.ledger import ALWAYS_NS, Ledger, Segment
from agent.recorder.removal import remove_files, set_damaged_aside
from agent.settings import Settings
from agent.spool import Layout, SegmentFile, SegmentName, files_below, sync_directory
from agent.units import NS_PER_S
from hw.clock import Clock

log = logging.getLogger(__name__)

_RESUME_SEGMENTS = 2
"""With `when_full = "stop"`: how many segments must fit again before recording resumes."""

_FAR_PAST_NS = 86400 * NS_PER_S
_GRACE_NS = 6 * 3600 * NS_PER_S
"""How long the clock has to stay as it is before what it puts far past its age is given up: less than a clinic's day,
so that a kiosk which is switched off at night keeps to its ages."""

_JUMP_NS = 60 * NS_PER_S
_NEVER_NS = 2**63 - 1


def victims(candidates: Iterable[Segment], excess: int) -> Iterator[Segment]:
    """The first of `candidates` that together free at least `excess` bytes, or all of them."""
    for segment in candidates:
        if excess <= 0:
            return
        excess -= segment.bytes + segment.meta_bytes
        yield segment


class Retention:
    """Keeps the spool within its limits. Belongs to the writer thread; raises OSError when the card fails."""

    def __init__(self, layout: Layout, settings: Settings, ledger: Ledger, clock: Clock) -> None:
        self._layout = layout
        self._limits = settings.spool
        self._reserve = settings.segment_reserve_bytes
        self._week = settings.recording_week
        self._zone = ZoneInfo(settings.device.timezone)
        self._ledger = ledger
        self._clock = clock
        self._stopped = False
        self._offset_ns: int | None = None
        """The trusted offset of this boot, and since when it is what it is."""
        self._offset_since_ns = 0
        self._grace_told = False
        self._removed: set[SegmentName] = set()
        """Files gone since the last commit: what they were was durable before, that they're gone may wait."""
        self._may_return = 0
        """Bytes of removed files that a power cut could still bring back."""
        self.used = 0
        """Bytes of everything under `spool/` but the segment being written, whose room is reserved."""
        self.recount()

    def recount(self) -> None:
        """Measure anew, after recovery moved things about. Sealed files never change: the ledger knows their sizes."""
        loose = (self._layout.open, self._layout.quarantine)
        self.used = sum(tally.bytes for tally in self._ledger.tally().values())
        self.used += sum(entry.stat().st_size for directory in loose for entry in files_below(directory))

    def note_sealed(self, size: int) -> None:
        """A segment has become `size` bytes, sidecar included; its reservation is over."""
        self.used += size

    def commit_removals(self) -> None:
        """Let the ledger know which files are gone; call it inside a transaction that happens anyway."""
        self._ledger.forget_files(self._removed)
        self._removed.clear()

    def make_room(self) -> bool:
        """Make room for one segment. False: there is none, and recording has to stop (`spool_full`)."""
        self._stopped = not self._made(self._reserve * (_RESUME_SEGMENTS if self._stopped else 1))
        return not self._stopped

    def make_room_beside(self, size: int) -> bool:
        """Make room for `size` bytes beside the segment being written."""
        return self._made(self._reserve + size)

    def _made(self, wanted: int) -> bool:
        excess = self._excess(wanted)
        if excess > 0:
            # What nobody can upload any more goes before anything else.
            self._set_damaged_aside()
            self._trim_quarantine()
            excess = self._excess(wanted)
        if excess > 0:
            self._remove(victims(self._not_gone(self._ledger.kept("acknowledged")), excess))
            excess = self._excess(wanted)
        if excess > 0 and self._limits.when_full == "drop-oldest":
            self._give_up_oldest(excess, wanted)
            excess = self._excess(wanted)
        if excess > 0:
            return False
        self._keep_away(wanted)
        return True

    def tidy(self) -> None:
        """Remove what has been here long enough, and set aside what the courier found damaged."""
        trusted = {boot.boot: boot.offset_ns for boot in self._ledger.boots() if boot.clock != "unsynchronised"}
        offset_ns = trusted.get(self._clock.boot)
        far_past_ns = _FAR_PAST_NS if self._is_in_doubt(offset_ns) else _NEVER_NS
        self._remove_uploaded(far_past_ns)
        if offset_ns is not None:
            # An age takes two right times: a machine that woke up in 2099 must not give everything up.
            self._expire(trusted, offset_ns + self._clock.monotonic_ns(), far_past_ns)
        self._erase_outside_hours(trusted)
        self._set_damaged_aside()
        self._trim_quarantine()

    def _keep_away(self, wanted: int) -> None:
        """Where what was removed would no longer fit beside what comes now, make its removal durable first."""
        if self._may_return and self._excess(wanted) + self._may_return > 0:
            for directory in (self._layout.sealed, self._layout.quarantine):
                sync_directory(directory)
            self._may_return = 0

    def _excess(self, wanted: int) -> int:
        """Bytes that have to go before `wanted` more may come."""
        over_cap = self.used + wanted - self._limits.cap
        short_of_free = self._limits.keep_free + wanted - shutil.disk_usage(self._layout.spool).free
        return max(over_cap, short_of_free)

    def _not_gone(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        # A file that is gone is still `present` in the ledger until the next commit.
        return (segment for segment in segments if segment.name not in self._removed)

    def remove(self, name: SegmentName) -> None:
        """Remove the files of a segment that the ledger has settled."""
        self._gone(remove_files(self._layout, name))
        self._removed.add(name)

    def remove_from_quarantine(self, stems: Iterable[str]) -> None:
        """Remove what was set aside of segments that the ledger has settled otherwise since, or never knew."""
        wanted = set(stems)
        for entry in list(files_below(self._layout.quarantine)):
            if entry.name.partition(".")[0] in wanted:
                size = entry.stat().st_size
                Path(entry.path).unlink()
                self._gone(size)

    def _remove(self, segments: Iterable[Segment]) -> None:
        for segment in list(segments):
            self.remove(segment.name)

    def _gone(self, size: int) -> None:
        self.used -= size
        self._may_return += size

    def _give_up_oldest(self, excess: int, wanted: int) -> None:
        # When even everything wouldn't do, somebody else is filling the card: giving up recordings helps nobody.
        tally = self._ledger.tally().get("pending")
        if tally is not None and tally.bytes >= excess:
            cause = "cap" if self.used + wanted > self._limits.cap else "keep_free"
            self._evict(list(victims(self._ledger.kept("pending"), excess)), cause)

    def _is_in_doubt(self, offset_ns: int | None) -> bool:
        """Whether ages by this clock are too new to be believed when they say that much is far too old."""
        now_ns = self._clock.monotonic_ns()
        known_ns, self._offset_ns = self._offset_ns, offset_ns
        if known_ns is None or offset_ns is None or abs(offset_ns - known_ns) > _JUMP_NS:
            self._offset_since_ns, self._grace_told = now_ns, False
        return now_ns - self._offset_since_ns < _GRACE_NS

    def _remove_uploaded(self, far_past_ns: int) -> None:
        keep = self._limits.keep_uploaded
        until_ns = self._ledger.now_ns() - keep.ns if keep else _NEVER_NS
        after_ns = max(until_ns - far_past_ns, ALWAYS_NS) if keep else ALWAYS_NS
        self._remove(self._not_gone(self._ledger.uploaded_by(until_ns, after_ns=after_ns)))

    def _expire(self, trusted: dict[str, int], now_ns: int, far_past_ns: int) -> None:
        if not self._limits.max_age:
            return
        for boot, offset_ns in trusted.items():
            end_ns = now_ns - self._limits.max_age.ns - offset_ns
            after_ns = ALWAYS_NS if boot == self._clock.boot else max(end_ns - far_past_ns, ALWAYS_NS)
            self._evict(list(self._ledger.pending_until(boot, end_ns, after_ns=after_ns)), "max_age")
            if not self._grace_told and after_ns > ALWAYS_NS and any(self._ledger.pending_until(boot, after_ns)):
                self._grace_told = True
                log.warning("by the clock, recordings that wait for upload are suddenly far older than `max_age`")

    def _erase_outside_hours(self, trusted: dict[str, int]) -> None:
        """Judge what was recorded while the clock couldn't tell clinic hours, now that it can (DESIGN §4)."""
        outside = [
            segment
            for segment in self._ledger.provisional()
            if (offset_ns := trusted.get(segment.boot)) is not None
            and closed_throughout(
                self._week, self._zone, utc(offset_ns + segment.begin_ns), utc(offset_ns + segment.end_ns)
            )
        ]
        if not outside:
            return
        with self._ledger.transaction():
            for segment in outside:
                self._ledger.settle(segment.name, "erased", "schedule")
        for segment in outside:
            log.info("recording %s (%.0f s) is erased: it turned out to lie outside the schedule", *_told(segment))
        self._remove(outside)

    def _evict(self, segments: list[Segment], cause: str) -> None:
        """Give up recordings that were never uploaded: the ledger first, then the files."""
        if not segments:
            return
        with self._ledger.transaction():
            given_up = [segment for segment in segments if self._ledger.settle(segment.name, "evicted", cause)]
            self._ledger.count(evicted_unsent_total=len(given_up))
        for segment in given_up:
            log.warning("recording %s (%.0f s) was given up before it was uploaded: %s", *_told(segment), cause)
        # What the courier acknowledged in this very moment may go as well.
        self._remove(segments)

    def _set_damaged_aside(self) -> None:
        damaged = list(self._ledger.kept("damaged"))
        # Damage may be a file that lost its end: it's counted with its real size from here on.
        self.used -= sum(segment.bytes + segment.meta_bytes for segment in damaged)
        self.used += set_damaged_aside(self._layout, self._ledger, damaged)

    def _trim_quarantine(self) -> None:
        held = sorted(((entry.stat(), Path(entry.path)) for entry in files_below(self._layout.quarantine)), key=_age)
        excess = sum(stat.st_size for stat, _ in held) - self._limits.quarantine_cap
        for stat, path in held:
            if excess <= 0:
                return
            file = SegmentFile.parse(path.name)
            if file is not None:
                self._give_up_quarantined(file.name)
            log.warning("quarantined file %s was given up: quarantine_cap", path.name)
            path.unlink()
            excess -= stat.st_size
            self._gone(stat.st_size)

    def _give_up_quarantined(self, name: SegmentName) -> None:
        """Enter it with the first of its files that goes."""
        known = self._ledger.segment(name)
        if known is not None and known.state == "quarantined":
            with self._ledger.transaction():
                self._ledger.settle(name, "evicted", "quarantine_cap")
                self._ledger.count(evicted_unsent_total=1)


def _age(held: tuple[os.stat_result, Path]) -> tuple[int, str]:
    return held[0].st_mtime_ns, held[1].name


def _told(segment: Segment) -> tuple[SegmentName, float]:
    return segment.name, segment.seconds
