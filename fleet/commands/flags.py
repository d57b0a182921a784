"""`kiosk-fleet flags`: what is in force, whether a file would do, the next document, the last ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.contract.flags import FLAGS
from agent.errors import KioskError
from agent.terminal import complain, say, say_json
from fleet import flagging, flags_view, keyring
from fleet.broker import Address
from fleet.control import control
from fleet.definitions import DEFAULT, Kind
from fleet.options import PLAIN, AsJson, SigningKey, at_broker, example

app = typer.Typer(**PLAIN)

_SET = """Examples:

kiosk-fleet flags set offline_recording off --group internal

kiosk-fleet flags set offline_recording default --group internal (takes that back)

kiosk-fleet flags show --document > flags.json; edit it; kiosk-fleet flags set flags.json"""


@app.command("show", epilog=example("flags show --json"))
@at_broker
def show(
    where: Address,
    document: Annotated[bool, typer.Option("--document", help="The flag document alone, to be edited.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the document in force, and which kiosks have which variant.

    Exit status: 0 all that are connected have it, 1 some lag behind, 2 could not run.
    """
    with control(where) as fleet:
        board, kiosks = fleet.fleet()
        notice = board.flags()
        if document:
            say_json(notice.document if notice else {"metadata": {}, "flags": {}})
            return
        status = flags_view.show(notice, kiosks, as_json=as_json)
    raise typer.Exit(status)


@app.command("validate", epilog=example("flags validate flags.json"))
def validate(
    file: Annotated[Path, typer.Argument(help="A flag document, as docs/FLAGS.md has them.")], as_json: AsJson = False
) -> None:
    """Check a flag document as kiosks do, without a broker.

    Exit status: 0 it is good, 2 it isn't.
    """
    _, notes = flagging.file_read(file)
    if as_json:
        say_json({"good": True, "notes": list(notes)})
        return
    say(f"{file}: good")
    for note in notes:
        complain(f"note: {note}")


@app.command("set", epilog=_SET)
@at_broker
def set_(
    what: Annotated[str, typer.Argument(metavar="FLAG|FILE", help="A flag, or a flag document.")],
    where: Address,
    variant: Annotated[
        str, typer.Argument(metavar="[VARIANT]", help=f"Of the flag; `{DEFAULT}`: as if nobody had chosen.")
    ] = "",
    group: Annotated[str, typer.Option(metavar="NAME", help="For the kiosks of a group alone.")] = "",
    site: Annotated[str, typer.Option(metavar="NAME", help="For a site alone.")] = "",
    device: Annotated[str, typer.Option(metavar="NAME", help="For one kiosk alone.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also across a roll-out, or over a document that can't be believed.")
    ] = False,
    as_json: AsJson = False,
    key: SigningKey = None,
) -> None:
    """Choose a variant for all kiosks, or for some; or publish a file.

    The version grows by itself. For all: exceptions that were made before are dropped. A file has to be made from the
    document in force.
    """
    only = _only(group, site, device)
    signer = keyring.chosen(key)
    note = ""
    with control(where) as fleet:
        if variant:
            flag = flagging.flag_called(what)
            chosen = flagging.variant_of(flag, variant, DEFAULT)
            # Not refused: a kiosk may get its exception before it is there.
            note = "" if only is None or variant == DEFAULT else flags_view.stray(only, fleet.fleet()[1])
            notice = flagging.set_flag(fleet, flag, chosen, only, signer, force=force)
        elif what in FLAGS:
            raise KioskError("set flag", place=what, cause="to which variant?", hint=f"kiosk-fleet flags set {what} …")
        elif only is not None:
            raise KioskError("set flags", place=what, cause="a file says for itself whom it is for")
        else:
            notice = flagging.set_document(fleet, Path(what), signer, force=force)
        told = flagging.changes(notice)[-1]["what"]
    if note:
        complain(note)
    if as_json:
        say_json({"version": notice.version, "what": told})
        return
    say(f"version {notice.version}: {told}")


@app.command("history", epilog=example("flags history"))
@at_broker
def history(where: Address, as_json: AsJson = False) -> None:
    """Show the last changes, as the document in force tells them."""
    with control(where) as fleet:
        status = flags_view.history(fleet, fleet.board().flags(), as_json=as_json)
    raise typer.Exit(status)


def _only(group: str, site: str, device: str) -> tuple[Kind, str] | None:
    kinds: dict[Kind, str] = {"group": group, "site": site, "device": device}
    named = [(kind, name) for kind, name in kinds.items() if name]
    if len(named) > 1:
        raise KioskError("set flag", cause="--group, --site and --device exclude each other", hint="choose one")
    return named[0] if named else None
