"""Why recordings don't go where they should: said once in the journal, and for as long as it lasts in the status."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def trouble(card: str, memory: str, *, direct_chosen: bool) -> str:
    """What a person should hear of a card and a memory that can't be used, each by its cause; empty while all is well.

    Where memory is chosen a card that fails keeps nothing from being recorded where it should.
    """
    if card and not direct_chosen:
        return (
            f"recordings don't go to the card but to memory, and a power cut would cost them: {card}\n"
            "  → look at the card: is it full, read-only, dying? Recording goes back to it by itself"
        )
    if memory and direct_chosen:
        return (
            f"recordings go to the card although memory is chosen for them: {memory}\n"
            "  → look at /run: what fills it? Recording goes back to memory by itself"
        )
    return ""


class Detour:
    """What can't be used now. Told by any thread."""

    def __init__(self) -> None:
        self._card = self._memory = ""
        self._told: tuple[str, bool] | None = None

    def trouble(self, *, direct_chosen: bool) -> str:
        """As the function of that name."""
        return trouble(self._card, self._memory, direct_chosen=direct_chosen)

    def card_fails(self, cause: str, *, direct_chosen: bool) -> None:
        """The card can't be used; so it stays until `card_works`."""
        self._card = cause
        if (cause, direct_chosen) == self._told:
            return
        self._told = (cause, direct_chosen)
        if direct_chosen:
            log.warning("the card fails; recordings go to memory anyway, as is chosen: %s", cause)
        else:
            log.error("recordings can't go to the card, they stay in memory until it is back: %s", cause)

    def card_is_slow(self, cause: str, *, direct_chosen: bool) -> None:
        """It doesn't answer: that counts unless worse is known."""
        self.card_fails(self._card or cause, direct_chosen=direct_chosen)

    def card_works(self) -> None:
        """It was written to, or looked after."""
        self._card, self._told = "", None

    def memory_fails(self, cause: str) -> None:
        """Memory can't be used although it's chosen; so it stays until `memory_works`."""
        if cause != self._memory:
            log.error("recordings can't go to memory, they go to the card until it is free again: %s", cause)
        self._memory = cause

    def memory_works(self) -> None:
        """A writer is at work there."""
        self._memory = ""
