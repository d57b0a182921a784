"""Recorder and courier as two users of one group, as the units have them: each can do its work, and not the other's.

Without systemd: what only it can do (namespaces, devices, filters) is tried in the guest of tests/machine.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from hw.simulated import SimulatedRoom
from tests.install.conftest import FIRST
from tests.install.machine import OPT, SPOOL, Machine
from tests.soundcard import eventually

pytestmark = pytest.mark.timeout(600)  # the first to ask for a machine waits for pip

_AS_UNIT = """
import ctypes, os, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1  # as MemoryDenyWriteExecute=; kernels before 6.3 don't know it
os.umask(0o007)
user, *command = sys.argv[1:]
if user == "kiosk-courier":
    ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)
os.execvp("setpriv", ["setpriv", f"--reuid={user}", "--regid=kiosk", "--clear-groups", "--no-new-privs", *command])
"""

CONFIG = """
[device]
site = "north"
id = "room-12"
[capture]
pcm = "{pcm}"
[spool]
segment_seconds = 2
keep_free = "0B"
[upload]
target = "file:///srv/rooms"
clock_wait = "0s"
"""


class Supervisor:
    """Hears what a process tells systemd."""

    def __init__(self, path: Path) -> None:
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))
        path.chmod(0o777)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                self.said += self._socket.recv(4096).decode().splitlines()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class House:
    """Both processes on a machine, with a simulated room to hear."""

    def __init__(self, machine: Machine, media: Path, place: str) -> None:
        self.machine = machine
        self._stack = ExitStack()
        directory = media / place
        rng = np.random.default_rng(7)
        sound = (rng.standard_normal(16000 * 60) * 3000).astype(np.int16)
        room = SimulatedRoom(directory, sound, 16000, 1, cache=media / "plugins", at_end="loop")
        conf = directory / "asound.conf"
        conf.write_text(conf.read_text().replace(str(media), "/media"))
        for path in (directory, *directory.iterdir()):
            path.chmod(0o777)
        self._sound = f"/media/{place}/asound.conf"
        self._sockets = directory
        self._place = place
        machine.write("etc/kiosk-recorder/config.toml", CONFIG.format(pcm=room.pcm))
        made = machine.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/kiosk-recorder.conf")
        assert made.status == 0, made.text
        assert machine.run("install", "-d", "-o", "kiosk-courier", "-g", "kiosk", "/srv/rooms").status == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, role: str, **environment: str) -> tuple[subprocess.Popen[str], Supervisor]:
        command = {"recorder": "record", "courier": "courier"}[role]
        supervisor = Supervisor(self._sockets / f"{role}.notify")
        self._stack.callback(supervisor.close)
        inside = {
            "PATH": "/usr/sbin:/usr/bin",
            "ALSA_CONFIG_PATH": self._sound,
            "NOTIFY_SOCKET": f"/media/{self._place}/{role}.notify",
            "RUNTIME_DIRECTORY": "/run/kiosk-recorder",
            **environment,
        }
        process = subprocess.Popen(
            [*self._as(f"kiosk-{role}"), f"/{OPT}/current/venv/bin/kiosk-recorder", command], env=inside, text=True
        )
        self._stack.callback(self.end, process)
        return process, supervisor

    def end(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(30)

    def may(self, role: str, script: str) -> bool:
        """Whether a shell of that process's user can do it."""
        command = [*self._as(f"kiosk-{role}"), "sh", "-c", script]
        return (
            subprocess.run(command, capture_output=True, check=False, env={"PATH": "/usr/sbin:/usr/bin"}).returncode
            == 0
        )

    def python(self, role: str, program: str) -> str:
        command = [*self._as(f"kiosk-{role}"), f"/{OPT}/current/venv/bin/python", "-c", program]
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env={"PATH": "/usr/sbin:/usr/bin"}
        ).stdout

    def uploaded(self) -> int:
        return len(list(self.machine.file("srv/rooms").rglob("*.flac")))

    def _as(self, user: str) -> list[str]:
        root = str(self.machine.root)
        return [*self.machine.command, "chroot", root, os.path.realpath("/usr/bin/python3"), "-c", _AS_UNIT, user]


@pytest.fixture
def house(kiosk: Machine, media: Path, request: pytest.FixtureRequest) -> Iterator[House]:
    with House(kiosk, media, f"room-{request.node.name[-12:].strip('[]')}") as made:
        yield made


@pytest.mark.parametrize("offline_recording", ["on", "off"])
def test_what_one_hears_the_other_sends_by_card_and_by_memory(house: House, offline_recording: str) -> None:
    chosen = {"KIOSK_RECORDER_FLAG_OFFLINE_RECORDING": offline_recording}
    recorder, heard = house.start("recorder", **chosen)
    courier, sent = house.start("courier", **chosen)
    eventually(lambda: "READY=1" in heard.said and "READY=1" in sent.said, "both say that they are ready", 60)
    eventually(lambda: house.uploaded() >= 2, "what was recorded arrives", 60)
    eventually(lambda: min(heard.said.count("WATCHDOG=1"), sent.said.count("WATCHDOG=1")) >= 2, "both get on", 60)
    assert "STATUS=recording" in heard.said
    assert "STATUS=all is well" in sent.said
    assert house.end(recorder) == 0
    assert house.end(courier) == 0
    assert heard.said[-2:] == ["STOPPING=1", "STATUS=ending"]


