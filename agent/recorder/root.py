"""A spool that is ready for a writer: made, recovered, its ledger open."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from agent.ledger import Boot, Ledger
from agent.recorder.rebuild import open_recovered
from agent.recorder.retention import Retention
from agent.recorder.succession import Cut
from agent.settings import Settings
from agent.spool import Layout
from hw.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Root:
    """Belongs to the thread that opened it."""

    settings: Settings
    layout: Layout
    ledger: Ledger
    retention: Retention


@contextmanager
def open_root(settings: Settings, clock: Clock, boot: Boot, cuts: Sequence[Cut] | None = None) -> Iterator[Root]:
    """The spool of `settings`. `boot` is what is known of this one, for a ledger that doesn't know it.

    `cuts` are as for `recover`. Raises KioskError, or CARD_ERRORS when the card fails.
    """
    layout = Layout(settings.spool.path)
    layout.create()
    ledger, recovered = open_recovered(layout, clock, cuts)
    with ledger:
        if recovered:
            log.info("recovered segments: %s", recovered)
        # After recovery, which may have to enter earlier boots first.
        ledger.begin_boot(boot.offset_ns, boot.clock)
        yield Root(settings, layout, ledger, Retention(layout, settings, ledger, clock))
