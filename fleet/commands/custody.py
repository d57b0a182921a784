"""`kiosk-fleet verify` and `heads`: the proof of custody, and what it is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.terminal import complain, counted
from fleet.broker import Address, Line
from fleet.options import AsJson, EndpointUrl, Place, Region, at_broker


def verify(
    place: Place,
    enrolment: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="What `kiosk-recorder enrol` printed, or a directory of such; repeat it."),
    ],
    heads: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="What `kiosk-fleet heads` collected; repeat it.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="SITE/DEVICE", help="Only this one.")] = "",
    read: Annotated[bool, typer.Option("--read", help="Read every object, whatever the store attests.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Only names and sizes: contents aren't proved.")] = False,
    endpoint_url: EndpointUrl = "",
    region: Region = "",
    as_json: AsJson = False,
) -> None:
    """Prove from the store that nothing is missing, altered, added or reordered, and up to when.

    Exit status: 0 all is there, 1 something isn't as it should be, 2 could not look.
    """
    from fleet import auditing
    from fleet.store import open_store
    from fleet.verifying import How

    how = How(read=read, fast=fast)
    store = open_store(place, endpoint_url, region)
    audit = auditing.Audit(store, enrolment, heads or [], device)
    raise typer.Exit(audit.run(how, as_json=as_json))


@at_broker
def heads(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Lines are appended.")],
    where: Address,
) -> None:
    """Keep where every kiosk's journal stands now, for `verify --heads`.

    Run it now and then: what a kiosk has said can't be taken back by who changes the store later.
    """
    from fleet.heads import collect

    with Line(where) as line:
        complain(f"kept {counted(collect(line, out), 'head')} in {out}")
