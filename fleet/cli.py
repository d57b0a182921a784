"""The command line of the fleet: arguments in, exit status out. What the commands do is in the modules beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent import __version__
from agent.contract.verbs import VERBS
from agent.errors import EXIT_GOOD, KioskError
from agent.terminal import complain, counted, lead, say, say_json
from fleet import commanding, keyring, roster
from fleet.broker import Line
from fleet.options import (
    Authority,
    BrokerUrl,
    Certificate,
    CertificateKey,
    PasswordFile,
    SigningKey,
    Username,
    address,
)

_DEBUG = "KIOSK_FLEET_DEBUG"

_PLAIN = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True}

app = typer.Typer(add_completion=False, **_PLAIN)  # type: ignore[arg-type]
keys_app = typer.Typer(**_PLAIN)  # type: ignore[arg-type]

AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON document on standard output.")]


def _example(arguments: str) -> str:
    return f"Example: kiosk-fleet {arguments}"


def _verbs_listed() -> str:
    """The table of verbs, for --help."""
    lines = []
    for verb in VERBS.values():
        takes = " ".join(f"{each.name}=…" if each.required else f"[{each.name}=…]" for each in verb.arguments)
        lines.append(f"{verb.name} {takes}".strip() + f": {verb.text}" + (" (a later release)" if verb.planned else ""))
        lines += [f"  {each.name}: {each.kind.described.replace('`', '')}; {each.text}" for each in verb.arguments]
    return "\n\n".join(["Verbs:", *lines, _example("command room-12 mute minutes=10")])


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


@app.command(epilog=_verbs_listed())
def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[DEVICE] VERB [ARGUMENT=VALUE]…", help="SITE/DEVICE or DEVICE; none with --group and --all."
        ),
    ],
    group: Annotated[str, typer.Option(help="To every kiosk of a group.", metavar="NAME")] = "",
    everybody: Annotated[bool, typer.Option("--all", help="To every kiosk the broker knows.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, metavar="SECONDS", help="For the answers; 0 doesn't wait.")
    ] = 30,
    expires: Annotated[str, typer.Option(metavar="TIME", help="From when on it doesn't count any more.")] = "5m",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask before telling many.")] = False,
    as_json: AsJson = False,
    key: SigningKey = None,
    broker: BrokerUrl = "",
    ca: Authority = None,
    cert: Certificate = None,
    cert_key: CertificateKey = None,
    username: Username = "",
    password_file: PasswordFile = None,
) -> None:
    """Tell one kiosk, a group or all what to do, and say what became of it.

    Exit status: 0 all obeyed, 1 some didn't, 2 nothing was sent.
    """
    name, verb, written = _addressed(words, to_many=bool(group) or everybody)
    if group and everybody:
        raise KioskError("command", cause="--group and --all were both given", hint="choose one")
    known, args = commanding.understood(verb, written)
    life_s = commanding.lifetime(expires)
    signer = keyring.chosen(key)
    with Line(address(broker, ca, cert, cert_key, username, password_file)) as line:
        kiosks = roster.chosen(roster.roster(line), name=name, group=group)
        if everybody and not yes:
            _ask(f"{known.name} to {counted(len(kiosks), 'kiosk')}")
        errands = commanding.send(line, kiosks, known, args, signer, life_s)
        status = EXIT_GOOD
        try:
            if wait:
                commanding.wait(line, errands, wait)
        finally:
            # Also after Ctrl-C, or when the connection is lost: what was sent can't be called back.
            status = commanding.report(errands, waited=wait > 0, as_json=as_json)
    raise typer.Exit(status)


@app.command(epilog=_example("verify s3://bucket/prefix --enrolment enrolled/ --heads heads.txt"))
def verify(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="s3://bucket/prefix, or a directory.")],
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
    endpoint_url: Annotated[str, typer.Option(metavar="URL", help="Of an S3-compatible store; else AWS.")] = "",
    region: Annotated[str, typer.Option(metavar="NAME", help="Of the bucket; else boto3's own.")] = "",
    as_json: AsJson = False,
) -> None:
    """Prove from the store that nothing is missing, altered, added or reordered, and up to when.

    Exit status: 0 all is there, 1 something isn't as it should be, 2 could not look.
    """
    from fleet import auditing

    how = auditing.How(read=read, fast=fast)
    store = auditing.open_store(place, endpoint_url, region)
    audit = auditing.Audit(store, enrolment, heads or [], device)
    raise typer.Exit(audit.run(how, as_json=as_json))


@app.command("erase-apply", epilog=_example("erase-apply s3://bucket/prefix --device north/room-12 --dry-run"))
def erase_apply(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="s3://bucket/prefix, or a directory.")],
    device: Annotated[str, typer.Option(metavar="SITE/DEVICE", help="Only this one.")] = "",
    enrolment: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Only tombstones that these devices signed; as for verify; repeat it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    endpoint_url: Annotated[str, typer.Option(metavar="URL", help="Of an S3-compatible store; else AWS.")] = "",
    region: Annotated[str, typer.Option(metavar="NAME", help="Of the bucket; else boto3's own.")] = "",
    as_json: AsJson = False,
) -> None:
    """Remove from the store what was erased on the kiosks, with your credentials.

    Reads their tombstones. Exit status: 0 nothing of it is left, 1 something had to stay, 2 could not look.
    """
    from fleet import erasing

    store = erasing.open_store(place, endpoint_url, region)
    found = list(erasing.graves(store, device, enrolment))
    there = sum(grave.fate == "present" for grave in found)
    if there and not (dry_run or yes):
        _ask(f"remove {counted(there, 'recording')} from {place}", "nothing was removed")
    told = found if dry_run else [erasing.removed(store, grave) for grave in found]
    raise typer.Exit(erasing.report(told, as_json=as_json))


@app.command(epilog=_example("heads --out heads.txt"))
def heads(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Lines are appended.")],
    broker: BrokerUrl = "",
    ca: Authority = None,
    cert: Certificate = None,
    cert_key: CertificateKey = None,
    username: Username = "",
    password_file: PasswordFile = None,
) -> None:
    """Keep where every kiosk's journal stands now, for `verify --heads`.

    Run it now and then: what a kiosk has said can't be taken back by who changes the store later.
    """
    from fleet.heads import collect

    with Line(address(broker, ca, cert, cert_key, username, password_file)) as line:
        complain(f"kept {counted(collect(line, out), 'head')} in {out}")


def _addressed(words: list[str], *, to_many: bool) -> tuple[str, str, list[str]]:
    """Device (none when it goes to many), verb and arguments. Raises KioskError."""
    if to_many:
        return "", words[0], words[1:]
    if len(words) < 2:
        raise KioskError(
            "command",
            cause="it needs a device and a verb",
            hint="kiosk-fleet command room-12 report; or --group, --all",
        )
    return words[0], words[1], words[2:]


def _ask(what: str, otherwise: str = "nothing was sent") -> None:
    """Go on only when a person says yes. Raises KioskError."""
    if sys.stdin.isatty():
        complain(f"{what}? Type yes to go on.")
        if sys.stdin.readline().strip().lower() in ("yes", "y"):
            return
    raise KioskError("go on", cause=f"nobody confirmed: {what}", hint=f"say --yes; {otherwise}")


def main() -> NoReturn:
    """Run one command and exit with its status."""
    lead(lambda: app(prog_name="kiosk-fleet"), _DEBUG)


if __name__ == "__main__":
    main()
