"""The chain of custody as kiosk and fleet tell it: links, manifests, heads, tombstones, enrolments (docs/CUSTODY.md).

The journal is a chain: an entry's hash is SHA-256(hash of the one before ‖ canonical JSON of the entry). A manifest is
a stretch of it, signed by the device and put beside the recordings; a head is where it stood when telemetry was said.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent.contract.keys import device_prefix
from agent.contract.names import is_name
from agent.contract.signed import PREFIX, is_public_key, is_signature, signature

GENESIS: Final = bytes(32)
"""What the first entry of an epoch follows."""

VERSION: Final = 1
"""Of manifests, tombstones and enrolments."""

DIRECTORY: Final = "custody"
"""Below the device's prefix; no day is called so."""

_MANIFEST: Final = re.compile(r"(?P<epoch>[0-9a-f]{12})-(?P<first>[0-9]{9,18})-(?P<last>[0-9]{9,18})\.json")
_TOMBSTONE: Final = re.compile(r"erase-(?P<id>[0-9a-f]{8,64})\.json")
_HEAD: Final = re.compile(
    r"(?P<epoch>[0-9a-f]{12})-(?P<seq>[0-9]{1,18})-(?P<digest>[0-9a-f]{16}|[0-9a-f]{64})"
    r"(?:-(?P<manifested>[0-9]{1,18})-(?P<signature>[A-Za-z0-9+/]{86}==))?"
)
_SHORT_DIGITS: Final = 16


def canonical(value: object) -> str:
    """JSON in the one way that is hashed: keys sorted, no blanks, not escaped beyond need."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def link(previous: bytes, entry: Sequence[object]) -> bytes:
    """The hash of an entry `[seq, epoch, at_ns, boot, mono_ns, kind, body]` that follows one of hash `previous`."""
    return hashlib.sha256(previous + canonical(entry).encode(errors="surrogatepass")).digest()


def custody_prefix(prefix: str, site: str, device: str) -> str:
    """Where a device's manifests and tombstones lie, with a slash at its end."""
    return f"{device_prefix(prefix, site, device)}/{DIRECTORY}/"


@dataclass(frozen=True, slots=True, order=True)
class Stretch:
    """Which entries a manifest tells: those of an epoch from `first` to `last`."""

    epoch: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """What its manifest is called; of one epoch they sort by number."""
        return f"{self.epoch}-{self.first:09d}-{self.last:09d}.json"

    @classmethod
    def parse(cls, name: str) -> Stretch | None:
        """Read a manifest's name; None when it isn't one."""
        match = _MANIFEST.fullmatch(name)
        found = match and cls(match["epoch"], int(match["first"]), int(match["last"]))
        return found if found and found.name == name and found.first <= found.last else None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A stretch of the journal, as it is there."""

    site: str
    device: str
    stretch: Stretch
    before: bytes
    """The hash that the first entry follows."""
    after: bytes
    """The hash of the last entry."""
    made: str
    """Wall time of the kiosk, ISO 8601; `clock` says how far it is to be trusted."""
    clock: str
    entries: list[list[Any]]
    """`[seq, epoch, at_ns, boot, mono_ns, kind, body]`, as they were hashed."""

    def document(self) -> dict[str, Any]:
        """What is signed."""
        return {
            "version": VERSION,
            "site": self.site,
            "device": self.device,
            "epoch": self.stretch.epoch,
            "first": self.stretch.first,
            "last": self.stretch.last,
            "before": self.before.hex(),
            "after": self.after.hex(),
            "made": self.made,
            "clock": self.clock,
            "entries": self.entries,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Manifest:
        """Understand a document. Raises ValueError for one that isn't a manifest of this version."""
        try:
            if document["version"] != VERSION:
                raise ValueError(f"it is of version {document['version']!r}, this release reads {VERSION}")
            return cls(
                site=str(document["site"]),
                device=str(document["device"]),
                stretch=Stretch(str(document["epoch"]), int(document["first"]), int(document["last"])),
                before=bytes.fromhex(document["before"]),
                after=bytes.fromhex(document["after"]),
                made=str(document["made"]),
                clock=str(document["clock"]),
                entries=[_entry(each) for each in document["entries"]],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"it isn't a manifest: {error!r}") from error


