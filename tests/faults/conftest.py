"""Real servers, the sound of one room for all kiosks, and what came of every fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from hw.speech import speech_like
from tests.faults.stage import Outcomes, chosen, side_by_side
from tests.servers import S3Store, s3_store  # noqa: F401
from tests.soundcard import RATE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@pytest.fixture(scope="session")
def source() -> NDArray[np.int16]:
    return speech_like(20, RATE, 1)


@pytest.fixture(scope="session")
def outcomes(
    request: pytest.FixtureRequest,
    s3_store: S3Store,  # noqa: F811 (the fixture)
    source: NDArray[np.int16],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcomes]:
    """All faults that were asked for on pytest's command line, in play from now on."""
    with side_by_side(chosen(request.session), s3_store, source, tmp_path_factory.mktemp("faults")) as played:
        yield played
