"""`kiosk-fleet flags set`: the next flag document, made from the one in force.

A document tells its own history: `metadata.history` holds its last changes, which kiosks pass over. As with everything
in it, whoever signed last answers for what it says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from agent.contract import evaluation
from agent.contract.flags import FLAGS, Flag
from agent.contract.keys import timestamp
from agent.contract.names import is_name
from agent.contract.rollout import Rollout
from agent.contract.signed import LONGEST_BYTES, Refused, parsed
from agent.errors import KioskError
from fleet import definitions
from fleet.control import Control
from fleet.definitions import DEFAULT, Definition, Kind
from fleet.keyring import Key
from fleet.noticeboard import Notice, Noticeboard

MOST_CHANGES: Final = 50
"""Told in a document: the oldest are dropped."""

_HIGHEST_BELIEVED: Final = 2**40
"""Of what a kiosk says: one that lies can't use all numbers up."""


def flag_called(name: str) -> Flag:
    """Raises KioskError when there is none."""
    if name not in FLAGS:
        near = get_close_matches(name, FLAGS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(FLAGS)}"
        raise KioskError("find flag", place=name[:60], cause="no flag is called so", hint=hint)
    return FLAGS[name]


def variant_of(flag: Flag, variant: str, *others: str) -> str:
    """Raises KioskError when it is neither a variant of the flag nor one of `others`."""
    if variant not in (*flag.variants, *others):
        hint = f"one of {', '.join((*flag.variants, *others))}"
        raise KioskError("find variant", place=variant[:60], cause=f"{flag.name} has no such variant", hint=hint)
    return variant


