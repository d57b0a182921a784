"""The command line of the fleet, put together. The commands are in `fleet.commands`, what they do beside it."""

from __future__ import annotations

import os
from typing import Annotated, NoReturn

import typer

from agent import __version__
from agent.terminal import lead, say
from fleet.commands import command, custody, erasing, flags, keys, rollout
from fleet.options import PLAIN, example

_DEBUG = "KIOSK_FLEET_DEBUG"

app = typer.Typer(add_completion=False, **PLAIN)
app.add_typer(keys.app, name="keys", help="Make and list signing keys.", epilog=example("keys make alice"))
app.command(name="command", epilog=command.verbs_listed())(command.command)
app.add_typer(
    flags.app, name="flags", help="Choose feature flags for kiosks.", epilog=example("flags set offline_recording on")
)
app.add_typer(
    rollout.app,
    name="rollout",
    help="Give a variant of a flag to the fleet in phases, and take it back at once.",
    epilog=example("rollout start offline_recording off"),
)
app.command("verify", epilog=example("verify s3://bucket/prefix --enrolment enrolled/ --heads heads.txt"))(
    custody.verify
)
app.command("erase-apply", epilog=example("erase-apply s3://bucket/prefix --enrolment enrolled/ --dry-run"))(
    erasing.erase_apply
)
app.command("heads", epilog=example("heads --out heads.txt"))(custody.heads)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"kiosk-fleet {__version__}")
        raise typer.Exit


@app.callback(epilog=example("keys make alice"))
def common(
    version: Annotated[  # noqa: ARG001 (its callback does it)
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show where in the program an error came from; as {_DEBUG}=1.")
    ] = False,
) -> None:
    """Watches and steers a fleet of kiosks over MQTT.

    Exit status: 0 good, 1 found something wrong, 2 could not run.
    """
    if debug:
        os.environ[_DEBUG] = "1"


def main() -> NoReturn:
    """Run one command and exit with its status."""
    lead(lambda: app(prog_name="kiosk-fleet"), _DEBUG)


if __name__ == "__main__":
    main()
