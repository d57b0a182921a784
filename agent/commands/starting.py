"""From the command line into a lean process: configuration read, libraries for reading it left behind.

Validating takes pydantic, which the processes that run for months must not carry (docs/adr/0002). So the settings are
laid into memory and this process becomes, or starts, `python -m agent.recorder` or `python -m agent.courier`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

from agent.handover import hand_over
from agent.settings import Settings

Role = Literal["recorder", "courier"]

_ROOT = Path(__file__).resolve().parents[2]
"""The directory that holds the packages `agent` and `hw`."""


def become(role: Role, settings: Settings, *options: str) -> NoReturn:
    """Turn this process into a recorder or a courier. Doesn't return."""
    command = lean_command(role, hand_over(settings), *options)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, lean_environment(os.environ))  # noqa: S606 (no shell on purpose)


def lean_command(role: Role, settings_fd: int, *options: str) -> list[str]:
    """The command of a recorder or courier that takes its settings from `settings_fd`.

    `-P`: what happens to lie in the working directory is never imported.
    """
    return [sys.executable, "-P", "-m", f"agent.{role}", "--settings-fd", str(settings_fd), *options]


def ending_with_parent() -> list[str]:
    """The prefix of a command that is asked to end when this process dies; none where setpriv(1) isn't installed.

    Start it in a thread that lives as long as the child may: the kernel takes the end of that thread for the parent's.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    # The kernel tells of deaths to come: that the parent died before it was asked, the shell finds out.
    return [setpriv, "--pdeathsig", "TERM", "/bin/sh", "-c", f'[ "$PPID" = {os.getpid()} ] && exec "$@"', "sh"]


def lean_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment in which `lean_command` finds the very code that runs here, also from a source tree."""
    if _ROOT.name in ("site-packages", "dist-packages"):
        return environ
    path = os.pathsep.join(filter(None, (str(_ROOT), environ.get("PYTHONPATH", ""))))
    return {**environ, "PYTHONPATH": path}
