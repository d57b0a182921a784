"""A manifest for Raspberry Pi Imager: with it Imager shows images of one's own, and knows how they may be customised.

    python3 image/imager/manifest.py kiosk-trixie-pi4.img.xz > kiosk.rpi-imager-manifest

Imager 2 opens the file by a double click. The format: doc/json-schema/os-list-schema.json of rpi-imager 2.0.11.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

DEVICES = {"pi5": "pi5-64bit", "pi4": "pi4-64bit", "zero2w": "pi3-64bit"}
"""How Imager calls the Pis that an image is for; the Zero 2 W is a Pi 3 to it."""

_CHUNK = 1 << 20


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _measure(file: BinaryIO) -> tuple[int, str]:
    """Size and SHA-256 of all there is to read."""
    size, digest = 0, hashlib.sha256()
    for chunk in _chunks(file):
        size += len(chunk)
        digest.update(chunk)
    return size, digest.hexdigest()


def entry(image: Path, init_format: str) -> dict[str, Any]:
    """What Imager is told of one image, plain or compressed by xz. Raises OSError and lzma.LZMAError."""
    with image.open("rb") as file:
        size, sha256 = _measure(file)
    extracted_size, extracted_sha256 = size, sha256
    if image.suffix == ".xz":
        with lzma.open(image) as unpacked:
            extracted_size, extracted_sha256 = _measure(unpacked)  # type: ignore[arg-type]
    devices = [tag for name, tag in DEVICES.items() if name in image.name] or list(DEVICES.values())
    released = datetime.fromtimestamp(image.stat().st_mtime, UTC).date()
    return {
        "name": f"Kiosk recorder ({image.name.partition('.')[0]})",
        "description": "Records a clinic room. Put kiosk.toml on the boot partition afterwards.",
        "icon": "",
        "url": image.resolve().as_uri(),
        "extract_size": extracted_size,
        "extract_sha256": extracted_sha256,
        "image_download_size": size,
        "image_download_sha256": sha256,
        "release_date": released.isoformat(),
        "init_format": init_format,
        "architecture": "armv8",
        "devices": devices,
    }


def main() -> int:
    """Print the manifest of the images that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="an .img or .img.xz")
    parser.add_argument(
        "--init-format",
        choices=("none", "cloudinit-rpi"),
        default="none",
        help="cloudinit-rpi for a downloaded Raspberry Pi OS (trixie); none, the default, for images of our own",
    )
    arguments = parser.parse_args()
    try:
        entries = [entry(image, arguments.init_format) for image in arguments.images]
    except (OSError, EOFError, lzma.LZMAError) as error:
        sys.stderr.write(f"error: {error}\n  → name images that are there and whole: .img or .img.xz\n")
        return 2
    json.dump({"os_list": entries}, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
