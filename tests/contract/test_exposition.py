"""Telemetry as Prometheus reads it."""

from __future__ import annotations

from agent.contract.exposition import exposition
from agent.contract.messages import Value
from agent.contract.metrics import METRICS, NAMES

LABELS = {"site": "north", "device": "room-12"}


def lines(**values: Value) -> list[str]:
    text = exposition(dict.fromkeys(NAMES) | values, {}, wall_ns=1_500_000_000, labels=LABELS)
    return text.splitlines()


def test_a_value_is_a_sample_with_its_kind_its_unit_and_whose_it_is() -> None:
    found = lines(captured_seconds_total=12.5, queue_length=3)
    assert 'kiosk_recorder_captured_seconds_total{site="north",device="room-12"} 12.5' in found
    assert "# TYPE kiosk_recorder_captured_seconds_total counter" in found
    assert "# HELP kiosk_recorder_captured_seconds_total audio that was sealed, by its frames (s)" in found
    assert 'kiosk_recorder_queue_length{site="north",device="room-12"} 3' in found
    assert "# TYPE kiosk_recorder_queue_length gauge" in found


def test_what_nobody_could_tell_has_no_sample() -> None:
    assert not [line for line in lines(queue_length=0) if "upload_success_rate_pct" in line]
    assert 'kiosk_recorder_queue_length{site="north",device="room-12"} 0' in lines(queue_length=0)


def test_words_are_labels_and_cannot_break_the_format() -> None:
    (info,) = (line for line in lines(version='1"\n\\') if line.startswith("kiosk_recorder_info{"))
    assert info == r'kiosk_recorder_info{site="north",device="room-12",version="1\"\n\\"} 1'


def test_raised_alerts_are_samples_and_the_picture_tells_its_age() -> None:
    text = exposition(dict.fromkeys(NAMES), {"disk": "critical"}, wall_ns=1_500_000_000, labels=LABELS)
    assert 'kiosk_recorder_alert{site="north",device="room-12",alert="disk",severity="critical"} 1' in text
    assert 'kiosk_recorder_picture_timestamp_seconds{site="north",device="room-12"} 1.5' in text


def test_every_metric_of_the_table_is_there_once() -> None:
    text = "\n".join(lines(**{metric.name: "x" if metric.kind == "text" else 1 for metric in METRICS}))
    for metric in METRICS:
        if metric.kind == "text":
            assert text.count(f'{metric.name}="x"') == 1
        else:
            assert (
                text.count(f"\nkiosk_recorder_{metric.name}{{") + text.startswith(f"kiosk_recorder_{metric.name}") == 1
            )
