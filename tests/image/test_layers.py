"""Layers and configurations are what rpi-image-gen understands.

The rules were read off rpi-image-gen 2.8.0: fields and linting in site/metadata_parser.py, what a layer may ask for in
docs/layer/index.adoc, hooks in docs/execution/index.adoc. Where a checkout of it is named, it judges itself.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "image" / "rpi-image-gen"
LAYERS = sorted([*SOURCE.glob("layer/*.yaml"), *SOURCE.glob("image/*/*.yaml")])
CARDS = sorted(SOURCE.glob("config/kiosk-*-*.yaml"))

CHECKOUT = "KIOSK_RECORDER_RPI_IMAGE_GEN"

LAYER_FIELDS = {"Name", "Category", "Desc", "Version", "Requires", "RequiresProvider", "Provides"}
"""Those of X-Env-Layer-… that we use."""

ATTRIBUTES = {"Desc", "Required", "Valid", "Set"}
"""What each variable of ours says about itself."""

BUILT_IN = {
    "debian-bookworm-arm64-multi", "debian-trixie-arm64-multi", "image-base", "network-manager", "openssh-server",
    "rpi-debian-bookworm", "rpi-debian-trixie", "rpi-essential-base", "rpi-misc-skel", "rpi-misc-utils", "rpi4", "rpi5",
    "rpizero2w", "systemd-min", "systemd-timesyncd", "wireless-regulatory",
}  # fmt: skip
"""Layers of rpi-image-gen's own that ours may name."""


def metadata(path: Path) -> dict[str, str]:
    """The fields between METABEGIN and METAEND: a comment in the form of deb822."""
    block = re.search(r"^# METABEGIN\n(.*?)^# METAEND$", path.read_text(), re.MULTILINE | re.DOTALL)
    assert block, f"{path.name} has metadata"
    fields: dict[str, str] = {}
    name = ""
    for line in (line.removeprefix("#").removeprefix(" ") for line in block[1].splitlines()):
        if line.startswith(" "):
            fields[name] += line
        elif line.strip():
            name, colon, value = line.partition(":")
            assert colon, f"{path.name}: {line!r} is no field, and no continuation either"
            assert name not in fields, f"{path.name}: {name} is there once"
            fields[name] = value.strip()
    return fields


def listed(value: str) -> set[str]:
    return {word.strip() for word in value.split(",") if word.strip()}


NAMES = {metadata(path)["X-Env-Layer-Name"]: path for path in LAYERS}


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_a_layer_says_who_it_is_and_what_it_takes(path: Path) -> None:
    fields = metadata(path)
    assert {name.removeprefix("X-Env-Layer-") for name in fields if name.startswith("X-Env-Layer-")} <= LAYER_FIELDS
    assert re.fullmatch(r"[a-z][a-z0-9-]*", fields["X-Env-Layer-Name"])
    assert re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", fields["X-Env-Layer-Version"])
    assert fields["X-Env-Layer-Desc"]
    assert listed(fields.get("X-Env-Layer-Requires", "")) <= BUILT_IN | NAMES.keys()


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_each_variable_is_described(path: Path) -> None:
    variables: dict[str, set[str]] = {}
    for name in metadata(path):
        if name.startswith("X-Env-Var-"):
            variable, _, attribute = name.removeprefix("X-Env-Var-").partition("-")
            variables.setdefault(variable, set()).add(attribute)
    assert all(attributes == {"", *ATTRIBUTES} for attributes in variables.values()), variables
    if variables:
        assert metadata(path)["X-Env-VarPrefix"] in {"kiosk", "image"}


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_what_a_layer_does_can_be_run(path: Path) -> None:
    body: dict[str, Any] = (yaml.safe_load(path.read_text()) or {}).get("mmdebstrap", {})
    assert set(body) <= {"packages", "customize-hooks"}
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package) for package in body.get("packages", []))
    for hook in body.get("customize-hooks", []):
        subprocess.run(["sh", "-n", "-c", hook], check=True)
        for script in re.findall(r"\$IGconf_kiosk_source/(\S+?\.sh)", hook):
            assert os.access(ROOT / script, os.X_OK), f"{script} can be started"
    asset = metadata(path).get("X-Env-Var-assetdir")
    assert asset is None or os.access(path.parent / "pre-image.sh", os.X_OK)


