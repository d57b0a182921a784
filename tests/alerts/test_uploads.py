"""What is wrong with the way to the store: each alert is raised by its real cause, and cleared when that goes.

A real SeaweedFS behind a line on which things go wrong, a real mosquitto, and the real courier in a hurry: its minutes
pass within seconds, with the limits of the table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.contract.alerts import Raised
from agent.settings import Settings
from agent.status import read_courier_status
from agent.units import Duration, Size
from tests.alerts.fleet import Fleet
from tests.courier.kiosk import Kiosk
from tests.courier.listener import listening
from tests.courier.process import courier
from tests.faults.store_line import StoreLine, answers, passes
from tests.servers import Broker, Bucket
from tests.soundcard import eventually

FAST = 60.0
"""An hour of the courier's is a minute."""

REFUSES = answers(503, "SlowDown")


@pytest.fixture
def line(bucket: Bucket) -> Iterator[StoreLine]:
    with StoreLine(bucket.store.port) as line:
        yield line


def into(kiosk: Kiosk, bucket: Bucket, line: StoreLine, broker: Broker, name: str = "") -> Settings:
    return kiosk.settings(
        f"s3://{name or bucket.name}/rooms",
        endpoint_url=f"http://127.0.0.1:{line.port}",
        mqtt=broker.url,
        clock_wait=Duration(0),
    )


def test_queue_length(kiosk: Kiosk, bucket: Bucket, line: StoreLine, broker: Broker, fleet: Fleet) -> None:
    line.mode = REFUSES
    kiosk.record(12)
    with courier(into(kiosk, bucket, line, broker), bucket.store.kiosk.environment, hasty=FAST):
        warning = fleet.sees("queue_length", "warning")
        assert (warning["value"], warning["threshold"]) == (12, 10)
        assert "recordings wait to be uploaded: 12, more than 10\n  → `kiosk-recorder" in warning["text"]
        kiosk.record(10, first=12)
        critical = fleet.sees("queue_length", "critical")
        assert (critical["value"], critical["threshold"], critical["since"]) == (22, 20, warning["since"])
        line.mode = passes
        fleet.sees_cleared("queue_length")
    assert fleet.changes("queue_length")[:2] == ["raised", "escalated"]
    with listening(broker, "kiosk/#") as late:
        eventually(lambda: bool(late.on("/telemetry")), "what is retained is there")
        assert not late.on("/alert/queue_length"), "nothing is retained of what is over"


def test_storage(kiosk: Kiosk, bucket: Bucket, line: StoreLine, broker: Broker, fleet: Fleet) -> None:
    line.mode = REFUSES
    settings = into(kiosk, bucket, line, broker)
    limits = replace(
        settings.alerts.storage, warning=Size.parse("100KiB"), critical=Size.parse("1MiB"), hysteresis=Size(0)
    )
    settings = replace(settings, alerts=replace(settings.alerts, storage=limits))
    kiosk.record(1, seconds=6)
    with courier(settings, bucket.store.kiosk.environment, hasty=FAST):
        warning = fleet.sees("storage", "warning")
        pending = kiosk.ledger.tally()["pending"].bytes
        assert (warning["value"], warning["threshold"]) == (pending, 100 * 1024)
        kiosk.record(6, seconds=10, first=1)
        assert fleet.sees("storage", "critical")["value"] > 1 << 20
        line.mode = passes
        fleet.sees_cleared("storage")


def test_upload_success_rate(kiosk: Kiosk, bucket: Bucket, line: StoreLine, broker: Broker, fleet: Fleet) -> None:
    kiosk.record(4)
    with courier(into(kiosk, bucket, line, broker), bucket.store.kiosk.environment, hasty=4 * FAST):
        eventually(lambda: set(kiosk.states()) == {"acknowledged"}, "all is well")
        line.mode = REFUSES
        kiosk.record(2, first=4)
        raised = fleet.sees("upload_success_rate", "critical")
        assert raised["value"] < raised["threshold"] == 85
        line.mode = passes
        for number in range(6, 2000):
            # What the rate is about: as long as nothing is uploaded nobody can tell it.
            kiosk.record(1, seconds=0.1, first=number)
            with contextlib.suppress(AssertionError):
                fleet.sees_cleared("upload_success_rate", seconds=0.5)
                break
        fleet.sees_cleared("upload_success_rate", seconds=0.5)


def test_credentials(kiosk: Kiosk, bucket: Bucket, line: StoreLine, broker: Broker, fleet: Fleet) -> None:
    kiosk.record(2)
    settings = into(kiosk, bucket, line, broker)
    wrong = bucket.store.kiosk.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with courier(settings, wrong, hasty=4 * FAST):
        warning = fleet.sees("credentials", "warning")
        assert warning["threshold"] == 60 < warning["value"]
        critical = fleet.sees("credentials", "critical")
        assert critical["since"] == warning["since"]
        assert "\n  → " in critical["text"]
        told = read_courier_status(kiosk.root / "run")
        assert told is not None
        assert told.alerts["credentials"].text == critical["text"]
    with courier(settings, bucket.store.kiosk.environment):
        fleet.sees_cleared("credentials")
    assert fleet.changes("credentials") == ["raised", "escalated", "cleared"], "the restart was no news"
    assert set(kiosk.states()) == {"acknowledged"}


def test_credentials_of_a_bucket_that_is_not_there_yet(
    kiosk: Kiosk, bucket: Bucket, line: StoreLine, broker: Broker, fleet: Fleet
) -> None:
    kiosk.record(1)
    name = f"{bucket.name}-later"
    with courier(into(kiosk, bucket, line, broker, name), bucket.store.admin.environment, hasty=FAST):
        assert name in fleet.sees("credentials", "warning")["text"]
        with contextlib.closing(bucket.store.client()) as client:
            client.create_bucket(Bucket=name)
        fleet.sees_cleared("credentials")


def test_what_is_still_wrong_after_a_restart_is_said_again_and_is_no_news(
    kiosk: Kiosk, bucket: Bucket, line: StoreLine, broker: Broker, fleet: Fleet
) -> None:
    line.mode = REFUSES
    kiosk.record(25)
    settings, environment = into(kiosk, bucket, line, broker), bucket.store.kiosk.environment
    with courier(settings, environment, hasty=FAST) as first:
        before = fleet.sees("queue_length", "critical")
        eventually(lambda: fleet.changes("queue_length") == ["raised"], "it is told")
        first.kill()
    said = len(fleet.listener.said("/alert/queue_length"))
    with courier(settings, environment) as second:
        eventually(lambda: len(fleet.listener.said("/alert/queue_length")) > said, "it is said again")
        assert fleet.alert("queue_length") == before
        assert second.end() == 0
    assert fleet.changes("queue_length") == ["raised"]
    told = read_courier_status(kiosk.root / "run")
    assert told is not None
    assert isinstance(told.alerts["queue_length"], Raised)
