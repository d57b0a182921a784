"""Who may import whom (docs/ARCHITECTURE.md): read off the source, and tried in a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent", "hw", "fleet")

ONLY_IN = {
    "alsaaudio": {"hw.alsa"},
    "boto3": {"agent.contract.bucket", "agent.courier.targets.s3"},
    "botocore": {
        "agent.contract.bucket",
        "agent.courier.targets.s3",
        "agent.courier.targets.signing",
    },
    "gpiozero": {"hw.gpio"},
    "nacl": {"agent.contract.signed"},
    "openfeature": {"agent.contract.flagd"},
    "pyrage": {"agent.contract.age"},
    "paho": {"agent.courier.broker", "fleet.broker"},
}
"""Which modules may import a library that is heavy, or whose ways should stay in one place."""

NEVER = [
    ("agent.recorder", "agent.courier"),
    ("agent.recorder", "fleet"),
    ("agent.courier", "agent.recorder"),
    ("agent.courier", "fleet"),
    ("agent.contract", "agent.recorder"),
    ("agent.contract", "agent.courier"),
    ("hw", "agent.recorder"),
    ("hw", "agent.courier"),
    ("hw", "fleet"),
]
"""Pairs of packages of which the first doesn't know the second."""

FLEET_KNOWS = ("agent.__version__", "agent.contract", "agent.errors", "agent.terminal", "agent.units")

NOT_LOADED = {
    "agent.recorder": {"boto3", "botocore", "paho", "openfeature", "fleet", "pydantic", "typer", "rich"},
    "agent.courier": {"alsaaudio", "numpy", "soundfile", "openfeature", "fleet", "pydantic", "typer", "rich"},
}
"""What a long-running process must not carry in its memory, not even by way of others."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports(source: str, package: str) -> set[str]:
    """Every module that `source` names in an import, wherever it stands; `from a import b` names both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def trespasses(module: str, imported: set[str]) -> list[str]:
    """Which of its imports `module` may not have."""
    wrong = {
        name for name in imported for library, homes in ONLY_IN.items() if within(name, library) and module not in homes
    }
    wrong |= {name for name in imported for who, whom in NEVER if within(module, who) and within(name, whom)}
    if within(module, "fleet"):
        wrong |= {
            name
            for name in imported
            if name.startswith("agent.") and not any(within(name, known) for known in FLEET_KNOWS)
        }
    return sorted(wrong)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_place_allows(module: str) -> None:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    assert trespasses(module, imports(path.read_text(), package)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agent.recorder.capture", "import alsaaudio"),
        ("agent.recorder.capture", "def f():\n    from boto3 import client"),
        ("agent.recorder.capture", "from ..courier import upload"),
        ("agent.recorder.capture", "from agent import courier"),
        ("agent.courier.broker", "import agent.recorder.writer"),
        ("agent.courier.queue", "import paho.mqtt.client as mqtt"),
        ("agent.contract.names", "from ..recorder.writer import Writer"),
        ("hw.alsa", "from agent.recorder import ring"),
        ("fleet.cli", "from agent.ledger import Ledger"),
        ("fleet.cli", "from agent import spool"),
    ],
)
def test_a_trespass_is_noticed(module: str, source: str) -> None:
    assert trespasses(module, imports(source, module.rpartition(".")[0])) != []


def test_what_is_allowed_is_no_trespass() -> None:
    source = "import boto3\nfrom botocore.config import Config\nfrom agent.units import Size\nfrom .port import Target"
    assert trespasses("agent.contract.bucket", imports(source, "agent.contract")) == []
    assert trespasses("fleet.cli", imports("from agent.contract import names", "fleet")) == []


@pytest.mark.parametrize("process", NOT_LOADED)
def test_a_long_running_process_loads_none_of_the_heavy_libraries(process: str) -> None:
    program = f"import sys, {', '.join(name for name in MODULES if within(name, process))}\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    assert f"{process}.service" in loaded.stdout.split()
    assert {name.partition(".")[0] for name in loaded.stdout.split()} & NOT_LOADED[process] == set()
