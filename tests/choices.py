"""A choice of feature flags, as the courier leaves it for the recorder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.flags import keep_variants, show_variants


def write_variants(runtime: Path, state: Path, variants: Mapping[str, str]) -> None:
    """In RAM and on the card. Raises OSError when either can't be written, after trying both."""
    try:
        show_variants(runtime, variants)
    finally:
        keep_variants(state, variants)
