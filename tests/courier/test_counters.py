"""Counters as the fleet hears them: a real courier is killed again and again, before a real store and a real broker."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from agent.contract.metrics import METRICS
from agent.settings import Settings
from hw.clock import SystemClock
from tests.courier.kiosk import Kiosk
from tests.courier.listener import Listener, listening
from tests.courier.process import courier
from tests.servers import Broker, Bucket, free_ports
from tests.soundcard import eventually

COUNTERS = [metric.name for metric in METRICS if metric.kind == "counter" and metric.source == "ledger"]
RATES = ("upload_success_rate_pct", "error_rate_pct", "upload_speed_bytes_per_s", "upload_retries_avg")
HASTE = 20.0
"""30 s between two pictures are 1.5 s."""


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path / "kiosk", SystemClock())


def latest(listener: Listener, name: str) -> float:
    told = listener.on("/telemetry")
    value = told[-1].content[name] if told else None
    return -1 if value is None else float(value)


def test_counters_survive_kills_and_never_go_back(kiosk: Kiosk, bucket: Bucket, broker: Broker) -> None:
    kiosk.record(3)
    kiosk.ledger.count(segments_total=3, captured_seconds_total=1.5, recordings_total=1)
    (nowhere,) = free_ports(1)

    def towards(port: int) -> Settings:
        target = f"s3://{bucket.name}/rooms"
        return kiosk.settings(target, endpoint_url=f"http://127.0.0.1:{port}", mqtt=broker.url)

    environment = bucket.store.kiosk.environment
    with listening(broker, "kiosk/#") as listener:
        with courier(towards(nowhere), environment, hasty=HASTE) as running:
            eventually(lambda: latest(listener, "upload_failures_total") >= 1, f"failures: {running.log}", 60)
            assert latest(listener, "upload_success_rate_pct") == 0
            running.kill()
        failures = latest(listener, "upload_failures_total")
        with courier(towards(bucket.store.port), environment, hasty=HASTE) as running:
            eventually(lambda: latest(listener, "uploaded_total") == 3, f"uploads: {running.log}", 60)
            running.kill()
        heard = len(listener.on("/telemetry"))
        with courier(towards(bucket.store.port), environment, hasty=HASTE) as running:
            eventually(lambda: len(listener.on("/telemetry")) > heard, f"a picture: {running.log}", 60)
            running.kill()
        pictures = [message.content for message in listener.on("/telemetry")]
    first = pictures[heard]
    assert [first[name] for name in RATES] == [None] * 4, "of this hour a new courier knows nothing"
    assert (first["uploaded_total"], first["verified_seconds_total"]) == (3, 1.5)
    assert first["upload_failures_total"] >= failures
    assert first["upload_attempts_total"] == first["upload_failures_total"] + first["uploaded_total"]
    for before, after in pairwise(pictures):
        for name in COUNTERS:
            assert after[name] >= before[name], name
