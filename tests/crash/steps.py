"""A step of the real program, with something of the test's done beside it or in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Step = Callable[..., Any]


def replace(owner: object, name: str, make: Callable[[Step], Step]) -> None:
    """Put what `make` makes of a step in its place, for the rest of this process."""
    setattr(owner, name, make(getattr(owner, name)))
