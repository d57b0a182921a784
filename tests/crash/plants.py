"""Mistakes that a careless recorder could make, planted into the real one to see the checker find them.

Each is put in from outside, in the traced process alone: the product has no switch for any of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any, Final

from agent import spool
from agent.contract import age
from agent.ledger import Ledger, Segment
from agent.recorder import erasing, recovery, retention, segment
from agent.recorder.retention import Retention
from agent.recorder.root import Root
from agent.recorder.run import Run
from agent.recorder.segment import SegmentWriter
from agent.sidecar import Header
from agent.spool import Layout, SegmentName, sync_directory
from tests.crash.steps import Step, replace


def _never(_: Step) -> Step:
    return lambda *_: None


def _without_fsync() -> None:
    """Data of files is never synced."""

    def only_directories(real: Step) -> Step:
        return lambda descriptor: real(descriptor) if stat.S_ISDIR(os.fstat(descriptor).st_mode) else None

    replace(os, "fsync", only_directories)
    replace(os, "fdatasync", only_directories)


def _without_directory_sync() -> None:
    """Neither what is created nor what is renamed is ever synced: a sealed file may be anywhere."""
    replace(segment, "sync_directory", _never)
    replace(recovery, "sync_directory", _never)


def _root_left_unsynced() -> None:
    """At the very first start, the directory in which the root is made isn't synced."""

    def unless_above(real: Step) -> Step:
        def sync(directory: Path) -> None:
            if (directory / "spool").exists() or directory.name == "spool":
                real(directory)

        return sync

    replace(spool, "sync_directory", unless_above)


def _ledger_before_rename() -> None:
    """The ledger speaks of a segment that isn't in its place yet."""
    waiting: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def later(move: Step) -> Step:
        def sealing(seal: Step) -> Step:
            def late(run: Run) -> None:
                seal(run)
                while waiting:
                    arguments, named = waiting.pop()
                    move(*arguments, **named)

            return late

        replace(Run, "seal", sealing)
        return lambda *arguments, **named: waiting.append((arguments, named))

    replace(segment, "move_into_sealed", later)


def _delete_before_acknowledgement() -> None:
    """A recording is removed because its upload ended, before the ledger durably says so."""
    living: list[Retention] = []

    def known(begin: Step) -> Step:
        def remembered(new: Retention, *arguments: object) -> None:
            begin(new, *arguments)
            living.append(new)

        return remembered

    def hasty(acknowledge: Step) -> Step:
        def removed_first(ledger: Ledger, name: SegmentName, how: str) -> None:
            living[-1]._remove(pending for pending in ledger.kept("pending") if pending.name == name)
            acknowledge(ledger, name, how)

        return removed_first

    replace(Retention, "__init__", known)
    replace(Ledger, "acknowledge", hasty)


def _delete_before_eviction() -> None:
    """A recording is given up before the ledger durably says so."""

    def hasty(evict: Step) -> Step:
        def removed_first(keeper: Retention, segments: Iterable[Segment], cause: str) -> None:
            keeper._remove(segments)
            evict(keeper, segments, cause)

        return removed_first

    replace(Retention, "_evict", hasty)


def _newest_given_up_first() -> None:
    """What was just recorded goes instead of the oldest."""

    def newest_first(victims: Step) -> Step:
        return lambda candidates, excess: victims(reversed(list(candidates)), excess)

    replace(retention, "victims", newest_first)


def _room_before_removal() -> None:
    """The room of a removed recording is given away while a power cut could still bring it back."""
    replace(Retention, "_keep_away", _never)


def _ledger_without_full_sync() -> None:
    """The ledger is synced only when its WAL is folded in: a commit that returned may be lost."""

    def careless(begin: Step) -> Step:
        def opened(ledger: Ledger, *arguments: object, **options: object) -> None:
            begin(ledger, *arguments, **options)
            ledger._db.execute("PRAGMA synchronous = NORMAL")

        return opened

    replace(Ledger, "__init__", careless)


def _copied_in_plain() -> None:
    """What is heard is kept in a temporary file for a moment, before it's encrypted."""

    def careless(write: Step) -> Step:
        def copied(writer: SegmentWriter, pcm: bytes | memoryview) -> None:
            scratch = writer._part.with_suffix(".tmp")
            with scratch.open("wb") as file:
                file.write(pcm)
                file.flush()
                os.fsync(file.fileno())
            scratch.unlink()
            write(writer, pcm)

        return copied

    replace(SegmentWriter, "write", careless)


def _falling_back_to_plain() -> None:
    """Now and then a segment isn't encrypted, as if a recipient couldn't be used at this moment."""
    calls: list[int] = []

    def forgetful(begin: Step) -> Step:
        def begun(
            writer: SegmentWriter, layout: Layout, header: Header, recipients: Sequence[age.Recipient] = ()
        ) -> None:
            calls.append(1)
            if len(calls) % 4 == 0:
                header, recipients = with_changes(header, encrypted=False), ()
            begin(writer, layout, header, recipients)

        return begun

    replace(SegmentWriter, "__init__", forgetful)


def _order_in_passing() -> None:
    """An order to erase is written, and not synced."""

    def hasty(replace_file: Step) -> Step:
        return lambda path, content, **_: replace_file(path, content, durable=False)

    replace(erasing, "replace_file", hasty)


def _order_done_with_before_it_is_done() -> None:
    """The order goes before the journal has it."""

    def hasty(carry_out: Step) -> Step:
        def forgotten_first(root: Root, erasure: erasing.Erasure, **named: bool) -> object:
            erasing.file_of(root.layout.root, erasure).unlink()
            sync_directory(erasing.file_of(root.layout.root, erasure).parent)
            return carry_out(root, erasure, **named)

        return forgotten_first

    replace(erasing, "carry_out", hasty)


def _delete_before_erasure() -> None:
    """Recordings go before the journal says that they are erased."""

    def hasty(carry_out: Step) -> Step:
        def removed_first(root: Root, erasure: erasing.Erasure, **named: bool) -> object:
            for each in erasing.overlapping(root.ledger.segments(), root.ledger.offsets(), erasure):
                root.layout.audio(each.name).unlink(missing_ok=True)
            sync_directory(root.layout.sealed)
            return carry_out(root, erasure, **named)

        return removed_first

    replace(erasing, "carry_out", hasty)


LEAKS: Final[dict[str, Callable[[], None]]] = {
    "copied in plain": _copied_in_plain,
    "falling back to plain": _falling_back_to_plain,
}
"""What lets somebody hear a card that is encrypted; promises about what is kept are kept by it."""

PLANTS: Final[dict[str, Callable[[], None]]] = {
    "without fsync": _without_fsync,
    "without directory sync": _without_directory_sync,
    "root left unsynced": _root_left_unsynced,
    "ledger before rename": _ledger_before_rename,
    "delete before acknowledgement": _delete_before_acknowledgement,
    "delete before eviction": _delete_before_eviction,
    "newest given up first": _newest_given_up_first,
    "room before removal": _room_before_removal,
    "ledger without full sync": _ledger_without_full_sync,
}

ERASING: Final[dict[str, Callable[[], None]]] = {
    "order in passing": _order_in_passing,
    "order done with before it is done": _order_done_with_before_it_is_done,
    "delete before erasure": _delete_before_erasure,
}
"""Mistakes in what is done when something is erased."""
