"""The flag document, and which variants it gives to a kiosk (DESIGN §9, docs/FLAGS.md).

It is flagd's JSON, the body of what is signed. What counts in it was checked before it is believed, so that no
kiosk finds something to stumble over that the admin's own check didn't find.

    {"metadata": {"version": 7, "issued": "2026-03-01T08:00:00Z"},
     "flags": {"offline_recording": {"state": "ENABLED",
                                     "variants": {"on": true, "off": false},
                                     "defaultVariant": "off",
                                     "targeting": {"if": [{"in": ["internal", {"var": "groups"}]}, "on"]}}}}
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agent.contract.flags import FLAGS, Flag
from agent.contract.signed import LONGEST_BYTES, Refused
from agent.contract.targeting import VERSION, Place, check, refuse

LONGEST_TEXT_BYTES: Final = LONGEST_BYTES["flags"] // 2 - 512
"""Of the document itself: signed, it becomes a text within a text, which at most doubles it."""

HIGHEST_VERSION: Final = 2**53 - 1
"""Beyond it not everybody's JSON tells two numbers apart."""

_KNOWN_KEYS: Final = ("state", "variants", "defaultVariant", "targeting", "metadata")
_STATES: Final = ("ENABLED", "DISABLED")
_MOST_NOTED: Final = 5
_LONGEST_TIME: Final = 40


@dataclass(frozen=True, slots=True)
class FlagDocument:
    """One that was checked."""

    version: int
    """Only grows: an older document never takes the place of a newer one."""
    issued: str
    """When it was made, as its metadata says; "" where they don't."""
    flags: Mapping[str, Mapping[str, Any]]
    """What flagd is asked: of the flags that this release knows, only what was checked. Values are variants' names."""
    notes: tuple[str, ...] = ()
    """For a person: what was ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kiosk, as rules see it."""

    device: str
    """The `targetingKey`: which share of the fleet a kiosk is in hangs by it."""
    site: str
    groups: tuple[str, ...] = ()
    model: str = ""
    """Of the board, as it calls itself."""
    version: str = "0.0.0"
    """Of this software; one that `sem_ver` can't compare counts as 0.0.0, older than all."""


def checked(document: Mapping[str, Any]) -> FlagDocument:
    """Raises Refused (`invalid`), saying what and where, for anything that a kiosk could stumble over.

    `document` is what came out of a JSON parser. Flags that this release doesn't know are ignored with a note.
    """
    _check_size(document)
    if document.get("$evaluators"):
        refuse(("$evaluators",), "shared rules aren't understood here; write each where it is used")
    version = version_of(document)
    flags = _object(document.get("flags"), ("flags",))
    known = {name: _checked_flag(FLAGS[name], flags[name]) for name in FLAGS if name in flags}
    return FlagDocument(version, _issued(document["metadata"].get("issued")), known, _notes(document, flags))


def version_of(document: Mapping[str, Any]) -> int:
    """Which one it is, whatever else it says. Raises Refused (`invalid`)."""
    version = _object(document.get("metadata"), ("metadata",)).get("version")
    if type(version) is not int or not 1 <= version <= HIGHEST_VERSION:
        refuse(("metadata", "version"), "it is a whole number from 1, which grows with each document")
    return version


def variants(document: FlagDocument, target: Target) -> dict[str, str]:
    """The variant of every flag there is, by its name: by the document, or else the flag's own default.

    Raises Refused (`unusable`) when the evaluator fails all the same: never is a default taken for an answer.
    """
    chosen = {name: flag.default for name, flag in FLAGS.items()}
    if not document.flags:
        return chosen
    from agent.contract.flagd import evaluator

    version = target.version if VERSION.fullmatch(target.version) else "0.0.0"
    context = {"site": target.site, "groups": list(target.groups), "model": target.model, "version": version}
    found = evaluator.evaluate(document.flags, chosen, target.device, context)
    for name, variant in found.items():
        if variant not in FLAGS[name].variants:
            raise Refused("unusable", f"{name} came out as {variant!r}, which is no variant of it")
    return chosen | found


def _checked_flag(flag: Flag, found: object) -> dict[str, Any]:
    """What flagd is asked about `flag`."""
    place = ("flags", flag.name)
    told = _object(found, place)
    for key in told:
        if key not in _KNOWN_KEYS:
            near = difflib.get_close_matches(key[:40], _KNOWN_KEYS, n=1) or _KNOWN_KEYS
            refuse(place, f"there is no {key[:40]!a}", near)
    if told.get("state") not in _STATES:
        refuse((*place, "state"), "it says whether the flag counts", _STATES)
    if _object(told.get("variants"), (*place, "variants")).keys() != set(flag.variants):
        refuse((*place, "variants"), f"{flag.name} has exactly these variants: {', '.join(flag.variants)}")
    default = told.get("defaultVariant")
    if default is not None and default not in flag.variants:
        refuse((*place, "defaultVariant"), "that is no variant of it", flag.variants)
    asked = {"state": told["state"], "variants": {name: name for name in flag.variants}, "defaultVariant": default}
    rule = told.get("targeting")
    if rule is not None and rule != {}:
        check(rule, flag, (*place, "targeting"))
        asked["targeting"] = rule
    return asked


def _issued(found: object) -> str:
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > _LONGEST_TIME or not _is_time(found):
        refuse(("metadata", "issued"), 'write a time as "2026-03-01T08:00:00Z"')
    return found


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _notes(document: Mapping[str, Any], flags: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    if unknown := [name for name in flags if name not in FLAGS]:
        notes.append(f"flags that this release doesn't know are ignored: {_listed(unknown)}")
    if unknown := [name for name in document if name not in ("flags", "metadata", "$schema", "$evaluators")]:
        notes.append(f"parts of the document that this release doesn't know are ignored: {_listed(unknown)}")
    return tuple(notes)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NOTED} more" if len(names) > _MOST_NOTED else ""
    return ", ".join(ascii(name[:40])[1:-1] for name in sorted(names)[:_MOST_NOTED]) + more


def _check_size(document: Mapping[str, Any]) -> None:
    try:
        size = len(json.dumps(document, separators=(",", ":"), allow_nan=False))
    except (ValueError, TypeError, RecursionError) as error:
        raise Refused("invalid", "the document can't be written as JSON") from error
    if size > LONGEST_TEXT_BYTES:
        raise Refused("invalid", f"the document has {size} bytes; {LONGEST_TEXT_BYTES} is the most that can be signed")


def _object(found: object, place: Place) -> dict[str, Any]:
    if not isinstance(found, dict):
        refuse(place, "an object has to stand here" if found is not None else "it is missing")
    return found
