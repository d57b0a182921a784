from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kiosk import Kiosk
from tests.servers import broker, bucket, s3_store  # noqa: F401
from tests.soundcard import soundcard  # noqa: F401


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    with Kiosk(tmp_path) as made:
        yield made
