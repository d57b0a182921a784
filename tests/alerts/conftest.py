from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hw.clock import SystemClock
from tests.alerts.fleet import Fleet
from tests.card import card  # noqa: F401
from tests.courier.kiosk import Kiosk
from tests.courier.listener import listening
from tests.servers import Broker, broker, bucket, s3_store  # noqa: F401
from tests.soundcard import soundcard  # noqa: F401


@pytest.fixture
def fleet(broker: Broker) -> Iterator[Fleet]:  # noqa: F811 (the fixture)
    with listening(broker, "kiosk/#") as listener:
        yield Fleet(listener)


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    """A spool and its ledger, without a recorder."""
    return Kiosk(tmp_path / "kiosk", SystemClock())
