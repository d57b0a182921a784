"""`kiosk-fleet erase-apply`: what was erased on kiosks goes from the store, too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.errors import KioskError
from agent.terminal import counted
from fleet.options import AsJson, EndpointUrl, Place, Region, Yes, confirm


def erase_apply(
    place: Place,
    device: Annotated[str, typer.Option(metavar="SITE/DEVICE", help="Only this one.")] = "",
    enrolment: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="What `kiosk-recorder enrol` printed, or a directory of such; repeat it."),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Instead: any tombstone that lies there; for kiosks without a key.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    bypass_governance: Annotated[
        bool,
        typer.Option(
            "--bypass-governance",
            help="Also what Object Lock protects in that mode; needs s3:BypassGovernanceRetention.",
        ),
    ] = False,
    yes: Yes = False,
    endpoint_url: EndpointUrl = "",
    region: Region = "",
    as_json: AsJson = False,
) -> None:
    """Remove from the store what was erased on the kiosks, with your credentials.

    Reads their tombstones. Exit status: 0 nothing of it is left, 1 something had to stay, 2 could not look.
    """
    from fleet import erasing
    from fleet.store import open_store

    if bool(enrolment) == unsigned:
        raise KioskError(
            "erase",
            cause="whose tombstones count?",
            hint="give the kiosks' --enrolment; or --unsigned, and whoever can write there has you erase",
        )
    store = open_store(place, endpoint_url, region)
    found = list(erasing.graves(store, device, None if unsigned else enrolment))
    there = sum(grave.fate == "present" for grave in found)
    if there and not dry_run:
        confirm("erase", f"remove {counted(there, 'recording')} from {place}", yes=yes)
    told = found if dry_run else [erasing.removed(store, grave, bypass_governance=bypass_governance) for grave in found]
    raise typer.Exit(erasing.report(told, as_json=as_json))
