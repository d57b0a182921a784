"""Pins that gpiozero pretends to have, for machines that are no Pi."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """gpiozero's own factory of them, which tests can ask and press."""
    # Where lgpio would put its pipe; a recorder tells it.
    monkeypatch.delenv("LG_WD", raising=False)
    before, Device.pin_factory = Device.pin_factory, MockFactory()
    yield Device.pin_factory
    Device.pin_factory.reset()
    Device.pin_factory = before
