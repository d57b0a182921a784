"""The command line of the fleet: arguments in, exit status out. What the commands do is in the modules beside it."""

from __future__ import annotations

import os
from typing import Annotated, NoReturn

import typer

from agent import __version__
from agent.terminal import complain, lead, say, say_json
from fleet import keyring

_DEBUG = "KIOSK_FLEET_DEBUG"

_PLAIN = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True}

app = typer.Typer(add_completion=False, **_PLAIN)  # type: ignore[arg-type]
keys_app = typer.Typer(**_PLAIN)  # type: ignore[arg-type]

AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON document on standard output.")]


def _example(arguments: str) -> str:
    return f"Example: kiosk-fleet {arguments}"


app.add_typer(keys_app, name="keys", help="Make and list signing keys.", epilog=_example("keys make alice"))


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"kiosk-fleet {__version__}")
        raise typer.Exit


@app.callback(epilog=_example("keys make alice"))
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


@keys_app.command("make", epilog=_example("keys make alice"))
def keys_make(name: Annotated[str, typer.Argument(help="Lower-case letters, digits, hyphens.")]) -> None:
    """Make a signing key and print its public half.

    The secret half stays in one file that you alone can read: back it up, it can't be made again.
    """
    where = keyring.directory()
    key = keyring.make(where, name)
    say(key.public)
    complain(
        f"made {where / f'{name}.key'}\n"
        f'  → kiosks listen to it when config.toml has: [commands] admin_keys = ["{key.public}"]'
    )


@keys_app.command("list", epilog=_example("keys list --json"))
def keys_list(as_json: AsJson = False) -> None:
    """List the signing keys of this user: name and public half."""
    where = keyring.directory()
    found = {key.name: key.public for key in keyring.every(where)}
    if as_json:
        say_json(found)
        return
    for name, public in found.items():
        say(f"{name:20} {public}")
    if not found:
        complain(f"no keys in {where}\n  → `kiosk-fleet keys make NAME` makes one")


def main() -> NoReturn:
    """Run one command and exit with its status."""
    lead(lambda: app(prog_name="kiosk-fleet"), _DEBUG)


if __name__ == "__main__":
    main()
