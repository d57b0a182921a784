from __future__ import annotations

from pathlib import Path

import pytest

from tests.clocks import FakeClock
from tests.courier.kiosk import Kiosk
from tests.servers import broker, bucket, s3_store  # noqa: F401


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def kiosk(tmp_path: Path, clock: FakeClock) -> Kiosk:
    return Kiosk(tmp_path / "kiosk", clock)
