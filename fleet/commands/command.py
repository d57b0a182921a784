"""`kiosk-fleet command`."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.contract.verbs import VERBS
from agent.errors import EXIT_GOOD, KioskError
from agent.terminal import counted
from fleet import commanding, keyring, roster
from fleet.broker import Address, Line
from fleet.options import AsJson, SigningKey, at_broker, confirm, example


def verbs_listed() -> str:
    """The table of verbs, for --help."""
    lines = []
    for verb in VERBS.values():
        takes = " ".join(f"{each.name}=…" if each.required else f"[{each.name}=…]" for each in verb.arguments)
        lines.append(f"{verb.name} {takes}".strip() + f": {verb.text}")
        lines += [f"  {each.name}: {each.kind.described.replace('`', '')}; {each.text}" for each in verb.arguments]
    return "\n\n".join(["Verbs:", *lines, example("command room-12 mute minutes=10")])


@at_broker
def command(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[DEVICE] VERB [ARGUMENT=VALUE]…", help="SITE/DEVICE or DEVICE; none with --group and --all."
        ),
    ],
    where: Address,
    group: Annotated[str, typer.Option(help="To every kiosk of a group.", metavar="NAME")] = "",
    everybody: Annotated[bool, typer.Option("--all", help="To every kiosk the broker knows.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, metavar="SECONDS", help="For the answers; 0 doesn't wait.")
    ] = 30,
    expires: Annotated[str, typer.Option(metavar="TIME", help="From when on it doesn't count any more.")] = "5m",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask before telling many.")] = False,
    as_json: AsJson = False,
    key: SigningKey = None,
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
    with Line(where) as line:
        kiosks = roster.chosen(roster.roster(line), name=name, group=group)
        if everybody:
            confirm("command", f"{known.name} to {counted(len(kiosks), 'kiosk')}", yes=yes)
        errands = commanding.send(line, kiosks, known, args, signer, life_s)
        status = EXIT_GOOD
        try:
            if wait:
                commanding.wait(line, errands, wait)
        finally:
            # Also after Ctrl-C, or when the connection is lost: what was sent can't be called back.
            status = commanding.report(errands, waited=wait > 0, as_json=as_json)
    raise typer.Exit(status)


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
