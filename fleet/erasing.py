"""Tombstones carried out: what was erased on a kiosk is removed from the store, where the kiosk itself may not.

A tombstone counts for the device under whose prefix it lies and names that device's recordings alone: one that names
anything else is refused there, and told of. Nothing is remembered: what is gone is gone, so it can be repeated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from agent.contract.custody import Tombstone, custody_prefix, tombstone_id
from agent.contract.keys import device_prefix, recording_of
from agent.contract.names import is_name
from agent.contract.signed import LONGEST_BYTES, Refused, opened, parsed
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD, KioskError
from agent.terminal import complain, counted, say, say_json_list
from fleet.store import Store
from fleet.verifying import enrolments

Fate = Literal["present", "removed", "absent", "refused"]
_OWN_NAME: Final = 2
_PLACE: Final = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[^/]+")
"""Of a recording below its device's prefix. Whole: a key that goes up and down again isn't of this device."""


@dataclass(frozen=True, slots=True)
class Grave:
    """One thing that a tombstone names."""

    device: str
    """SITE/DEVICE, by where the tombstone lies."""
    tombstone: str
    """Its key."""
    key: str
    """What is to be removed; empty when the tombstone itself is refused."""
    fate: Fate
    why: str
    """Why it was erased, or why it is refused."""


def graves(store: Store, device: str, enrolled: Iterable[Path] | None) -> Iterator[Grave]:
    """Everything that tombstones of one device, or all, name. Raises KioskError when the store can't be read."""
    known = None if enrolled is None else enrolments(enrolled)
    for site, name in _devices(store, device):
        keys = None if known is None else known.get((site, name), set())
        named: dict[tuple[str, int], Grave] = {}
        yield from _refused(store, site, name, keys, named)
        yield from _there(store, device_prefix(store.prefix, site, name) + "/", named)


def removed(store: Store, grave: Grave, *, bypass_governance: bool = False) -> Grave:
    """What became of it. A store that refuses is told of with it."""
    if grave.fate != "present":
        return grave
    try:
        store.remove(grave.key, bypass_governance=bypass_governance)
    except KioskError as error:
        return replace(grave, fate="refused", why=str(error))
    return replace(grave, fate="removed")


def report(found: list[Grave], *, as_json: bool) -> int:
    """Say it. The exit status."""
    if as_json:
        say_json_list(asdict(grave) for grave in found)
    else:
        for grave in found:
            said = "to go" if grave.fate == "present" else grave.fate
            say(f"{said:8}  {grave.key or grave.tombstone}" + (f"  ({grave.why})" if grave.why else ""))
        told = Counter(grave.fate for grave in found)
        counts = ", ".join(f"{count} {'to go' if fate == 'present' else fate}" for fate, count in sorted(told.items()))
        complain(
            f"{counted(len(found), 'recording')} erased on kiosks: {counts}" if found else "no tombstone names any"
        )
    return EXIT_FOUND_WRONG if any(grave.fate == "refused" for grave in found) else EXIT_GOOD


def _devices(store: Store, device: str) -> list[tuple[str, str]]:
    if device:
        parts = device.split("/")
        if len(parts) != _OWN_NAME or not all(map(is_name, parts)):
            raise KioskError("erase", place=f"--device {device}", cause="it isn't one", hint="write SITE/DEVICE")
        return [(parts[0], parts[1])]
    prefix = f"{store.prefix}/" if store.prefix else ""
    sites = filter(is_name, store.below(prefix))
    return [(site, name) for site in sites for name in filter(is_name, store.below(f"{prefix}{site}/"))]


def _read(payload: bytes, keys: Collection[str] | None) -> Tombstone:
    """Raises Refused or ValueError."""
    if keys is not None:
        return Tombstone.read(opened("tombstone", payload, keys).document)
    if len(payload) > LONGEST_BYTES["tombstone"]:
        raise Refused("malformed", "it is too long")
    text = parsed(payload).get("signed")
    if not isinstance(text, str):
        raise Refused("malformed", "it isn't a tombstone")
    return Tombstone.read(parsed(text))


def _refused(
    store: Store,
    site: str,
    device: str,
    keys: Collection[str] | None,
    named: dict[tuple[str, int], Grave],
) -> Iterator[Grave]:
    """What of a device's tombstones is refused; the rest goes into `named`, by run and number."""
    prefix = custody_prefix(store.prefix, site, device)
    own = device_prefix(store.prefix, site, device) + "/"
    for found in store.walk(f"{prefix}erase-"):
        if not tombstone_id(found.key.removeprefix(prefix)):
            continue
        grave = Grave(f"{site}/{device}", found.key, "", "refused", "")
        try:
            tombstone = _read(store.read(found.key, LONGEST_BYTES["tombstone"] + 1), keys)
        except (Refused, ValueError) as error:
            yield replace(grave, why=str(error))
            continue
        if (tombstone.site, tombstone.device, prefix + tombstone.name) != (site, device, found.key):
            yield replace(grave, why=f"it is {tombstone.site}/{tombstone.device}'s {tombstone.name}")
            continue
        for run, seq, key in tombstone.segments:
            if key is not None and _recording_below(own, key) != (run, seq):
                yield replace(grave, key=key, why="the tombstone names what isn't this recording of this device")
            else:
                named.setdefault((run, seq), replace(grave, key=key or "", fate="absent", why=tombstone.why))


def _there(store: Store, own: str, named: Mapping[tuple[str, int], Grave]) -> Iterator[Grave]:
    """Each object of what was named, wherever it lies below the device's prefix, and what no object is left of.

    After a lost ledger a recording may lie there twice, and the kiosk knows one key of it or none.
    """
    present = set()
    for key in store.everything(own) if named else ():
        recording = _recording_below(own, key)
        grave = named.get(recording) if recording is not None else None
        if grave is not None:
            present.add(recording)
            yield replace(grave, key=key, fate="present")
    for recording, grave in named.items():
        if recording not in present and grave.key:
            yield grave


def _recording_below(own: str, key: str) -> tuple[str, int] | None:
    """Run and number of a recording of the device whose prefix is `own`; None for any other key."""
    if not key.startswith(own) or not _PLACE.fullmatch(key.removeprefix(own)):
        return None
    told = recording_of(key)
    return told and told[:2]
