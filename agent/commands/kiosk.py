"""The kiosk that a reading command is about: its settings, its files, its zone. Nothing is made or changed here."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from agent import config
from agent.commands.starting import Role
from agent.commands.times import moment
from agent.errors import KioskError
from agent.hours import Hours
from agent.ledger import Ledger, LedgerDamaged
from agent.settings import Settings
from agent.spool import Layout
from agent.status import runtime_directory
from hw.clock import Clock, SystemClock

_LOCKS = Path("/proc/locks")


@dataclass(frozen=True, slots=True)
class Kiosk:
    """What the configuration says, and where the files are."""

    settings: Settings
    layout: Layout
    zone: ZoneInfo
    clock: Clock


def find(file: Path | None) -> Kiosk:
    """The kiosk of this configuration. Raises ConfigError."""
    settings = config.load(file, os.environ)
    return Kiosk(settings, Layout(settings.spool.path), ZoneInfo(settings.device.timezone), SystemClock())


def ordered_hours(settings: Settings) -> tuple[Hours, ...] | None:
    """Upload hours that were ordered by command and still count; None: those of the file do."""
    from agent.contract.commands import Command, judge_again, target_of
    from agent.contract.verbs import VERBS, hours_of
    from agent.courier.book import standing_payload

    payload = standing_payload(Layout(settings.spool.path).state / "commands.db", "set-upload-hours")
    if payload is None:
        return None
    target = target_of(settings.device.site, settings.device.id)
    judged = judge_again(payload, keys=settings.commands.admin_keys, target=target, able=VERBS)
    return hours_of(judged.args["hours"]) if isinstance(judged, Command) else None


def between(kiosk: Kiosk, since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Two moments that a person wrote, as wall times in nanoseconds. Raises KioskError."""
    now_ns = kiosk.clock.wall_ns()
    return (
        None if since is None else moment(since, kiosk.zone, now_ns),
        None if until is None else moment(until, kiosk.zone, now_ns),
    )


@contextmanager
def open_ledger(kiosk: Kiosk) -> Iterator[Ledger]:
    """Open it for reading. Raises KioskError when it isn't there or this user may not, LedgerDamaged at any time."""
    state, path = kiosk.layout.state, kiosk.layout.ledger
    # SQLite must be able to make its shared-memory file beside a database in WAL mode, also for reading.
    allowed = os.access(state, os.W_OK | os.X_OK) and os.access(path, os.R_OK | os.W_OK)
    if not allowed and _is_there(path):
        raise _refusal(state, path)
    try:
        with Ledger(path, kiosk.clock, read_only=True) as ledger:
            yield ledger
    except sqlite3.DatabaseError as error:
        raise LedgerDamaged(
            "read ledger", place=str(path), cause=str(error), hint="`kiosk-recorder verify` tells what that means"
        ) from error


def _refusal(state: Path, path: Path) -> KioskError:
    """Why a ledger that is there can't be read by this user, or by nobody."""
    with suppress(OSError):
        if os.statvfs(state).f_flag & os.ST_RDONLY:
            hint = "mount it writable, or copy the directory to another disk and name the copy as `spool.path`"
            return KioskError("read ledger", place=str(path), cause="its file system is read-only", hint=hint)
    return KioskError("read ledger", place=str(path), cause="this user may not", hint="run the command with sudo")


def _is_there(path: Path) -> bool:
    """Whether it exists, or may: what this user can't look at isn't taken for missing."""
    try:
        return path.exists()
    except PermissionError:
        return True


def process_of(layout: Layout, role: Role) -> int | None:
    """The process that is this spool's recorder or courier now, or None; also while it can't use the card."""
    return running(layout, role) or running(Layout(runtime_directory() / "direct"), role)


def running(layout: Layout, role: Role, locks: Path = _LOCKS) -> int | None:
    """The process that serves this spool as recorder or courier now, or None.

    It holds a lock (agent.spool.InstanceLock). The kernel is asked who does: trying the lock would turn away a
    process that starts at this moment.
    """
    lock = layout.state / f"{role}.lock"
    try:
        file = lock.stat()
        holders = locks.read_text().splitlines()
    except OSError:
        return None
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    for line in holders:
        # proc(5): "1: FLOCK  ADVISORY  WRITE 1323 fe:00:2146329 0 EOF"
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5] == f"{device}:{file.st_ino}":
            return int(fields[4])
    return None
