"""How flag documents are shown, to people and to programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from agent.contract.flags import FLAGS
from agent.errors import EXIT_FOUND_WRONG, EXIT_GOOD
from agent.terminal import complain, counted, in_utc, painter, say, say_json
from fleet import flagging
from fleet.control import Control
from fleet.definitions import Kind
from fleet.flagging import definition_in, in_words
from fleet.noticeboard import Notice
from fleet.pictures import Picture

_MOST_NAMED = 10


def show(notice: Notice | None, kiosks: Sequence[Picture], *, as_json: bool) -> int:
    """The document in force and who has what by it; the exit status: 1 when kiosks that are connected lag behind."""
    behind = laggards(notice, kiosks)
    if as_json:
        say_json(_document(notice, kiosks, behind))
    else:
        _tell(notice, kiosks, behind)
    return EXIT_FOUND_WRONG if behind else EXIT_GOOD


def laggards(notice: Notice | None, kiosks: Sequence[Picture]) -> dict[str, int | None]:
    """The kiosks that tell of another version than that in force, and which: None is no document at all."""
    if notice is None:
        return {}
    return {
        each.name: each.flags_version
        for each in kiosks
        if each.variants is not None and each.flags_version != notice.version
    }


def having(kiosks: Sequence[Picture], flag: str) -> dict[str, list[str]]:
    """The names of those that tell of each variant; under "silent" those that tell nothing."""
    found: dict[str, list[str]] = {variant: [] for variant in (*FLAGS[flag].variants, "silent")}
    for each in kiosks:
        found.setdefault(each.has(flag) or "silent", []).append(each.name)
    return found


def stray(only: tuple[Kind, str], kiosks: Sequence[Picture]) -> str:
    """A note that an exception is for nobody whom the broker knows; empty when it is for somebody."""
    kind, name = only
    targets = [each.target for each in kiosks]
    known: dict[Kind, set[str]] = {
        "group": {group for each in targets for group in each.groups},
        "site": {each.site for each in targets},
        "device": {each.device for each in targets},
    }
    if name in known[kind]:
        return ""
    near = get_close_matches(name, sorted(known[kind]), n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"note: this broker knows no kiosk of {kind} {name} yet{meant}"


def history(control: Control, notice: Notice | None, *, as_json: bool) -> int:
    """What was changed, as the document in force tells it; the exit status."""
    changes = flagging.changes(notice)
    if as_json:
        say_json([{**change, "by": control.name_of(change["by"])} for change in changes])
        return EXIT_GOOD
    for change in changes:
        issued = in_utc(change["issued"])
        say(f"{issued}  {change['version']:>4}  {control.name_of(change['by']):12}  {change['what']}")
    if not changes:
        complain("no changes are told\n  → `kiosk-fleet flags set` makes one")
    return EXIT_GOOD


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _tell(notice: Notice | None, kiosks: Sequence[Picture], behind: Mapping[str, int | None]) -> None:
    paint = painter()
    if notice is None:
        say("no flag document: every kiosk has its own defaults")
    else:
        issued = in_utc(str(notice.document["metadata"].get("issued", "")))
        say(f"flag document {paint(f'version {notice.version}', 'bold')}, signed by {notice.signer}, {issued}")
    for name in FLAGS:
        say(f"{paint(name, 'bold')}: {in_words(definition_in(notice, name))}")
        environment = {each.name for each in kiosks if name in each.by_environment}
        for variant, names in having(kiosks, name).items():
            own = sum(each in environment for each in names)
            by = f" ({own} by their environment)" if own else ""
            if names or variant != "silent":
                say(f"  {variant:8} {counted(len(names), 'kiosk')}{by}")
    newer = [name for name, version in behind.items() if notice and (version or 0) > notice.version]
    if behind:
        say(paint(f"not at version {notice.version if notice else 0}:", "yellow"))
        for name, version in list(behind.items())[:_MOST_NAMED]:
            say(f"  {name}  {'no document counts there' if version is None else f'version {version}'}")
        if len(behind) > _MOST_NAMED:
            say(f"  and {len(behind) - _MOST_NAMED} more")
    if newer:
        complain(
            "kiosks have a newer document than the broker: it lost its memory, or was given an old one\n"
            "  → `kiosk-fleet flags set … --force` publishes one above theirs"
        )


def _document(notice: Notice | None, kiosks: Sequence[Picture], behind: Mapping[str, int | None]) -> dict[str, Any]:
    return {
        "version": notice.version if notice else None,
        "signed_by": notice.signer if notice else None,
        "document": notice.document if notice else None,
        "kiosks": {
            name: having(kiosks, name)
            | {"by_environment": [each.name for each in kiosks if name in each.by_environment]}
            for name in FLAGS
        },
        "behind": dict(behind),
    }
