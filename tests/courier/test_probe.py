from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.courier.probe import Finding, probe
from agent.settings import Mqtt
from hw.clock import SystemClock
from tests.courier.kiosk import Kiosk
from tests.servers import Broker, Bucket, free_ports

CLOCK = SystemClock()


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path / "kiosk", CLOCK)


def problems(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: str(finding.problem) for finding in findings if finding.problem}


def test_a_store_and_a_broker_that_let_us_in_are_found_good(kiosk: Kiosk, bucket: Bucket, broker: Broker) -> None:
    settings = kiosk.settings(f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url, mqtt=broker.url)
    findings = probe(settings, CLOCK)
    assert [finding.subject for finding in findings] == ["store", "broker"]
    assert problems(findings) == {}
    (key,) = bucket.keys()
    assert key.startswith("rooms/north/room-12/_check/")
    assert problems(probe(settings, CLOCK)) == {}


def test_nothing_is_asked_of_what_is_not_configured(kiosk: Kiosk) -> None:
    assert probe(kiosk.settings(), CLOCK) == []


def test_no_second_connection_is_made_beside_the_courier_s(kiosk: Kiosk) -> None:
    (port,) = free_ports(1)
    findings = probe(kiosk.settings(mqtt=f"mqtt://127.0.0.1:{port}"), CLOCK, connected=True)
    assert [finding.subject for finding in findings] == ["broker"]
    assert "not tried beside the running courier" in findings[0].detail
    assert problems(findings) == {}


def test_both_problems_are_found_in_one_go(kiosk: Kiosk, bucket: Bucket) -> None:
    (port,) = free_ports(1)
    settings = kiosk.settings("s3://no-such-bucket", endpoint_url=bucket.store.url, mqtt=f"mqtt://127.0.0.1:{port}")
    found = problems(probe(settings, CLOCK))
    assert "NoSuchBucket" in found["store"]
    assert "refused" in found["broker"]


def test_a_password_that_cannot_be_read_is_found(kiosk: Kiosk) -> None:
    mqtt = Mqtt(url="mqtt://127.0.0.1:1", username="x", password_file=Path("/nowhere/password"))
    assert "password_file" in problems(probe(replace(kiosk.settings(), mqtt=mqtt), CLOCK))["broker"]


def test_a_directory_on_the_spools_own_card_is_found(kiosk: Kiosk, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    findings = probe(kiosk.settings(f"file://{tmp_path / 'disk'}"), CLOCK)
    assert [bool(finding.problem) for finding in findings] == [False, True]
    assert "same file system" in problems(findings)["store"]


def test_a_target_that_nobody_understands_is_found(kiosk: Kiosk) -> None:
    assert "s3://bucket/prefix" in problems(probe(kiosk.settings("ftp://x/y"), CLOCK))["store"]
