from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import Supervisor


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify")})


def heard(systemd: socket.socket) -> list[str]:
    return systemd.recv(4096).decode().splitlines()


def test_the_first_progress_says_that_the_start_is_done_and_each_feeds_the_watchdog(
    systemd: socket.socket, supervisor: Supervisor
) -> None:
    supervisor.getting_on("recording")
    assert heard(systemd) == ["WATCHDOG=1", "READY=1", "STATUS=recording"]
    supervisor.getting_on("recording")
    assert heard(systemd) == ["WATCHDOG=1"]


def test_without_progress_the_watchdog_starves_and_the_reason_is_told_once(
    systemd: socket.socket, supervisor: Supervisor
) -> None:
    supervisor.stuck("capture hangs")
    supervisor.stuck("capture hangs")
    assert heard(systemd) == ["STATUS=capture hangs"]
    with pytest.raises(BlockingIOError):
        heard(systemd)


def test_of_a_status_with_a_way_out_the_first_line_is_told(systemd: socket.socket, supervisor: Supervisor) -> None:
    supervisor.getting_on("no microphone\n  → plug it in\nREADY=0")
    assert heard(systemd) == ["WATCHDOG=1", "READY=1", "STATUS=no microphone"]


def test_an_end_on_purpose_is_announced(systemd: socket.socket, supervisor: Supervisor) -> None:
    supervisor.stopping()
    assert heard(systemd) == ["STOPPING=1", "STATUS=ending"]


def test_a_socket_without_a_file_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("")
        name = systemd.getsockname().decode().replace("\0", "@")
        Supervisor({"NOTIFY_SOCKET": name}).getting_on("")
        assert heard(systemd) == ["WATCHDOG=1", "READY=1"]


def test_nobody_to_tell_is_no_trouble(tmp_path: Path) -> None:
    Supervisor({}).getting_on("recording")
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).getting_on("recording")


def test_a_supervisor_that_does_not_listen_holds_nobody_up(systemd: socket.socket, supervisor: Supervisor) -> None:
    for number in range(2000):
        supervisor.getting_on(f"{number}")
    assert heard(systemd)[0] == "WATCHDOG=1"
