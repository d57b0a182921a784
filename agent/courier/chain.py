"""Whether the journal still proves what was recorded: followed link by link, some links a look.

A journal of months has hundreds of thousands of entries. They are followed once, in portions, and then each new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.ledger import Ledger
from agent.spool import Layout

_PORTION: Final = 2000
"""Links a look: some 20 ms of a small Pi's time."""


@dataclass(frozen=True, slots=True)
class Custody:
    """The chain as far as it was followed."""

    epoch: str
    broken_link: int | None
    """Sequence number of the first entry that doesn't follow from the one before."""
    set_aside: bool
    """Whether a damaged ledger lies beside this one."""


class Chain:
    """Belongs to one thread."""

    def __init__(self) -> None:
        self._epoch = ""
        self._reached: tuple[int, bytes] | None = None

    def follow(self, ledger: Ledger, layout: Layout) -> Custody:
        """Go on from where the last look ended. A link that is broken is looked at again each time."""
        epoch = ledger.epoch()
        if epoch != self._epoch:
            self._epoch, self._reached = epoch, None
        self._reached, broken = ledger.follow(self._reached, _PORTION)
        return Custody(epoch, broken, any(layout.state.glob("damaged-*")))
