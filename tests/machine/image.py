"""The disk of a guest: a small Debian, built from its packages once and then kept in the user's cache.

The guest is the Debian of this machine, so that a wheel that was built here is right there. What a guest writes goes
to layers of its own: the image is never written to. It is kept under the hash of its recipe, which is this module.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import lzma
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MIRROR: Final = "http://deb.debian.org/debian"
_SIZE: Final = "4G"
"""Of the disk; sparse, so it takes what is written."""

_PACKAGES: Final = (
    "alsa-utils",  # plays into the card
    "busybox-static",  # the initial RAM disk
    "ca-certificates",
    "dbus",  # systemctl's way to systemd
    "iproute2",
    "kmod",
    "libasound2",
    "linux-image-amd64",  # the cloud's kernel has no sound
    "procps",
    "python3",
    "python3-venv",
    "qemu-guest-agent",  # takes the tests' commands
    "systemd-sysv",
    "tzdata",
    "udev",
)

_LEFT_OUT: Final = (
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    *(f"/lib/modules/*/kernel/drivers/{of}/*" for of in ("gpu", "infiniband", "media", "scsi", "staging")),
    *(f"/lib/modules/*/kernel/drivers/net/{of}/*" for of in ("ethernet", "wireless")),
)

_NEEDLESS_UNITS: Final = (
    *(f"{name}.timer" for name in ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "fstrim")),
    *(
        "alsa-restore.service",
        "alsa-state.service",
        "e2scrub_reap.service",
        "getty.target",
        "kmod-static-nodes.service",
    ),
    *(f"modprobe@{name}.service" for name in ("configfs", "dm_mod", "drm", "efi_pstore", "fuse", "loop")),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "proc-sys-fs-binfmt_misc.automount"),
    *("systemd-ask-password-console.path", "systemd-ask-password-wall.path"),
    *("systemd-binfmt.service", "systemd-fsckd.socket", "systemd-initctl.socket", "systemd-logind.service"),
    *("kmod-static-nodes.service", "systemd-random-seed.service", "systemd-rfkill.socket", "systemd-sysctl.service"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-user-sessions.service"),
)
"""Each takes a second of an emulated processor at each boot."""

_BOOT_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4")

_FILES: Final = {
    "etc/hostname": "kiosk\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    # QEMU's own network: the guest is 10.0.2.15, and 127.0.0.1 of the host is 10.0.2.2.
    "etc/systemd/system/guest-network.service": """[Unit]
DefaultDependencies=no
Before=network.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'modprobe virtio_net; ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0; \\
    ip route add default via 10.0.2.2'
[Install]
WantedBy=multi-user.target
""",
    # It tells the journal of every command.
    "etc/systemd/system/qemu-guest-agent.service.d/quiet.conf": "[Service]\nLogLevelMax=warning\n",
    # Of the devices that were there before udev, it looks at those that matter.
    "etc/systemd/system/systemd-udev-trigger.service.d/few.conf": """[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=block --subsystem-match=mem --subsystem-match=sound \\
    --subsystem-match=virtio-ports
""",
    # A real sound card of the kernel: what is played to its device 0 is what its device 1 hears.
    "etc/modules-load.d/guest.conf": "snd-aloop\nvirtio_console\n",
    "etc/modprobe.d/guest.conf": "options snd-aloop id=KioskMic pcm_substreams=1\n",
}

_INIT: Final = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in /lib/*.ko; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A directory with what a guest boots from."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"


def cache() -> Path:
    """Where things are kept that take long to make and can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kiosk-recorder"


def kept_image() -> Image:
    """The image, built if it isn't there yet: some minutes. Raises CalledProcessError with what was said."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    recipe = hashlib.sha256(Path(__file__).read_bytes() + codename.encode()).hexdigest()
    directory = cache() / f"guest-{recipe[:16]}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "guest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            for old in cache().glob("guest-*"):
                shutil.rmtree(old)
            with tempfile.TemporaryDirectory(dir=cache()) as work:
                _build(Path(work), codename)
                (Path(work) / "image").rename(directory)
    return Image(directory)


@contextlib.contextmanager
def mounted(disk: Path) -> Iterator[Path]:
    """The files on a disk that no guest uses now."""
    with tempfile.TemporaryDirectory(prefix="disk-") as place:
        _run("mount", "-o", "loop", str(disk), place)
        try:
            yield Path(place)
        finally:
            _run("umount", place)


def _build(work: Path, codename: str) -> None:
    root, image = work / "root", Image(work / "image")
    image.directory.mkdir()
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    _run(
        *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}", *options),
        *(codename, str(root), _MIRROR),
        # The kernel's package then makes no initial RAM disk: ours is smaller and finds its disk at once.
        environment={"INITRD": "No"},
    )
    for name, content in _FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    _run("chroot", str(root), "systemctl", "--quiet", "mask", *_NEEDLESS_UNITS)
    _run("chroot", str(root), "systemctl", "--quiet", "enable", "guest-network")
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    image.kernel.write_bytes(_unpacked(kernel.read_bytes()))
    _make_initrd(root, kernel.name.removeprefix("vmlinuz-"), image.initrd)
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image.disk), _SIZE)


def _make_initrd(root: Path, release: str, initrd: Path) -> None:
    """A program and a script that mounts the disk."""
    tree = root / "initrd"
    for name in ("bin", "dev", "lib", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", tree / "bin")
    (tree / "init").write_text(_INIT)
    (tree / "init").chmod(0o755)
    for number, module in enumerate(_with_what_they_need(root, release)):
        content = module.read_bytes()
        # Named so that they are loaded in this order.
        file = tree / "lib" / f"{number:02}-{module.name.removesuffix('.xz')}"
        file.write_bytes(lzma.decompress(content) if module.suffix == ".xz" else content)
    archive = "cd /initrd && find . | busybox cpio -o -H newc"
    initrd.write_bytes(_run("chroot", str(root), "sh", "-c", archive))
    shutil.rmtree(tree)


def _unpacked(kernel: bytes) -> bytes:
    """The ELF file in a bzImage: unpacking itself takes an emulated processor longer than booting."""
    return lzma.LZMADecompressor().decompress(kernel[kernel.index(b"\xfd7zXZ\0") :])


def _with_what_they_need(root: Path, release: str) -> list[Path]:
    """The modules that a boot takes, each after those that it builds on."""
    files: dict[Path, None] = {}
    for module in _BOOT_MODULES:
        said = _run("chroot", str(root), "modprobe", "--set-version", release, "--show-depends", module).decode()
        files.update(dict.fromkeys(Path(line.split()[1]) for line in said.splitlines() if line.startswith("insmod")))
    return [root / file.relative_to("/") for file in files]


def _run(*command: str, environment: dict[str, str] | None = None) -> bytes:
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr.decode(errors='replace')}"
    return done.stdout
