"""`kiosk-recorder verify --repair`: what the recorder's recovery does at its next start, done now.

It works under the recorder's lock, so that no recorder runs meanwhile, and as the spool's owner, so that root leaves
no file behind that the recorder couldn't write. Nothing is given up: what is over a limit, or uploaded and no longer
needed, is the recorder's business.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.commands.kiosk import Kiosk
from agent.errors import KioskError
from agent.inspection import Finding
from agent.ledger import Ledger
from agent.recorder.homecoming import cuts_for_card
from agent.recorder.rebuild import open_recovered
from agent.recorder.recovery import recover
from agent.spool import InstanceLock, Layout, SegmentFile
from agent.status import runtime_directory


@contextmanager
def alone(layout: Layout, operation: str = "repair spool") -> Iterator[None]:
    """Be the only one who writes this spool, for an `operation`.

    Raises KioskError when a recorder runs here or there is no spool.
    """
    if not layout.spool.is_dir():
        raise KioskError(
            operation,
            place=str(layout.spool),
            cause="it does not exist",
            hint="the recorder makes it: has it ever run here, and is `spool.path` right?",
        )
    with as_owner(layout.spool):
        layout.create()
        try:
            lock = InstanceLock(layout, "recorder")
        except KioskError as error:
            raise KioskError(
                operation,
                place=str(layout.root),
                cause=error.cause.replace("another recorder already", "a recorder"),
                hint="stop it first (`systemctl stop kiosk-recorder`); at its next start it repairs the same by itself",
            ) from error
        try:
            yield
        finally:
            lock.close()


def repair(kiosk: Kiosk, findings: Iterable[Finding]) -> None:
    """Recover the spool; what was found not to be what was recorded is set aside with it. Durable on return.

    Raises KioskError when the card or the ledger doesn't let it.
    """
    try:
        # What a recorder left in memory counts: the next one brings it home.
        cuts = cuts_for_card(Layout(runtime_directory() / "direct"), kiosk.clock)
        ledger, _ = open_recovered(kiosk.layout, kiosk.clock, cuts)
        with ledger:
            if _enter_damage(ledger, findings):
                recover(kiosk.layout, ledger, cuts)
    except (OSError, sqlite3.DatabaseError) as error:
        raise KioskError(
            "repair spool",
            place=str(kiosk.layout.root),
            cause=str(error),
            hint="check that this user may write there and that the card is sound; it can be repeated at any time",
            retryable=True,
        ) from error


def _enter_damage(ledger: Ledger, findings: Iterable[Finding]) -> bool:
    """Enter what an upload would have found out, as the courier does; recovery then sets it aside. Whether any was."""
    entered = False
    with ledger.transaction():
        for finding in findings:
            file = SegmentFile.parse(Path(finding.place).name)
            if finding.kind in ("size", "hash") and file is not None:
                known = ledger.segment(file.name)
                if known is not None and known.state == "pending":
                    entered |= ledger.settle(file.name, "damaged", finding.what)
    return entered


@contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Act as the user and group a directory belongs to, if this is root."""
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
