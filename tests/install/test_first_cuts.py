"""A first installation is cut short: there is a kiosk or none, and the next run finishes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.install.conftest import FIRST, LIB, WHO
from tests.install.cuts import cut_everywhere, works
from tests.install.machine import Machine, Workshop, installation

pytestmark = pytest.mark.timeout(1800)

CHANGING: Final = (
    "write_users make_release write_file write_link write_directory own write_settings make_key write_drop_ins "
    "begin_trial move_on_to write_trial tell_system start_services judge"
)
"""Functions of install.sh that change the machine, each by its commands."""

PACKAGES: Final = Path("srv/venv/lib")


@pytest.fixture
def fresh(workshop: Workshop, media: Path, installed: Machine) -> Machine:
    """A machine that never saw a kiosk-recorder, and has what it's built on at hand."""
    with Machine(workshop, media) as machine:
        machine.pretend_systemd()
        shutil.copytree(installed.changes / LIB, machine.file(PACKAGES), symlinks=True)
        (packages,) = machine.file(PACKAGES).glob("python3*/site-packages")
        for own in (*packages.glob("kiosk_recorder-*"), *(packages / name for name in ("agent", "fleet", "hw"))):
            shutil.rmtree(own)
        machine.make_environments_quickly(PACKAGES)
    return machine


@pytest.mark.parametrize("stride", [37, pytest.param(3, marks=pytest.mark.long)])
def test_a_first_installation_that_was_cut_short_is_finished_by_the_next(
    workshop: Workshop, media: Path, fresh: Machine, stride: int, tell: Callable[[str], None]
) -> None:
    command = [*installation(FIRST), *WHO]
    cuts, starts = 0, set()
    for machine, at in cut_everywhere(workshop, media, [fresh], command, CHANGING, stride):
        wanted = machine.run("test", "-e", "/etc/systemd/system/multi-user.target.wants/kiosk-recorder.service")
        if wanted.status == 0:
            assert works(machine) == FIRST, f"cut before command {at}, and what starts next time is half a kiosk"
        starts.add(wanted.status == 0)
        said = machine.run(*command)
        assert said.status == 0, f"cut before command {at}: {said.text}"
        assert works(machine) == FIRST
        assert machine.run(*command).nothing_changed, f"cut before command {at}"
        cuts += 1
    tell(f"a first installation, cut short at {cuts - 1} places: finished by the next run each time")
    assert starts == {False, True}
