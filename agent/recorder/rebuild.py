"""A ledger that can't be read is set aside and a new one begun (invariant 3): the spool holds all that matters."""

from __future__ import annotations

import logging

from agent.ledger import Ledger, LedgerDamaged
from agent.spool import Layout, sync_directory
from hw.clock import Clock

log = logging.getLogger(__name__)


def open_ledger(layout: Layout, clock: Clock) -> Ledger:
    """Open the recorder's ledger, making it when there is none; a damaged one is kept beside the new one.

    What a new ledger doesn't know is entered by recovery from the spool's sidecars.
    """
    try:
        ledger = Ledger(layout.ledger, clock, create=True)
        ledger.check()
    except LedgerDamaged as damage:
        log.warning("ledger is damaged and set aside, a new custody epoch begins: %s", damage.cause)
        _set_aside(layout, clock)
        return Ledger(layout.ledger, clock, create=True)
    return ledger


def _set_aside(layout: Layout, clock: Clock) -> None:
    stamp = clock.wall_ns()
    for suffix in ("", "-wal", "-shm"):
        path = layout.ledger.with_name(layout.ledger.name + suffix)
        if path.exists():
            path.rename(layout.state / f"damaged-{stamp}-{path.name}")
    sync_directory(layout.state)
