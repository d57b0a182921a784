"""The head of a FLAC file, where its length is told (RFC 9639 §8.2)."""

from __future__ import annotations

from typing import Final

STREAMINFO_END: Final = 42
"""`fLaC`, a block header of 4 bytes, STREAMINFO of 34."""

_TOTAL_AT: Final = 21
"""STREAMINFO's 36-bit total: the low half of this byte and the four that follow."""


def total_frames(head: bytes) -> int:
    """How many frames the first `STREAMINFO_END` bytes of a file promise."""
    return int.from_bytes(head[_TOTAL_AT : _TOTAL_AT + 5], "big") & 0xF_FFFF_FFFF


def with_total_frames(head: bytes, frames: int) -> bytes:
    """The first `STREAMINFO_END` bytes of a file, saying that it holds `frames` frames."""
    changed = bytearray(head)
    changed[_TOTAL_AT] = (changed[_TOTAL_AT] & 0xF0) | (frames >> 32 & 0x0F)
    changed[_TOTAL_AT + 1 : _TOTAL_AT + 5] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(changed)