def test_there_is_a_card_for_each_pi_and_debian() -> None:
    assert {path.stem for path in CARDS} == {
        f"kiosk-{suite}-{pi}" for suite in ("bookworm", "trixie") for pi in ("pi4", "pi5", "zero2w")
    }
    for path in CARDS:
        card = yaml.safe_load(path.read_text())
        common = yaml.safe_load((path.parent / card["include"]["file"]).read_text())
        assert card["include"]["file"] == f"{path.stem.rpartition('-')[0]}.yaml"
        assert card["image"]["name"] == path.stem
        assert card["device"]["layer"] == {"pi4": "rpi4", "pi5": "rpi5", "zero2w": "rpizero2w"}[path.stem.split("-")[2]]
        assert {common["image"]["layer"], *common["layer"].values()} <= NAMES.keys()


def test_what_install_sh_misses_on_a_kiosk_the_layer_brings() -> None:
    packages = set(yaml.safe_load(NAMES["kiosk-recorder"].read_text())["mmdebstrap"]["packages"])
    # alsa-utils depends on libasound2, or libasound2t64 as it's called since Debian 13.
    assert {"python3", "python3-venv", "tzdata", "ca-certificates", "alsa-utils"} <= packages
    assert {"fdisk", "util-linux", "e2fsprogs"} <= packages, "the spool grows by these"


@pytest.fixture(scope="module")
def rpi_image_gen() -> Path:
    if CHECKOUT not in os.environ:
        pytest.skip(f"name a checkout of rpi-image-gen by {CHECKOUT}, and it judges layers and cards itself")
    return Path(os.environ[CHECKOUT])


def ig(checkout: Path, *arguments: str | Path) -> str:
    """Its engine. With Debian's Python, of which it asks for python3-debian and python3-yaml."""
    path = f"{checkout / 'bin'}:/usr/bin:/bin"
    command = ["/usr/bin/python3", checkout / "bin" / "ig", *arguments]
    done = subprocess.run(command, env={"PATH": path}, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_rpi_image_gen_finds_nothing_wrong_with_a_layer(path: Path, rpi_image_gen: Path) -> None:
    ig(rpi_image_gen, "metadata", "--lint", path)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_rpi_image_gen_resolves_a_card_to_its_last_layer(path: Path, rpi_image_gen: Path, tmp_path: Path) -> None:
    (tmp_path / "dynamic").mkdir()
    ig(rpi_image_gen, "config", "--path", f"{SOURCE}/config", path, "--write-to", tmp_path / "user.env")
    user = (tmp_path / "user.env").read_text()
    defaults = ig(rpi_image_gen, "metadata", "--emit", rpi_image_gen / "registry.defs")
    surroundings = {
        "IGconf_kiosk_wheelhouse": str(tmp_path),
        "DEB_BUILD_ARCH": "amd64",
        "DEB_BUILD_GNU_TYPE": "x86_64-linux-gnu",
        "DEB_HOST_ARCH": "arm64",
        "DEB_HOST_GNU_TYPE": "aarch64-linux-gnu",
        "TOOLCHAIN_MODE": "cross",
        "IGTOP": str(rpi_image_gen),
        "IGROOT": str(rpi_image_gen),
        "LAYER_HOOKS": str(rpi_image_gen / "layer-hooks"),
        "RPI_TEMPLATES": str(rpi_image_gen / "templates" / "rpi"),
        "DYNROOT": str(tmp_path),
        "SRCROOT": str(SOURCE),
    }
    given = "".join(f'{name}="{value}"\n' for name, value in surroundings.items())
    (tmp_path / "in.env").write_text(f"{defaults}\n{user}\n{given}")
    layers = re.findall(r'^IGconf_(?:device_layer|image_layer|layer_\w+)="(.*)"$', user, re.MULTILINE)
    search = {"DYNlayer": tmp_path / "dynamic", "SRCimage": SOURCE / "image", "SRClayer": SOURCE / "layer"}
    search |= {f"IG{name}": rpi_image_gen / name for name in ("device", "image", "layer")}
    plan = tmp_path / "plan"
    ig(
        rpi_image_gen, "pipeline", "--env-in", tmp_path / "in.env", "--layers", "essential", *layers,
        "--path", ":".join(f"{tag}={place}" for tag, place in search.items()),
        "--env-out", tmp_path / "out.env", "--plan-out", plan,
    )  # fmt: skip
    planned = {line.partition(":")[0] for line in plan.read_text().splitlines()}
    assert {"kiosk-recorder", "kiosk-image", *layers} <= planned
