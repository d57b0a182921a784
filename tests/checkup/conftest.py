from __future__ import annotations

from tests.pins import pins  # noqa: F401
from tests.servers import broker, bucket, s3_store  # noqa: F401
from tests.soundcard import soundcard  # noqa: F401
