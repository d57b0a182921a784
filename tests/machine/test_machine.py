"""A bare Debian becomes a kiosk: real kernel, systemd, sound card and network.

Each test takes the kiosk from the one before and leaves one that records. A test that is run alone installs one first.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from tests.machine.kiosk import COURIER, RATE, RECORDER, Kiosk
from tests.machine.probe import tried

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

_WHOLE_S: Final = 19
"""Of twenty seconds. `arecord` hears the same of the loopback: while a player ends, silence instead of its last samples
and then a piece of its buffer that had sounded before, together up to a tenth of a second."""


def test_what_is_played_to_the_card_arrives_in_the_store_bit_for_bit(kiosk: Kiosk) -> None:
    kiosk.speak(20)
    heard = kiosk.until_heard(_WHOLE_S * RATE)
    np.testing.assert_array_equal(heard[: _WHOLE_S * RATE], kiosk.noise[: _WHOLE_S * RATE])


def test_who_hears_the_room_reaches_nobody(kiosk: Kiosk) -> None:
    kiosk.until_something_is_sealed()
    assert tried(kiosk, RECORDER) == {
        "reach the store": "OSError",
        "make an IPv4 socket": "OSError",
        "make an IPv6 socket": "OSError",
        "make a packet socket": "OSError",
        "make a netlink socket": "OSError",
        "open the microphone": "done",
        "read a recording": "done",
        "change a recording": "done",
        "make a recording": "done",
        "remove a recording": "done",
        "write to state": "done",
        "write to the system": "OSError",
    }


def test_who_reaches_the_store_hears_nothing_and_changes_no_recording(kiosk: Kiosk) -> None:
    kiosk.until_something_is_sealed()
    assert tried(kiosk, COURIER) == {
        "reach the store": "done",
        "make an IPv4 socket": "done",
        "make an IPv6 socket": "done",
        "make a packet socket": "OSError",
        "make a netlink socket": "OSError",
        "open the microphone": "FileNotFoundError",
        "read a recording": "done",
        "change a recording": "PermissionError",
        "make a recording": "OSError",
        "remove a recording": "OSError",
        "write to state": "done",
        "write to the system": "OSError",
    }
