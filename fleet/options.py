"""How every command of the fleet finds the broker: options, the environment, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.errors import KioskError
from fleet.broker import Address

BrokerUrl = Annotated[
    str, typer.Option("--broker", envvar="KIOSK_FLEET_BROKER", metavar="URL", help="mqtts://broker:8883.")
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
    broker: str,
    ca: Path | None = None,
    cert: Path | None = None,
    cert_key: Path | None = None,
    username: str = "",
    password_file: Path | None = None,
) -> Address:
    """The broker that was meant. Raises KioskError when none was named."""
    if not broker:
        raise KioskError(
            "find broker", cause="none was named", hint="say --broker mqtts://broker:8883, or set KIOSK_FLEET_BROKER"
        )
    return Address(broker, ca, cert, cert_key, username, password_file)