def file_read(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The flag document in a file, and notes about it. A version is not asked for. Raises KioskError."""
    try:
        with path.open("rb") as file:
            document = parsed(file.read(LONGEST_BYTES["flags"] + 1))
        metadata = document.get("metadata")
        versioned = {"version": 1} | (metadata if isinstance(metadata, dict) else {})
        found = evaluation.checked(document | {"metadata": versioned})
    except OSError as error:
        hint = "for a flag instead of a file say the variant, too: kiosk-fleet flags set FLAG VARIANT"
        raise KioskError(
            "read flag document", place=str(path), cause=error.strerror or str(error), hint=hint
        ) from error
    except Refused as refused:
        hint = "docs/FLAGS.md tells what may stand where"
        raise KioskError("read flag document", place=str(path), cause=str(refused), hint=hint) from refused
    return document, found.notes


def set_flag(
    control: Control, flag: Flag, variant: str, only: tuple[Kind, str] | None, key: Key, *, force: bool = False
) -> Notice:
    """Have a variant for all, or `only` for a group, a site or a device. Raises KioskError."""
    board, above = _board(control, force=force)
    before = in_force(board, force=force)
    check_rollout(board, {flag.name}, before, force=force)
    known = definition_in(before, flag.name)
    if only is None:
        definition, whom = definitions.for_all(flag, variant), "all"
    else:
        if not is_name(only[1]):
            raise KioskError("set flag", place=only[1][:80], cause=f"no {only[0]} can be called so")
        definition, whom = definitions.for_some(flag, known, *only, variant), " ".join(only)
    flags = replaced(before, flag.name, definition)
    if before is not None and flags == before.document["flags"]:
        raise KioskError("set flag", place=flag.name, cause=f"it is so already, by version {before.version}")
    version = board.next_version("flags", above=above)
    return publish(control, board, before, flags, f"{flag.name} {variant} for {whom}", key, version=version)


def set_document(control: Control, path: Path, key: Key, *, force: bool = False) -> Notice:
    """Have what a file says, made from the document in force. Raises KioskError."""
    document, _ = file_read(path)
    board, above = _board(control, force=force)
    before = in_force(board, force=force)
    known = before.version if before else None
    made_from = document.get("metadata", {}).get("version")
    if made_from != known and not force:
        raise KioskError(
            "set flags",
            place=str(path),
            cause=f"it was made from {_version(made_from)}, in force is {_version(known)}",
            hint="`kiosk-fleet flags show --document` gives the one in force: make your change there, or say --force",
        )
    flags = document["flags"]
    changed = {name for name in FLAGS if flags.get(name) != definition_in(before, name)}
    check_rollout(board, changed, before, force=force)
    version = board.next_version("flags", above=above)
    return publish(control, board, before, flags, f"from {path.name}", key, frame=document, version=version)


def in_force(board: Noticeboard, *, force: bool = False) -> Notice | None:
    """The document there; with `force` one that can't be believed is as none. Raises KioskError."""
    try:
        return board.flags()
    except KioskError:
        if force:
            return None
        raise


def check_rollout(board: Noticeboard, changed: set[str], before: Notice | None, *, force: bool) -> None:
    """Raises KioskError where a change would cross a roll-out, unless it has to be."""
    if force:
        return
    found = board.rollout()
    if found is None or not found[1].under_way:
        return
    rollout = found[1]
    if rollout.flag in changed:
        raise KioskError(
            "set flag",
            place=rollout.flag,
            cause=f"a roll-out of {rollout.variant} is under way, in phase {rollout.current.name}",
            hint="`kiosk-fleet rollout rollback` ends it; --force sets the flag all the same",
        )
    if rollout.flags_version > (before.version if before else 0):
        raise KioskError(
            "set flag",
            place=f"version {rollout.flags_version}",
            cause="a step of the roll-out was interrupted before its flag document was published",
            hint="`kiosk-fleet rollout advance` or `rollback` finishes it; --force goes on all the same",
        )


def publish(
    control: Control,
    board: Noticeboard,
    before: Notice | None,
    flags: Mapping[str, Any],
    what: str,
    key: Key,
    *,
    frame: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> Notice:
    """Sign and publish the next document. `frame` has what stands beside `flags`. Raises KioskError."""
    issued = timestamp(control.now_ns())
    version = version or board.next_version("flags")
    change = {"version": version, "issued": issued, "by": key.public, "what": what[:200]}
    history = [*changes(before), change][-MOST_CHANGES:]
    frame = frame if frame is not None else before.document if before else {}
    metadata = {**frame.get("metadata", {}), "version": version, "issued": issued, "history": history}
    document = {**frame, "metadata": metadata, "flags": dict(flags)}
    try:
        evaluation.checked(document)
    except Refused as refused:
        raise KioskError("publish flag document", place=f"version {version}", cause=str(refused)) from refused
    return board.post("flags", document, key)


def changes(notice: Notice | None) -> list[dict[str, Any]]:
    """The history that a document tells, oldest first; what isn't an entry of it is passed over."""
    found = notice.document["metadata"].get("history") if notice else None
    return [
        entry
        for entry in (found if isinstance(found, list) else [])
        if isinstance(entry, dict)
        and type(entry.get("version")) is int
        and all(isinstance(entry.get(name), str) for name in ("issued", "by", "what"))
    ]


def definition_in(notice: Notice | None, flag: str) -> Definition:
    """What a document says of a flag."""
    return notice.document["flags"].get(flag) if notice else None


def replaced(notice: Notice | None, flag: str, definition: Definition) -> dict[str, Any]:
    """The flags of a document with one of them defined anew."""
    flags = dict(notice.document["flags"]) if notice else {}
    flags.pop(flag, None)
    return flags if definition is None else flags | {flag: definition}


def in_words(definition: Definition) -> str:
    """One line for a person."""
    if definition is None:
        return "every kiosk its own default"
    if definition["state"] == "DISABLED":
        return "disabled: every kiosk its own default"
    default = definition.get("defaultVariant") or DEFAULT
    rule = definition.get("targeting")
    return f"{default} for all" if not rule else f"{json.dumps(rule)}, else {default}"


def rollout_of(board: Noticeboard) -> Rollout | None:
    """The newest roll-out. Raises KioskError."""
    found = board.rollout()
    return None if found is None else found[1]


def _board(control: Control, *, force: bool) -> tuple[Noticeboard, int]:
    """The documents; with `force` also the highest version that a connected kiosk tells of: it has to be passed."""
    if not force:
        return control.board(), 0
    board, kiosks = control.fleet()
    # Whoever tells of a version near the end of all numbers isn't followed there.
    told = (each.flags_version or 0 for each in kiosks)
    return board, max((version for version in told if version < _HIGHEST_BELIEVED), default=0)


def _version(number: object) -> str:
    return f"version {number}" if type(number) is int else "none"
