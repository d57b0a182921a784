"""What systemd must be told of a configuration: where the two hardened processes may write besides.

`python -m agent.dropins UNIT` reads a config.toml from standard input and prints a drop-in for that unit, nothing
when its own text says all. install.sh asks it.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from agent.settings import Spool

_USUAL: Final = str(Spool().path)

UNITS: Final = ("kiosk-recorder.service", "kiosk-courier.service")


def drop_in(unit: str, content: dict[str, Any]) -> str:
    """The drop-in of one of `UNITS` for the content of a config.toml that has been found good."""
    root = content.get("spool", {}).get("path", _USUAL)
    writes: list[str] = []
    if root != _USUAL:
        writes.append(root if unit == "kiosk-recorder.service" else f"{root}/state")
    if unit == "kiosk-courier.service":
        target, textfile = content.get("upload", {}).get("target", ""), content.get("export", {}).get("textfile", "")
        if target.startswith("file://"):
            writes.append(target.removeprefix("file://"))
        if textfile:
            writes.append(str(Path(textfile).parent))
    if not writes:
        return ""
    lines = ["# Made by install.sh of config.toml: run it again after a change."]
    if root != _USUAL:
        lines += ["[Unit]", f"RequiresMountsFor={_quoted(root)}"]
    # What isn't there, such as a disk that was pulled, mustn't keep the process from starting.
    lines += ["[Service]", *(f"ReadWritePaths={_quoted(f'-{path}')}" for path in writes)]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """As systemd.syntax(7) reads it back: quotes, and no specifiers."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


if __name__ == "__main__":
    sys.stdout.write(drop_in(sys.argv[1], tomllib.load(sys.stdin.buffer)))
