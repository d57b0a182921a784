"""A device's manifests, one after another: signatures, links, what is missing between them, and heads beside them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agent.contract.bucket import Found
from agent.contract.custody import (
    GENESIS,
    Manifest,
    Stretch,
    Tombstone,
    custody_prefix,
    link,
    tombstone_id,
)
from agent.contract.signed import LONGEST_BYTES, Kind, Refused, opened
from agent.units import NS_PER_S
from fleet import evidence as found_wrong
from fleet.evidence import Evidence
from fleet.heads import Heads
from fleet.store import Store

_REASONS: Final[dict[str, found_wrong.Kind]] = {"unsigned": "unsigned", "wrong_key": "forged"}
"""What a refusal means; any other: the content isn't what was signed."""

_MISREAD: Final = (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError, sqlite3.Error)


@dataclass(slots=True)
class Span:
    """From when to when manifests follow each other without a hole, by clocks that were right."""

    first: int
    """The entry it begins with."""
    begin_ns: int
    end_ns: int


@dataclass(slots=True)
class Epoch:
    """One ledger's life, as far as it is told."""

    name: str
    began_ns: int
    """When its first manifest came, by the store's clock."""
    reached: int = 0
    digest: bytes = GENESIS
    """Of entry `reached`."""
    whole: bool = True
    """Whether everything up to there is told."""
    until: str = ""
    """When the last manifest was made up to which everything is told; "" when even the first one is missing."""
    spans: list[Span] = field(default_factory=list)
    """Times of which everything is told."""
    heads: Iterator[tuple[int, str, str]] = field(default_factory=lambda: iter(()))
    head: tuple[int, str, str] | None = None


