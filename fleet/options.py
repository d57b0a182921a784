"""What the commands of the fleet have in common: how they find the broker, whose key signs, and how they ask."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from agent.errors import KioskError
from agent.terminal import complain
from fleet.broker import Address

PLAIN: Final[dict[str, Any]] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "no_args_is_help": True,
}
"""Of every Typer. Without rich: formatting help with it takes longer than all else a short command does."""

AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON document on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]

Place = Annotated[str, typer.Argument(metavar="PLACE", help="s3://bucket/prefix, or a directory.")]
EndpointUrl = Annotated[str, typer.Option(metavar="URL", help="Of an S3-compatible store; else AWS.")]
Region = Annotated[str, typer.Option(metavar="NAME", help="Of the bucket; else boto3's own.")]

BrokerUrl = Annotated[
    str, typer.Option("--broker", envvar="KIOSK_FLEET_BROKER", metavar="URL", help="mqtts://broker:8884.")
]
Authority = Annotated[
    Path | None,
    typer.Option("--ca", envvar="KIOSK_FLEET_CA", metavar="FILE", help="Authority of its certificate."),
]
Certificate = Annotated[
    Path | None, typer.Option("--cert", envvar="KIOSK_FLEET_CERT", metavar="FILE", help="Your own certificate.")
]
CertificateKey = Annotated[
    Path | None, typer.Option("--cert-key", envvar="KIOSK_FLEET_CERT_KEY", metavar="FILE", help="The key of --cert.")
]
Username = Annotated[str, typer.Option("--username", envvar="KIOSK_FLEET_USERNAME", help="Your name there.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option("--password-file", envvar="KIOSK_FLEET_PASSWORD_FILE", metavar="FILE", help="Its first line counts."),
]
SigningKey = Annotated[
    str | None,
    typer.Option("--key", metavar="NAME", help="Signing key, or its file; else $KIOSK_FLEET_KEY, else the only one."),
]


def address(
    broker: str = "",
    ca: Path | None = None,
    cert: Path | None = None,
    cert_key: Path | None = None,
    username: str = "",
    password_file: Path | None = None,
) -> Address:
    """The broker that was meant. Raises KioskError when none was named."""
    if not broker:
        raise KioskError(
            "find broker", cause="none was named", hint="say --broker mqtts://broker:8884, or set KIOSK_FLEET_BROKER"
        )
    return Address(broker, ca, cert, cert_key, username, password_file)


def at_broker(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command, which takes the address of a broker as `where`, the options that name one."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "where"]
    options = inspect.signature(address, eval_str=True).parameters
    shown = [each.replace(annotation=_OPTIONS[each.name], kind=each.KEYWORD_ONLY) for each in options.values()]

    @functools.wraps(command)
    def run(**given: Any) -> None:  # noqa: ANN401 (whatever Typer read)
        where = address(**{name: given.pop(name) for name in options})
        command(**given, where=where)

    parameters = [*(each.replace(kind=each.KEYWORD_ONLY) for each in own), *shown]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def example(arguments: str) -> str:
    """For the end of --help."""
    return f"Example: kiosk-fleet {arguments}"


def confirm(operation: str, what: str, *, yes: bool) -> None:
    """Go on only when a person says yes, or did with --yes. Raises KioskError."""
    if yes:
        return
    if sys.stdin.isatty():
        complain(f"{what}? Type yes to go on.")
        if sys.stdin.readline().strip().lower() in ("yes", "y"):
            return
    raise KioskError(operation, cause=f"nobody confirmed: {what}", hint="say --yes; nothing was done")


_OPTIONS: Final = {
    "broker": BrokerUrl,
    "ca": Authority,
    "cert": Certificate,
    "cert_key": CertificateKey,
    "username": Username,
    "password_file": PasswordFile,
}
