"""Installations that are cut short, each before another command, and what is left of the machine then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.install.machine import ETC, OPT, Machine, Workshop


def works(machine: Machine) -> str:
    """Which release the machine would start with now, having seen that it's whole and that its units are there."""
    version = machine.release()
    assert version is not None, "there is a current release"
    assert machine.file(OPT / "releases" / version / "complete").exists()
    assert machine.run(f"/{OPT}/current/venv/bin/kiosk-recorder", "--version").text.split()[-1] == version
    for unit in ("kiosk-recorder.service", "kiosk-courier.service"):
        assert machine.run("test", "-s", f"/etc/systemd/system/{unit}").status == 0
        assert machine.run("test", "-s", f"/etc/systemd/system/multi-user.target.wants/{unit}").status == 0
    assert machine.run("test", "-s", f"/{ETC}/config.toml").status == 0
    return version


def cut_everywhere(
    workshop: Workshop,
    media: Path,
    layers: list[Machine],
    command: list[str],
    functions: str,
    stride: int,
    *broken: str,
) -> Iterator[tuple[Machine, int]]:
    """Machines on which `command` was cut short, the last one on which it wasn't.

    The commands of those functions are counted, which change something; before each the power may go.
    """
    at, cut = 1, True
    while cut:
        with Machine(workshop, media, *layers) as machine:
            machine.is_broken(*broken)
            cut = machine.cut_power(at, *command, functions=functions)
            yield machine, at
        at += stride
