"""The locks in requirements/ agree with pyproject.toml, with each other and with what their packages ask for."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ["build", "kiosk", "dev"]
PYTHONS = ["3.11", "3.12", "3.13"]


@dataclass(frozen=True)
class Pin:
    """One package of a lock."""

    requirement: Requirement
    hashes: int

    @property
    def name(self) -> NormalizedName:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> Version:
        return Version(str(self.requirement.specifier).removeprefix("=="))


def pins(lock: str) -> dict[NormalizedName, Pin]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    entries = re.sub(r"\\\n|^\s*#.*$", "", text, flags=re.MULTILINE).splitlines()
    found = [
        Pin(Requirement(entry.partition("--hash=")[0]), entry.count("--hash=sha256:"))
        for entry in entries
        if entry.strip()
    ]
    return {pin.name: pin for pin in found}


def wanted(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that name other extras of the project resolved."""
    requirements = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in extras:
        for text in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(text)
            if requirement.name == PROJECT["name"]:
                requirements += wanted(*requirement.extras)
            else:
                requirements.append(requirement)
    return requirements


def unmet(requirements: list[Requirement], lock: dict[NormalizedName, Pin], python: str) -> list[str]:
    """Those that the lock doesn't satisfy on Linux with this Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}

    def met(requirement: Requirement) -> bool:
        pin = lock.get(canonicalize_name(requirement.name))
        return pin is not None and requirement.specifier.contains(pin.version, prereleases=True)

    needed = [one for one in requirements if one.marker is None or one.marker.evaluate(environment)]
    return [str(requirement) for requirement in needed if not met(requirement)]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(("lock", "extras"), [("kiosk", ["kiosk", "demo"]), ("dev", ["dev"])])
def test_a_lock_satisfies_pyproject(lock: str, extras: list[str], python: str) -> None:
    assert unmet(wanted(*extras), pins(lock), python) == []


def test_the_lock_of_build_tools_satisfies_pyproject() -> None:
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert unmet([Requirement(text) for text in requires], pins("build"), "3.11") == []


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_of_the_tests_satisfies_what_its_packages_ask_for(python: str) -> None:
    lock = pins("dev")
    for name in lock:
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # a package of another system
            continue
        assert unmet([Requirement(text) for text in requires], lock, python) == [], name


@pytest.mark.parametrize("python", PYTHONS)
def test_something_drives_the_pins_of_a_pi_whatever_its_python(python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": "aarch64"}
    drivers = [pins("kiosk")[canonicalize_name(name)].requirement for name in ("lgpio", "adafruit-lgpio")]
    assert sum(each.marker is None or each.marker.evaluate(environment) for each in drivers) == 1


def test_a_package_that_the_lock_lacks_is_noticed() -> None:
    lock = pins("kiosk")
    assert unmet([Requirement("numpy>=99"), Requirement("left-pad")], lock, "3.11") == ["numpy>=99", "left-pad"]


def test_the_kiosk_gets_the_versions_that_were_tested() -> None:
    tested = pins("dev")
    assert {name: pin.version for name, pin in pins("kiosk").items()}.items() <= {
        name: pin.version for name, pin in tested.items()
    }.items()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_its_hashes_and_no_address(lock: str) -> None:
    locked = pins(lock)
    assert locked
    for pin in locked.values():
        assert re.fullmatch(r"==[^,*]+", str(pin.requirement.specifier))
        assert pin.hashes
    assert "://" not in (ROOT / "requirements" / f"{lock}.txt").read_text()
