"""What a real node_exporter reads of a real courier's file, and what becomes of one that can't be written."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest

from agent.contract.metrics import NAMES
from agent.courier.alarms import Raised
from agent.courier.monitor import Picture
from agent.courier.textfile import TextFile
from agent.settings import Device, Export
from hw.clock import SystemClock
from tests.courier.kiosk import Kiosk
from tests.courier.process import courier
from tests.servers import free_ports, running
from tests.soundcard import eventually

DEVICE = Device(site="north", id="room-12")
PICTURE = Picture(dict.fromkeys(NAMES) | {"queue_length": 7}, wall_ns=2_000_000_000, seq=0)
LABELS = 'device="room-12",site="north"'


@contextmanager
def node_exporter(directory: Path, log: Path) -> Iterator[str]:
    """The address of a node_exporter that does nothing but read `directory`."""
    program = shutil.which("prometheus-node-exporter")
    if program is None:
        pytest.skip("prometheus-node-exporter isn't installed")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}/metrics"
    command = [
        program,
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={directory}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, log):
        eventually(lambda: bool(scraped(url)), f"node_exporter answers: {log}")
        yield url


def scraped(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own http address)
            return str(answer.read().decode())
    except URLError:
        return ""


def test_node_exporter_reads_what_the_courier_measures(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    kiosk = Kiosk(tmp_path / "kiosk", SystemClock())
    kiosk.record(3)
    settings = replace(kiosk.settings(), export=Export(textfile=directory / "kiosk.prom"))
    with courier(settings, {}) as process:
        eventually((directory / "kiosk.prom").exists, f"there is a file: {process.log}")
        with node_exporter(directory, tmp_path / "exporter.log") as url:
            found = scraped(url)
        assert process.end() == 0
    assert "node_textfile_scrape_error 0" in found
    pending = kiosk.ledger.tally()["pending"].bytes
    assert f"kiosk_recorder_spool_bytes_pending{{{LABELS}}} {pending}" in found
    assert 'recorder_state="absent"' in found
    assert [path.name for path in directory.iterdir()] == ["kiosk.prom"]


def test_node_exporter_reads_alerts_and_replaced_files(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()
    file = TextFile(directory / "kiosk.prom", DEVICE)
    file.write(PICTURE, {"disk": Raised("critical", 0, "full")})
    with node_exporter(directory, tmp_path / "exporter.log") as url:
        assert 'kiosk_recorder_alert{alert="disk",device="room-12",severity="critical",site="north"} 1' in scraped(url)
        file.write(PICTURE, {})
        found = scraped(url)
    assert "kiosk_recorder_alert{" not in found
    assert f"kiosk_recorder_queue_length{{{LABELS}}} 7" in found


def test_a_file_that_cannot_be_written_is_told_once_and_leaves_nothing_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = TextFile(tmp_path / "gone" / "kiosk.prom", DEVICE)
    for _ in range(3):
        file.write(PICTURE, {})
    assert caplog.text.count("write metrics") == 1
    (tmp_path / "gone").mkdir()
    file.write(PICTURE, {})
    assert [path.name for path in (tmp_path / "gone").iterdir()] == ["kiosk.prom"]
    shutil.rmtree(tmp_path / "gone")
    file.write(PICTURE, {})
    assert caplog.text.count("write metrics") == 2


def test_a_link_laid_in_its_place_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "kiosk.prom").symlink_to(victim)
    TextFile(tmp_path / "kiosk.prom", DEVICE).write(PICTURE, {})
    assert victim.read_text() == "mine"
    assert not (tmp_path / "kiosk.prom").is_symlink()
