"""A machine of its own: Debian on an emulated PC with a disk, a network and a sound card, whose power can be cut."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from tests.machine.agent import Agent, Done
from tests.machine.image import Image
from tests.soundcard import eventually

HOST: Final = "10.0.2.2"
"""Where a guest finds what listens on 127.0.0.1 here."""

_BOOT_S: Final = 600
_LAYER: Final = "cluster_size=4096"

_KERNEL: Final = (
    *("console=ttyS0", "quiet", "net.ifnames=0", "mitigations=off", "audit=0"),
    "noapictimer",  # there are other timers; to calibrate this one takes an emulated processor as long as all the rest
    "cryptomgr.notests",
)


class Guest:
    """Off at first. Use as a context manager: at its end the power is cut, and what was written is forgotten.

    What a power cut takes: all that the guest had in its memory, and of what it had written to its disk, but not
    flushed, everything that lies where nothing was since the boot. Each boot writes to a new qcow2 layer, and QEMU
    keeps to itself where it put a page until the guest flushes (`cache=unsafe` passes the flush on to the layer, but
    not to this machine's own disk). So pages are lost, or kept, or kept without those before them, as in a drive with
    a volatile cache; but a page is whole or not there at all.
    """

    def __init__(self, image: Image, disk: Path) -> None:
        """`disk` is what it begins with: the image's, or a copy of that which was changed. It isn't written to."""
        self.boots = 0
        self._image = image
        self._disk = disk
        self._directory = tempfile.TemporaryDirectory(prefix="guest-")  # short: a socket's path has 107 bytes at most
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: Agent | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut_power()
        self._directory.cleanup()

    @property
    def console(self) -> Path:
        """What this boot said."""
        return self._path(f"console-{self.boots}.log")

    def boot(self) -> None:
        """Until commands can be run. Services may still be starting."""
        assert self._process is None
        self.boots += 1
        self._add_layer()
        socket = self._path("agent")
        with self._path("qemu.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(socket), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(socket.exists, f"QEMU starts: {log.name}")
        self._agent = Agent(socket)
        self._agent.wait(_BOOT_S)

    def cut_power(self) -> None:
        """From one moment to the next."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._agent is not None:
            self._agent.__exit__()
            self._agent = None
        self._path("agent").unlink(missing_ok=True)

    def attempt(self, command: str, seconds: float = 300) -> Done:
        """What became of a command, as root."""
        assert self._agent is not None, "it is off"
        return self._agent.run(command, seconds)

    def run(self, command: str, seconds: float = 300) -> str:
        """What a command printed. AssertionError if it failed."""
        done = self.attempt(command, seconds)
        assert done.status == 0, f"{command}\nended with status {done.status}:\n{done.output}{done.error}"
        return done.output

    def until(self, command: str, seconds: float = 300) -> None:
        """Until a command succeeds. It is asked in the guest once a second: an emulated one that is always asked is
        always busy, and then its time stands nearly still.
        """
        self.run(f"until {{ {command}; }} >/dev/null 2>&1; do sleep 1; done", seconds)

    def _path(self, name: str) -> Path:
        return Path(self._directory.name) / name

    def _add_layer(self) -> None:
        below, kind = (self._path(f"{self.boots - 1}.qcow2"), "qcow2") if self.boots > 1 else (self._disk, "raw")
        layer = self._path(f"{self.boots}.qcow2")
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", _LAYER, "-b", str(below), "-F", kind, str(layer)]
        subprocess.run(command, check=True)

    def _command(self, socket: Path) -> list[str]:
        layer = self._path(f"{self.boots}.qcow2")
        return [
            "qemu-system-x86_64",
            *processor(),
            *("-cpu", "Nehalem", "-m", "1024", "-no-reboot"),
            *("-bios", "qboot.rom"),  # looks for no other disk, and has no menu
            *("-nodefaults", "-display", "none", "-serial", f"file:{self.console}"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            *("-append", " ".join(_KERNEL)),
            *("-drive", f"file={layer},format=qcow2,if=virtio,cache=unsafe"),
            *("-nic", "user,model=virtio-net-pci"),
            *("-chardev", f"socket,path={socket},server=on,wait=off,id=agent"),
            *("-device", "virtio-serial", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
            *("-device", "virtio-rng-pci"),
        ]


def processor() -> list[str]:
    """The processor's own virtualisation where there is one; else everything is translated, some ten times slower.

    Then a busy guest's time goes by the instructions that it carried out, a billion a second as on a Pi, and only an
    idle one's by this machine's clock: services, watchdogs and sound cards keep their deadlines however slow this is.
    """
    flags = Path("/proc/cpuinfo").read_text()
    # Inside some virtual machines /dev/kvm is there, and what is started with it never does anything.
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and (" vmx" in flags or " svm" in flags):
        return ["-machine", "q35,accel=kvm"]
    return ["-machine", "q35,accel=tcg", "-icount", "shift=0,sleep=on"]
