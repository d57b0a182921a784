"""A ledger that can't be read is set aside and a new one begun (invariant 3): the spool holds all that matters."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from agent.ledger import Ledger, LedgerDamaged, passing
from agent.recorder.recovery import Recovered, recover
from agent.recorder.succession import Cut
from agent.spool import Layout, sync_directory
from hw.clock import Clock

log = logging.getLogger(__name__)


def open_recovered(layout: Layout, clock: Clock, cuts: Sequence[Cut] | None = None) -> tuple[Ledger, Recovered]:
    """Open the recorder's ledger and make it and the spool agree; durable on return.

    There is a new one when there was none, and when the old one can't be worked with: that is kept beside it, and what
    the new one doesn't know is entered from the spool's sidecars. `cuts` are as for `recover`. Raises KioskError,
    OSError or sqlite3.OperationalError when the card fails.
    """
    try:
        return _recovered(Ledger(layout.ledger, clock, create=True), layout, cuts)
    except LedgerDamaged as damage:
        log.warning("ledger is damaged and set aside, a new custody epoch begins: %s", damage.cause)
        _set_aside(layout, clock)
        return _recovered(Ledger(layout.ledger, clock, create=True), layout, cuts)


def _recovered(ledger: Ledger, layout: Layout, cuts: Sequence[Cut] | None) -> tuple[Ledger, Recovered]:
    try:
        ledger.check()
        return ledger, recover(layout, ledger, cuts)
    except sqlite3.DatabaseError as error:
        ledger.close()
        if passing(error):
            raise
        # What no check finds: an index that tells something else than its table, for one.
        raise LedgerDamaged("recover", place=str(layout.ledger), cause=str(error)) from error
    except BaseException:
        ledger.close()
        raise


def _set_aside(layout: Layout, clock: Clock) -> None:
    stamp = clock.wall_ns()
    for suffix in ("", "-wal", "-shm"):
        path = layout.ledger.with_name(layout.ledger.name + suffix)
        if path.exists():
            path.rename(layout.state / f"damaged-{stamp}-{path.name}")
    sync_directory(layout.state)
