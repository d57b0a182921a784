"""flagd's bucketing by its specification, without flagd-core: how the golden vectors are checked, and once were made.

A share is chosen by murmur3 (x86, 32 bit, seed 0) over the canonical CBOR of [flag key, targeting key]
(https://flagd.dev/reference/custom-operations/fractional-operation/).

    python -m tests.contract.bucketing
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

VECTORS = Path(__file__).with_name("buckets.json")

FLAGS = ("offline_recording", "x", "another-flag.of_a-later-release")
DEVICES = (
    *(f"room-{number}" for number in range(100)),
    *(f"north-kiosk-{number:04d}" for number in range(0, 10_000, 500)),
    "a",
    "0",
    "7-",
    "a" * 23,
    "a" * 24,
    "b" * 62,
    "z" * 63,
)
"""23 and 24 letters: there CBOR writes lengths another way."""


def bucket(flag: str, device: str, buckets: int = 100) -> int:
    """Which of `buckets` equal shares a device is in."""
    return murmur3(b"\x82" + _cbor(flag) + _cbor(device)) * buckets >> 32


def murmur3(data: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0 (Austin Appleby, public domain)."""
    mask, digest = 0xFFFFFFFF, 0
    whole = len(data) // 4 * 4
    for (block,) in struct.iter_unpack("<I", data[:whole]):
        digest ^= _mixed(block)
        digest = (digest << 13 | digest >> 19) & mask
        digest = (digest * 5 + 0xE6546B64) & mask
    digest ^= _mixed(int.from_bytes(data[whole:], "little"))
    digest ^= len(data)
    digest = (digest ^ digest >> 16) * 0x85EBCA6B & mask
    digest = (digest ^ digest >> 13) * 0xC2B2AE35 & mask
    return digest ^ digest >> 16


def _mixed(block: int) -> int:
    block = block * 0xCC9E2D51 & 0xFFFFFFFF
    block = (block << 15 | block >> 17) & 0xFFFFFFFF
    return block * 0x1B873593 & 0xFFFFFFFF


def _cbor(text: str) -> bytes:
    """A text of less than 256 bytes (RFC 8949 §3.1)."""
    data = text.encode()
    head = bytes([0x60 + len(data)]) if len(data) < 24 else bytes([0x78, len(data)])
    return head + data


if __name__ == "__main__":
    found = {flag: {device: bucket(flag, device) for device in DEVICES} for flag in FLAGS}
    VECTORS.write_text(json.dumps(found, indent=1) + "\n")
