"""The uploads as a whole, in real threads, into a real store."""

from __future__ import annotations

from pathlib import Path

from agent.courier.activity import Activity
from agent.courier.crew import Crew
from agent.courier.pace import Pace
from agent.courier.targets import open_target
from agent.courier.uploads import Uploads
from agent.courier.worker import Lines
from agent.settings import Settings
from hw.clock import SystemClock
from tests.courier.kiosk import Kiosk
from tests.servers import Bucket


def test_every_recording_is_in_the_bucket_as_it_was_sealed(tmp_path: Path, bucket: Bucket) -> None:
    kiosk = Kiosk(tmp_path, SystemClock())
    sealed = kiosk.record(5)
    once(kiosk, kiosk.settings(f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url))
    assert kiosk.states() == ["acknowledged"] * 5
    for segment in sealed:
        known = kiosk.ledger.segment(segment.name)
        assert known is not None
        assert known.key is not None
        content, metadata = bucket.get(known.key)
        assert content == kiosk.content(segment)
        assert metadata["kr-seq"] == str(segment.seq)
    assert kiosk.ledger.counters()["uploaded_total"] == 5
    assert kiosk.ledger.broken_link() is None


def once(kiosk: Kiosk, settings: Settings) -> None:
    target = open_target(settings.upload.target, endpoint_url=settings.upload.endpoint_url)
    assert target is not None
    lines = Lines()
    pace = Pace(settings.upload.max_rate, kiosk.clock, lines.stop)
    crew = Crew(lines.stop)
    uploads = Uploads(settings, target, lines, pace, Activity(kiosk.clock), kiosk.clock)
    try:
        uploads.once(crew)
    finally:
        lines.stop.set()
        uploads.stop()
        crew.join(5)
        target.close()
