"""The environment that both services have: what a shell doesn't know when a technician asks in their place."""

from __future__ import annotations

import os
from pathlib import Path

from agent.errors import KioskError


def services_environment(file: Path) -> dict[str, str]:
    """Variables of an `EnvironmentFile=` of systemd, a line each; none without a file. Raises KioskError."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KioskError(
            "read environment", place=str(file), cause=error.strerror or str(error), hint="run the command with sudo"
        ) from error
    found = {}
    for line in map(str.strip, lines):
        name, separator, value = line.partition("=")
        if separator and not line.startswith(("#", ";")):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def act_as_services(file: Path) -> dict[str, str]:
    """Take over their environment, which is returned; what this shell says itself counts more. Raises KioskError."""
    found = services_environment(file)
    for name, value in found.items():
        os.environ.setdefault(name, value)
    return found
