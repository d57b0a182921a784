"""Heads on their way from kiosks over a real broker into an auditor's file."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.contract import seeds
from agent.contract.custody import Head
from agent.contract.signed import public_key
from agent.settings import Custody
from fleet.cli import app
from fleet.heads import Heads, Seen, read
from hw.clock import SystemClock
from tests.courier.kiosk import Kiosk
from tests.courier.process import courier
from tests.servers import Broker, broker  # noqa: F401
from tests.soundcard import eventually

SEED = bytes(32)
HEAD = Head("a" * 12, 5, "cd" * 32, 3)


def test_what_a_courier_says_is_kept_and_counts(
    broker: Broker,  # noqa: F811
    tmp_path: Path,
) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", SystemClock())
    key = tmp_path / "device.key"
    seeds.make(key)
    out = tmp_path / "heads.txt"
    settings = replace(kiosk.settings(mqtt=broker.url), custody=Custody(key=key))

    def kept() -> bool:
        answer = CliRunner().invoke(app, ["heads", "--out", str(out), "--broker", broker.url])
        assert answer.exit_code == 0, answer.output
        return bool(out.read_text())

    with courier(settings, {}):
        eventually(kept, "a head is kept", 40)
    (seen, *_) = filter(None, read(out.read_text().splitlines()))
    assert (seen.site, seen.device) == ("north", "room-12")
    assert seen.head.is_of("north", "room-12", public_key(seeds.load(key, "")))
    assert (seen.head.seq, seen.head.digest) == (kiosk.ledger.head()[0], kiosk.ledger.head()[1].hex())


def test_lines_of_other_topics_are_passed_over() -> None:
    signed = HEAD.signed("north", "room-1", SEED)
    lines = [
        "kiosk/v1/north/room-1/status online\n",
        'kiosk/v1/north/room-1/alert/custody {"severity": "warning"}\n',
        "\n",
        'kiosk/v1/north/room-1/telemetry {"ts": "t", "custody_head": null}\n',
        f'kiosk/v1/north/room-1/telemetry {{"ts": "t", "seq": 4, "custody_head": "{signed}"}}\n',
    ]
    assert list(read(lines)) == [Seen("north", "room-1", "t", signed)]


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "kiosk/v1/north/room-1/telemetry {",
        "kiosk/v1/north/room-1/telemetry []",
        'kiosk/v1/north/room-1/telemetry {"ts": "t", "custody_head": "x"}',
        f'kiosk/v1/north/room-1/telemetry {{"ts": "\\ud800", "custody_head": "{HEAD}"}}',
    ],
)
def test_what_isnt_such_a_line_is_told_and_the_next_one_is_read(line: str) -> None:
    good = f'kiosk/v1/north/room-1/telemetry {{"ts": "t", "custody_head": "{HEAD.signed("north", "room-1", SEED)}"}}'
    assert list(read(["\n", line, good])) == [None, Seen("north", "room-1", "t", HEAD.signed("north", "room-1", SEED))]


def test_only_the_devices_own_word_counts() -> None:
    with closing(Heads()) as heads:
        keys = {public_key(SEED)}
        heads.add(Seen("north", "room-1", "t1", HEAD), keys)
        heads.add(Seen("north", "room-1", "t2", HEAD.signed("north", "room-1", b"1" * 32)), keys)
        heads.add(Seen("north", "room-1", "t3", HEAD.signed("north", "room-2", SEED)), keys)
        assert heads.unsigned == 1
        assert heads.strangers("north/room-1") == ["t2", "t3"]
        assert heads.newest("north/room-1", HEAD.epoch) is None
        heads.add(Seen("north", "room-1", "t4", HEAD.signed("north", "room-1", SEED)), keys)
        assert heads.newest("north/room-1", HEAD.epoch) == (5, "t4")
        assert heads.manifested("north/room-1") == {HEAD.epoch: (3, "t4")}
