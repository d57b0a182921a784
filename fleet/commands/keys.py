"""`kiosk-fleet keys`: signing keys of one's own, and whose word counts besides."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.terminal import complain, say, say_json
from fleet import keyring
from fleet.options import PLAIN, AsJson, example

app = typer.Typer(**PLAIN)


@app.command("make", epilog=example("keys make alice"))
def make(name: Annotated[str, typer.Argument(help="Lower-case letters, digits, hyphens.")]) -> None:
    """Make a signing key and print its public half.

    The secret half stays in one file that you alone can read: back it up, it can't be made again.
    """
    where = keyring.directory()
    key = keyring.make(where, name)
    say(key.public)
    complain(
        f"made {where / f'{name}.key'}\n"
        f'  → kiosks listen to it when config.toml has: [commands] admin_keys = ["{key.public}"]\n'
        f'    and, for feature flags: [flags] keys = ["{key.public}"]'
    )


@app.command("trust", epilog=example("keys trust bob ed25519:…"))
def trust(
    name: Annotated[str, typer.Argument(help="What you call this colleague.")],
    public: Annotated[str, typer.Argument(metavar="KEY", help="The public half, as `keys list` tells them.")],
) -> None:
    """Believe the flag and roll-out documents that a colleague signs."""
    say(f"{keyring.trust(keyring.directory(), name, public)}")


@app.command("list", epilog=example("keys list --json"))
def listing(as_json: AsJson = False) -> None:
    """List the signing keys of this user, and those of colleagues: name and public half."""
    where = keyring.directory()
    own = {key.public for key in keyring.every(where)}
    found = {name: public for public, name in keyring.trusted(where).items()}
    if as_json:
        say_json(found)
        return
    for name, public in found.items():
        say(f"{name:20} {public}{'' if public in own else ' (a colleague)'}")
    if not found:
        complain(f"no keys in {where}\n  → `kiosk-fleet keys make NAME` makes one")
