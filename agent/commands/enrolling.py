"""`kiosk-recorder enrol`: the device's signing key, and the file by which an admin believes it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

from agent.contract import seeds
from agent.contract.custody import Enrolment
from agent.contract.keys import timestamp
from agent.contract.signed import public_key
from agent.errors import EXIT_GOOD, KioskError
from agent.settings import Settings
from agent.spool import replace_file
from agent.terminal import complain, say
from hw.clock import SystemClock

_SIGNER: Final = "kiosk-courier"
"""The account that signs, where there is one."""


def enrol(settings: Settings, out: Path | None) -> int:
    """Make the key unless there is one, and write the enrolment file to `out` or standard output. Raises KioskError."""
    path = settings.custody.key
    if path is None:
        raise KioskError("enrol", cause="`custody.key` names no key", hint="name one, or leave that key out")
    made = not path.exists()
    seed = seeds.make(path, owner=_owner()) if made else seeds.load(path, "look who owns it")
    device = settings.device
    enrolment = Enrolment(device.site, device.id, public_key(seed), timestamp(SystemClock().wall_ns()))
    if out is None:
        say(enrolment.text().rstrip())
    else:
        _write(out, enrolment)
    where = f"; {out} is for the admin" if out else ""
    complain(f"{'made' if made else 'kept'} the key of {device.site}/{device.id}, {path}{where}")
    if made:
        complain("  → restart the courier, and keep the enrolment file where no kiosk and no broker can change it")
    return EXIT_GOOD


def _write(out: Path, enrolment: Enrolment) -> None:
    try:
        replace_file(out, enrolment.text().encode(), durable=True)
    except OSError as error:
        raise KioskError(
            "write enrolment", place=str(out), cause=error.strerror or str(error), hint="name another place by --out"
        ) from error


def _owner() -> tuple[int, int] | None:
    """Who is to sign; None when that is who runs this."""
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam(_SIGNER)
    except KeyError:
        return None
    return account.pw_uid, account.pw_gid
