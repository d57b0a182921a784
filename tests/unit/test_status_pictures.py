"""The courier's picture: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.contract.alerts import Raised
from agent.status import CourierStatus, FarEnd, read_courier_status, write_courier_status

PICTURE = CourierStatus(
    7,
    "b" * 32,
    {"card": FarEnd(5, "no route\n  → look")},
    {"storage": Raised("critical", 17, "much\n  → look", 600e6, 500e6), "custody": Raised("warning", 18, "x")},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_courier_status(tmp_path, PICTURE)
    assert read_courier_status(tmp_path) == PICTURE


def test_an_older_couriers_picture_has_no_alerts(tmp_path: Path) -> None:
    (tmp_path / "courier.json").write_text(json.dumps({"pid": 7, "boot": "b", "far_ends": {}}))
    assert read_courier_status(tmp_path) == CourierStatus(7, "b", {}, {})


@pytest.mark.parametrize(
    "alerts",
    [
        3,
        [],
        {"storage": 3},
        {"storage": {}},
        {"storage": {"severity": "bad", "since_ns": 1, "text": "", "value": None, "threshold": None}},
        {"storage": {"severity": "warning", "since_ns": 1, "text": "", "value": "much", "threshold": None}},
        {"storage": {"severity": "warning", "since_ns": "x", "text": "", "value": None, "threshold": None}},
        {"storage": {"severity": ["warning"], "since_ns": 1, "text": "", "value": None, "threshold": None}},
    ],
)
def test_a_picture_that_nobody_here_wrote_is_none(tmp_path: Path, alerts: Any) -> None:  # noqa: ANN401
    content = {"pid": 7, "boot": "b", "far_ends": {}, "alerts": alerts}
    (tmp_path / "courier.json").write_text(json.dumps(content))
    assert read_courier_status(tmp_path) is None