def _entry(told: object) -> list[Any]:
    numbers = (0, 2, 4)
    if not (isinstance(told, list) and len(told) == 7 and isinstance(told[6], dict) and isinstance(told[5], str)):
        raise ValueError("an entry has not its seven parts")
    if not all(type(told[place]) is int for place in numbers):
        raise ValueError("an entry has no numbers where they belong")
    return told


@dataclass(frozen=True, slots=True)
class Head:
    """Where a journal stood: its newest entry, and up to which entry the store had taken manifests."""

    epoch: str
    seq: int
    digest: str
    """Hex, whole where it's signed, else 16 digits."""
    manifested: int = 0
    signature: str = ""
    """Over all this and whose it is; empty when the kiosk has no key."""

    def __str__(self) -> str:
        if not self.signature:
            return f"{self.epoch}-{self.seq}-{self.digest[:_SHORT_DIGITS]}"
        return f"{self._told}-{self.signature}"

    @property
    def _told(self) -> str:
        return f"{self.epoch}-{self.seq}-{self.digest}-{self.manifested}"

    def signed(self, site: str, device: str, seed: bytes) -> Head:
        """The same in the name of a device."""
        told = signature("head", f"{site}/{device}\n{self._told}", seed)
        return Head(self.epoch, self.seq, self.digest, self.manifested, told)

    def is_of(self, site: str, device: str, key: str) -> bool:
        """Whether that device, with that key, said it."""
        return is_signature("head", f"{site}/{device}\n{self._told}", key, self.signature)

    @classmethod
    def parse(cls, text: str) -> Head | None:
        """Read `custody_head` of telemetry; None when it isn't one."""
        match = _HEAD.fullmatch(text)
        if match is None:
            return None
        return cls(
            match["epoch"],
            int(match["seq"]),
            match["digest"],
            int(match["manifested"] or 0),
            match["signature"] or "",
        )


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What was erased by one order: `custody/erase-{id}.json`, signed, so that the fleet removes it from the store.

    The journal's entry `erasure` says the same: `{"id", "segments": [[run, seq]…], "why"}`.
    """

    site: str
    device: str
    id: str
    """That of the order: 8 to 64 hex digits."""
    at: str
    """Wall time of the kiosk, ISO 8601."""
    why: str
    segments: list[tuple[str, int, str | None]]
    """Run, number and object key, None for one that never had a key."""

    @property
    def name(self) -> str:
        """What it is called."""
        return tombstone_name(self.id)

    def document(self) -> dict[str, Any]:
        """What is signed."""
        return {"version": VERSION, **asdict(self), "segments": [list(each) for each in self.segments]}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Tombstone:
        """Understand a document. Raises ValueError for one that isn't a tombstone of this version."""
        try:
            if document["version"] != VERSION:
                raise ValueError(f"it is of version {document['version']!r}, this release reads {VERSION}")
            segments = [
                (str(run), int(seq), None if key is None else str(key)) for run, seq, key in document["segments"]
            ]
            site, device, name, at, why = (str(document[part]) for part in ("site", "device", "id", "at", "why"))
            return cls(site, device, name, at, why, segments)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it isn't a tombstone: {error!r}") from error


def tombstone_name(order: str) -> str:
    """What the tombstone of an order is called in `custody/`."""
    return f"erase-{order}.json"


def tombstone_id(name: str) -> str | None:
    """The order that something in `custody/` is a tombstone of by its name; None when it's called otherwise."""
    match = _TOMBSTONE.fullmatch(name)
    return match["id"] if match else None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an admin keeps of a device: the public half of its key. Believed because a person carried it."""

    site: str
    device: str
    key: str
    """"ed25519:…"."""
    made: str
    """When the file was written, ISO 8601, by the kiosk's clock."""

    def text(self) -> str:
        """The file."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> Enrolment:
        """Read such a file. Raises ValueError."""
        try:
            found = json.loads(text)
            enrolment = cls(*(str(found[name]) for name in ("site", "device", "key", "made")))
            version = found["version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError("it isn't an enrolment file") from error
        if version != VERSION:
            raise ValueError(f"it is of version {version!r}, this release reads {VERSION}")
        if not (is_name(enrolment.site) and is_name(enrolment.device)):
            raise ValueError("its site and device can't be names")
        if not is_public_key(enrolment.key):
            raise ValueError(f"its key isn't a public key ({PREFIX}…)")
        return enrolment
