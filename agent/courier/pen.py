"""The device's signature: what the courier says of the journal counts as this device's word."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

from agent.contract import seeds
from agent.contract.custody import Head
from agent.contract.signed import Kind, Refused, opened, public_key, sign
from agent.errors import KioskError
from agent.settings import Settings

_MAKE: Final = "`kiosk-recorder enrol` makes one, as root; until then nothing proves that the store holds everything"


class Pen:
    """Writes in the name of this device. May be used from every thread."""

    def __init__(self, settings: Settings) -> None:
        """Without a usable key nothing is signed, and `trouble` says why."""
        self._site, self._device = settings.device.site, settings.device.id
        self._seed: bytes | None = None
        self.trouble: KioskError | None = None
        self.reached = ("", 0)
        """Epoch, and up to which of its entries the store has manifests. Set by one thread, as a whole."""
        path = settings.custody.key
        try:
            if path is None:
                raise KioskError("sign custody", cause="`custody.key` names no key", hint=_MAKE)
            self._seed = seeds.load(path, _MAKE)
        except KioskError as error:
            self.trouble = error

    @property
    def public(self) -> str | None:
        """The public half of the key; None without one."""
        return public_key(self._seed) if self._seed else None

    def head(self, head: Head) -> Head:
        """The same, signed, with what the store has; as it was without a key."""
        if self._seed is None:
            return head
        epoch, manifested = self.reached
        told = replace(head, manifested=manifested if epoch == head.epoch else 0)
        return told.signed(self._site, self._device, self._seed)

    def written(self, kind: Kind, document: dict[str, Any]) -> bytes:
        """A payload that says `document` in the name of this device; without a key, one that nobody signed."""
        if self._seed is None:
            return json.dumps({"signed": json.dumps(document)}).encode()
        return sign(kind, document, self._seed)

    def wrote(self, kind: Kind, payload: bytes) -> bool:
        """Whether a payload is whole, and signed by this device."""
        try:
            opened(kind, payload, {self.public or ""})
        except Refused:
            return False
        return True