class Chain:
    """Of one device."""

    def __init__(
        self, store: Store, site: str, device: str, keys: Collection[str], evidence: Evidence, heads: Heads
    ) -> None:
        self._store = store
        self._site, self._device = site, device
        self._name = f"{site}/{device}"
        self._keys = keys
        self._evidence = evidence
        self._heads = heads
        self._prefix = custody_prefix(store.prefix, site, device)
        self.epochs: dict[str, Epoch] = {}
        self._promised: dict[str, int] = {}
        """By epoch up to which entry a journal itself says that the store had manifests, be it there or not."""
        self.manifests = 0

    def follow(self) -> None:
        """Read everything that is there. Raises KioskError when the store doesn't answer."""
        tombstones: list[Found] = []
        for found in self._store.walk(self._prefix):
            name = found.key.removeprefix(self._prefix)
            stretch = Stretch.parse(name)
            if stretch is not None:
                self._read_manifest(found, stretch)
            elif tombstone_id(name):
                tombstones.append(found)
            else:
                self._evidence.find("added", found.key, "nothing of custody is called so")
        # Last: what they name must be known.
        for found in tombstones:
            self._read_tombstone(found)
        self._judge_heads()

    def _opened(self, kind: Kind, found: Found) -> dict[str, Any] | None:
        payload = self._store.read(found.key, LONGEST_BYTES[kind] + 1)
        try:
            return opened(kind, payload, self._keys).document
        except Refused as refused:
            self._evidence.find(_REASONS.get(refused.reason, "altered"), found.key, str(refused))
            return None

    def _read_manifest(self, found: Found, stretch: Stretch) -> None:
        document = self._opened("manifest", found)
        if document is None:
            return
        try:
            manifest = Manifest.read(document)
            made_ns = _nanoseconds(manifest.made)
        except ValueError as error:
            self._evidence.find("altered", found.key, str(error))
            return
        if (manifest.site, manifest.device, manifest.stretch) != (self._site, self._device, stretch):
            said = f"it is {manifest.site}/{manifest.device}'s {manifest.stretch.name}"
            self._evidence.find("replayed", found.key, said)
            return
        self.manifests += 1
        self._take_in(found, manifest, made_ns)

    def _take_in(self, found: Found, manifest: Manifest, made_ns: int) -> None:
        stretch = manifest.stretch
        epoch = self._epoch(stretch.epoch, found)
        hole = stretch.first > epoch.reached + 1
        if not self._joins(epoch, found, manifest):
            return
        digest, expected = manifest.before, stretch.first
        for entry in manifest.entries:
            digest = link(digest, entry)
            if entry[:2] != [expected, epoch.name]:
                break
            if expected == epoch.reached and digest != epoch.digest:
                self._rewritten(epoch, found, f"entry {expected} is told in two ways")
            if expected > epoch.reached:
                self._compare(epoch, found, expected, digest)
                self._learn(epoch, found, entry)
            expected += 1
        if expected != stretch.last + 1 or digest != manifest.after:
            self._rewritten(epoch, found, "its entries don't follow from each other")
        epoch.reached, epoch.digest = stretch.last, manifest.after
        if epoch.whole:
            epoch.until = manifest.made
        if manifest.clock != "unsynchronised":
            if not epoch.spans or hole:
                epoch.spans.append(Span(stretch.first, made_ns, made_ns))
            epoch.spans[-1].end_ns = made_ns

    def _joins(self, epoch: Epoch, found: Found, manifest: Manifest) -> bool:
        """Whether a manifest tells more than those before it; what is wrong between them is found.

        One may begin before where the last one ended: a kiosk that lost what it had signed signs it again, with more.
        """
        stretch = manifest.stretch
        if stretch.last <= epoch.reached:
            self._evidence.find("reordered", found.key, "it tells again what another manifest has told")
            return False
        if stretch.first > epoch.reached + 1:
            said = f"entries {epoch.reached + 1} to {stretch.first - 1} of epoch {epoch.name} are in no sound manifest"
            self._evidence.find("missing", f"{self._prefix}{epoch.name}-…", said)
            epoch.whole = False
        elif stretch.first == epoch.reached + 1 and manifest.before != epoch.digest:
            self._rewritten(epoch, found, f"entry {stretch.first} doesn't follow from what was told before")
        return True

    def _epoch(self, name: str, found: Found) -> Epoch:
        epoch = self.epochs.get(name)
        if epoch is None:
            heads = self._heads.of(self._name, name)
            epoch = self.epochs[name] = Epoch(name, found.stored_ns, heads=heads, head=next(heads, None))
        return epoch

    def _learn(self, epoch: Epoch, found: Found, entry: list[Any]) -> None:
        kind, body = entry[5], entry[6]
        try:
            if kind == "manifest":
                # Of this ledger, or of an earlier one whose last manifests came late.
                name = str(body["epoch"])
                self._promised[name] = max(self._promised.get(name, 0), int(body["last"]))
            else:
                self._evidence.learn(epoch.name, kind, body)
        except _MISREAD as error:
            self._evidence.find("altered", found.key, f"entry {entry[0]} ({kind}) can't be understood: {error!r}")

    def _compare(self, epoch: Epoch, found: Found, seq: int, digest: bytes) -> None:
        """Hold an entry against the heads that were said of it."""
        while epoch.head is not None and epoch.head[0] <= seq:
            number, told, said = epoch.head
            if number == seq and not digest.hex().startswith(told):
                self._rewritten(epoch, found, f"the kiosk said at {said} that entry {seq} was another one")
            epoch.head = next(epoch.heads, None)

    def _rewritten(self, epoch: Epoch, found: Found, said: str) -> None:
        self._evidence.find("rewritten", found.key, said)
        epoch.whole = False

    def _read_tombstone(self, found: Found) -> None:
        document = self._opened("tombstone", found)
        if document is None:
            return
        try:
            tombstone = Tombstone.read(document)
        except ValueError as error:
            self._evidence.find("altered", found.key, str(error))
            return
        if (tombstone.site, tombstone.device, self._prefix + tombstone.name) != (self._site, self._device, found.key):
            said = f"it is {tombstone.site}/{tombstone.device}'s {tombstone.name}"
            self._evidence.find("replayed", found.key, said)
            return
        for run, seq, _ in tombstone.segments:
            self._evidence.erase(run, seq)

    def _judge_heads(self) -> None:
        """What the journal or a head says was in the store must be there."""
        promised = {name: (seq, "") for name, seq in self._promised.items()}
        for name, (seq, said) in self._heads.manifested(self._name).items():
            if seq > promised.get(name, (0, ""))[0]:
                promised[name] = (seq, said)
        for name, (seq, said) in promised.items():
            epoch = self.epochs.get(name)
            reached = epoch.reached if epoch is not None else 0
            if seq > reached:
                source = f"the kiosk said at {said}" if said else "the journal says"
                text = f"entries {reached + 1} to {seq} of epoch {name}: {source} that the store had them"
                self._evidence.find("missing", f"{self._prefix}{name}-…", text)
        for said in self._heads.strangers(self._name):
            self._evidence.find("forged", f"head of {self._name}", f"what was said at {said} isn't signed by its key")

    def newest_head(self, epoch: str) -> tuple[int, str] | None:
        """The last entry of an epoch that the kiosk told of over MQTT, and when."""
        return self._heads.newest(self._name, epoch)

    def covers(self, stored_ns: int, margin_ns: int) -> bool:
        """Whether manifests tell of everything that came to the store then.

        Not where a manifest is missing, nor between two epochs: the lost ledger's last hour may be told nowhere.
        """
        spans = sorted((span for epoch in self.epochs.values() for span in epoch.spans), key=lambda span: span.begin_ns)
        before_all = bool(spans) and spans[0].first == 1 and stored_ns < spans[0].begin_ns
        return before_all or any(span.begin_ns <= stored_ns <= span.end_ns - margin_ns for span in spans)


def _nanoseconds(iso: str) -> int:
    """Raises ValueError."""
    return round(datetime.fromisoformat(iso).timestamp() * NS_PER_S)