def test_either_is_killed_and_begins_again_whoever_comes_first(house: House) -> None:
    recorder, _ = house.start("recorder")
    courier, _ = house.start("courier")
    eventually(lambda: house.uploaded() >= 1, "what was recorded arrives", 60)
    house.end(courier, signal.SIGKILL)
    house.end(recorder, signal.SIGKILL)
    before = house.uploaded()
    for role in ("courier", "recorder"):
        house.start(role)
    eventually(lambda: house.uploaded() > before + 1, "it goes on", 60)


def test_neither_can_do_the_others_work(house: House) -> None:
    recorder, _ = house.start("recorder")
    courier, _ = house.start("courier")
    eventually(lambda: house.uploaded() >= 1, "what was recorded arrives", 60)
    spool, runtime = f"/{SPOOL}/spool", "/run/kiosk-recorder"
    eventually(lambda: house.may("courier", f"cat {spool}/open/*.part >/dev/null"), "the courier reads the spool")
    os.kill(recorder.pid, signal.SIGSTOP)
    for forbidden in (
        f"touch {spool}/sealed/mine",
        f"touch {spool}/mine",
        f"touch /{SPOOL}/mine",
        f"rm -f {spool}/open/*.part",
        f"for each in {spool}/open/*.part; do : >>$each; done",
        f"mv {spool} {spool}.old",
        f"mv /{SPOOL}/state /{SPOOL}/state.old",
        f"mv {runtime}/recorder.json {runtime}/mine.json",
        f"rm -f {runtime}/recorder.json",
        "cat /etc/shadow",
    ):
        assert not house.may("courier", forbidden), forbidden
    for allowed in (f"touch /{SPOOL}/state/mine", f"touch {runtime}/mine", "cat /etc/kiosk-recorder/config.toml"):
        assert house.may("courier", allowed), allowed
    assert not house.may("recorder", f"rm -f {runtime}/mine"), "what is the courier's"
    os.kill(recorder.pid, signal.SIGCONT)
    house.end(recorder)
    house.end(courier)
    shown = house.machine.run(
        "sh", "-c", f"stat -c '%U:%G %a' {spool}/sealed/* /{SPOOL}/state/ledger.db | sort -u"
    ).text
    assert shown.splitlines() == ["kiosk-recorder:kiosk 640", "kiosk-recorder:kiosk 660"]


_FORGED = """
from pathlib import Path
from agent.recorder.quiet import Moment, begun
from agent.recorder.standing import Standing, keep
now = Moment("f" * 32, 0, None)
keep(Path("{place}"), Standing(generation=99, quiets=(begun("muted", "button", None, now),)), durable=False)
"""


@pytest.mark.parametrize("made", [True, False], ids=["made", "planted"])
def test_a_courier_that_was_taken_can_put_no_order_where_the_recorder_looks(house: House, made: bool) -> None:  # noqa: FBT001
    runtime, spool = "/run/kiosk-recorder", f"/{SPOOL}"
    if made:
        for forbidden in ("touch {0}/orders.json", "mkdir {0}/spool", "mv {0} {0}.old", "rmdir {0}", "chmod g+w {0}"):
            assert not house.may("courier", forbidden.format(f"{runtime}/direct")), forbidden
    else:
        assert house.machine.run("rmdir", f"{runtime}/direct").status == 0
        assert house.may("courier", f"mkdir {runtime}/direct")
        house.python("courier", _FORGED.format(place=f"{runtime}/direct"))
    house.python("courier", _FORGED.format(place=runtime))
    recorder, heard = house.start("recorder")
    eventually(lambda: "STATUS=recording" in heard.said, "the room is heard", 60)
    assert house.end(recorder) == 0
    assert house.may("courier", f"cat {spool}/spool/sealed/*.flac >/dev/null")
    owner = house.machine.run("stat", "-c", "%U %a", f"{runtime}/direct").text.split()
    assert owner[0] == ("kiosk-recorder" if made else "kiosk-courier")


def test_commands_pass_from_one_to_the_other_and_back(house: House) -> None:
    mailbox = "from pathlib import Path; from agent.mailbox import Mailbox; m = Mailbox(Path('/run/kiosk-recorder')); "
    name = "0" * 32
    assert house.python("courier", f"{mailbox} print(m.hand_over({name!r}, b'mute'))") == "True\n"
    assert house.python("recorder", f"{mailbox} print(m.take()); m.reply({name!r}, {{'ok': True}})") == (
        f"{{{name!r}: b'mute'}}\n"
    )
    assert house.python("courier", f"{mailbox} print(m.answer({name!r}))") == "{'ok': True}\n"
    assert house.python("courier", f"{mailbox} print(m.answer({name!r}))") == "None\n"


def test_the_release_that_runs_is_the_one_that_was_installed(house: House) -> None:
    assert house.python("recorder", "import agent; print(agent.__version__)") == f"{FIRST}\n"
