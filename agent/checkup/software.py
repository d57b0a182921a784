"""What is installed and configured, and whether it goes on by itself after a power cut."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import agent
from agent.checkup.finding import Finding, of_error
from agent.checkup.visit import Visit
from agent.commands.starting import Role
from agent.errors import KioskError
from agent.flags import FLAGS, overrides, read_variants
from hw.kernel import told

_SYSTEMD: Final = Path("/run/systemd/system")
"""There while systemd runs the machine (sd_booted(3))."""


def look(visit: Visit) -> Iterator[Finding]:
    """Versions, services, flags, and keys of those who may steer this kiosk."""
    yield Finding("versions", "green", ", ".join(f"{name} {version}" for name, version in versions(visit.root).items()))
    yield _service("recorder", visit.recorder_pid)
    if visit.settings.upload.target or visit.settings.mqtt.url:
        yield _service("courier", visit.courier_pid)
    yield from _flags(visit)
    yield from _keys(visit)


def versions(root: Path) -> dict[str, str]:
    """Of this software and what it runs on."""
    release = told(root / "etc/os-release") or ""
    names = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    system = names.get("PRETTY_NAME", "").strip('"')
    found = {"kiosk-recorder": agent.__version__, "Python": platform.python_version(), "Linux": platform.release()}
    return {**found, "system": system} if system else found


def _service(role: Role, pid: int | None) -> Finding:
    unit = f"kiosk-{role}.service"
    enabled = _enabled(unit)
    runs = f"runs (process {pid})" if pid else "doesn't run"
    if enabled is None:
        told = f"{runs}; no systemd here to start it"
        if pid:
            return Finding(role, "green", told)
        return Finding(role, "yellow", told, "`kiosk-recorder run` runs both processes")
    if not enabled:
        return Finding(role, "red", f"{runs}; {unit} doesn't start after a power cut", f"systemctl enable --now {unit}")
    if pid is None:
        return Finding(role, "yellow", f"{runs} now; {unit} starts with the machine", f"systemctl start {unit}")
    return Finding(role, "green", f"{runs}; {unit} starts with the machine")


def _enabled(unit: str) -> bool | None:
    """Whether it starts with the machine; None without systemd."""
    if shutil.which("systemctl") is None or not _SYSTEMD.exists():
        return None
    asked = subprocess.run(["systemctl", "is-enabled", "--quiet", unit], capture_output=True, timeout=10, check=False)
    return asked.returncode == 0


def _flags(visit: Visit) -> Iterator[Finding]:
    try:
        chosen = overrides(os.environ)
        variants = read_variants(visit.runtime, visit.layout.state)
    except KioskError as error:
        yield of_error("flags", error)
        return
    for name, variant in chosen.items():
        yield Finding(
            "flags",
            "yellow",
            f"{FLAGS[name].variable}={variant}: here {name} is {variant}, whatever the fleet chooses",
            "take it out of /etc/kiosk-recorder/environment unless it is meant, and restart both units",
        )
    rest = [f"{name} is {each.name} ({each.source})" for name, each in variants.items() if name not in chosen]
    if rest:
        yield Finding("flags", "green", ", ".join(rest))
    if not visit.settings.flags.keys:
        yield Finding(
            "flag keys",
            "yellow",
            "flags.keys is empty: the fleet can't switch anything here",
            "write the fleet's public key into `[flags] keys` (`kiosk-fleet keys`)",
        )
    else:
        yield Finding("flag keys", "green", f"{len(visit.settings.flags.keys)} may sign flag documents")


def _keys(visit: Visit) -> Iterator[Finding]:
    keys = visit.settings.commands.admin_keys
    if keys:
        yield Finding("admin keys", "green", f"{len(keys)} may sign commands")
        return
    yield Finding(
        "admin keys",
        "yellow",
        "commands.admin_keys is empty: this kiosk obeys nobody",
        "write the admins' public keys into `[commands] admin_keys` (`kiosk-fleet keys`)",
    )
