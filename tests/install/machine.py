"""A machine to install on: this one's files, below a layer that takes what is changed, in a mount namespace of its own.

Everything is real (chroot, dpkg, Python, pip, users) but systemd, which doesn't run here: `systemctl` is a script that
writes down what it's asked, and says that services live unless their release is called broken, or doesn't know a word
of the configuration. The guest in tests/machine has the real one.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]

OPT = Path("opt/kiosk-recorder")
ETC = Path("etc/kiosk-recorder")
SPOOL = Path("var/lib/kiosk-recorder")

_MEMORY = """
set -e
mount -t tmpfs tmpfs "$1"
echo ready
read -r _
"""

_LAYERS = """
set -e
mkdir -p "$2" "$3" "$4"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
for each in proc dev; do mount --rbind "/$each" "$4/$each"; done
for each in run tmp; do mount -t tmpfs tmpfs "$4/$each"; done
mount --bind "$5" "$4/media"
mkdir -p "$4/run/systemd/system"
chmod 1777 "$4/tmp"
echo ready
read -r _
"""

_SYSTEMCTL = """#!/bin/bash
echo "$*" >>/run/told
current=$(readlink -f /opt/kiosk-recorder/current)
lives() {
    ! grep -qsx "$(basename "$current")" /run/broken &&
        ! { [[ -e $current/unknown ]] && grep -qsf "$current/unknown" /etc/kiosk-recorder/config.toml; }
}
case " $* " in
    *" restart "*)
        mkdir -p /run/kiosk-recorder
        does=$(cat /run/does 2>/dev/null || echo recording)
        printf '{"pid": 1, "state": "%s"}' "$does" >/run/kiosk-recorder/recorder.json
        ;;
    *" is-active "*) lives ;;
    # What doesn't live is started again and again: as often as it's asked for.
    # What limps begins to be when it was watched for a moment.
    *" show "*)
        asked=$(grep -c show /run/told)
        if ! lives; then
            echo "$asked"
        elif grep -qsx "$(basename "$current")" /run/limping && ((asked > 2)); then
            echo "$((asked - 2))"
        else
            echo 0
        fi
        ;;
esac
"""

_PYTHON = """#!/bin/bash
# As /usr/bin/python3, but an environment borrows packages that are there: its pip has little to do.
base={lib}
if [[ "$1 $2" == "-m venv" && -d $base ]]; then
    {python} -m venv --without-pip "$3"
    for packages in "$3"/lib/python3*/site-packages; do
        echo "$base/$(basename "$(dirname "$packages")")/site-packages" >"$packages/borrowed.pth"
    done
else
    exec -a "$0" {python} "$@"
fi
"""

_KNOWS_LESS = """#!/bin/bash
# As kiosk-recorder, of a release that doesn't know a word yet.
[[ $1 != config ]] || ! grep -qf "{release}/unknown" "${{@: -1}}" || {{ echo "not known"; exit 2; }}
exec "{release}/venv/bin/python" -P -c 'import agent.cli, sys; sys.exit(agent.cli.main())' "$@"
"""

_AT_EACH_COMMAND = """
if [[ $0 == *install.sh ]]; then
    set -o functrace
    _done=0
    _counts() {{ (( BASH_SUBSHELL == 0 )) && [[ " {functions} " == *" $1 "* ]]; }}
    trap '! _counts "${{FUNCNAME[0]-}}" || (( ++_done != {at} )) || kill -9 0' DEBUG
fi
"""


def installation(version: str) -> list[str]:
    """The command that installs a release without network, in a few seconds of watching."""
    media = f"/media/{version}"
    return [f"{media}/install.sh", "--offline", "--wheelhouse", f"{media}/wheels", "--health-seconds", "1"]


_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Said:
    """How a run of install.sh ended."""

    status: int
    text: str
    """Both streams."""

    @property
    def nothing_changed(self) -> bool:
        return "nothing was changed" in self.text.lower()


class Namespace:
    """Mounts of its own, for as long as it's entered. Raises OSError where nobody may mount."""

    def __init__(self, script: str, *arguments: str, inside: Namespace | None = None) -> None:
        self._enter = inside.command if inside is not None else []
        self._start = ["unshare", "--mount", "bash", "-c", script, "bash", *arguments]
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            [*self._enter, *self._start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        if said.strip() != "ready":
            self.__exit__()
            raise OSError(said.strip() or "nothing was said")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder is not None
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()

    @property
    def command(self) -> list[str]:
        """What to put before a command that is to run there."""
        assert self._holder is not None
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]

    def path(self, path: Path) -> Path:
        """A path there, as this process finds it."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root{path}")


class Workshop(Namespace):
    """Where machines are kept: in memory, because layers may not lie in the file system that they lie upon."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._count = 0
        super().__init__(_MEMORY, str(place))

    def next(self) -> Path:
        """A place for one more."""
        self._count += 1
        return self.place / str(self._count)


class Machine(Namespace):
    """A machine with `media` as its /media; it begins with what earlier machines changed, the newest first."""

    def __init__(self, workshop: Workshop, media: Path, *earlier: Machine) -> None:
        place = workshop.next()
        self._workshop = workshop
        self._media = media
        self._place = place
        self.root = place / "root"
        self.changed: Path = place / "changed"
        """What differs from the machine that it began with, in the workshop."""
        self._below = ":".join([*(str(each.changed) for each in earlier), "/"])
        super().__init__(
            _LAYERS, self._below, str(self.changed), str(place / "work"), str(self.root), str(media), inside=workshop
        )

    @property
    def changes(self) -> Path:
        """The same, as this process finds it."""
        return self._workshop.path(self.changed)

    def file(self, path: Path | str) -> Path:
        """A path of the machine, as this process finds it, without following its links."""
        return self.path(self.root / str(path).lstrip("/"))

    def run(self, *command: str, **environment: str) -> Said:
        """On the machine, as root."""
        return self._on(["chroot", str(self.root), *command], environment)

    def answer(self, answers: str, *command: str) -> Said:
        """As `run`, on a terminal at which somebody types."""
        keyboard, terminal = pty.openpty()
        os.write(keyboard, answers.encode())
        with subprocess.Popen(
            [*self.command, "chroot", str(self.root), *command],
            env=_ENVIRONMENT,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        ) as process:
            os.close(terminal)
            text = b""
            with suppress(OSError):  # nobody has the terminal any more
                while said := os.read(keyboard, 1 << 16):
                    text += said
        os.close(keyboard)
        return Said(process.returncode, text.decode())

    def install(self, version: str, *arguments: str) -> Said:
        """The install.sh of a release, offline, as a technician at the machine would run it."""
        return self.run(*installation(version), *arguments)

    def install_from_outside(self, version: str, *arguments: str) -> Said:
        """With --root: as whoever makes an image."""
        inside = [word.replace("/media", str(self._media)) for word in installation(version)]
        return self._on([*inside, "--root", str(self.root), *arguments], {})

    def make_card(self, version: str) -> Said:
        """As rpi-image-gen does with its root file system: what the layer's hook does."""
        source = str(self._media / version)
        hook = f"{source}/image/rpi-image-gen/layer/kiosk-recorder.sh"
        wheelhouse = f"{source}/wheels"
        return self._on([hook, str(self.root)], {"IGconf_kiosk_source": source, "IGconf_kiosk_wheelhouse": wheelhouse})

    def cut_power(self, at: int, *command: str, functions: str) -> bool:
        """Kill a run of install.sh before the command number `at` in some of its functions; False: they have fewer."""
        self.write("tmp/cut.bash", _AT_EACH_COMMAND.format(at=at, functions=functions))
        said = self.run(*command, BASH_ENV="/tmp/cut.bash")  # noqa: S108 (the machine's own)
        # What is in memory doesn't survive.
        for name in ("kiosk-recorder-install", "told"):
            self.file(f"run/{name}").unlink(missing_ok=True)
        return said.status == -signal.SIGKILL

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def pretend_systemd(self) -> None:
        for name, text in (("systemctl", _SYSTEMCTL), ("udevadm", "#!/bin/sh\n"), ("journalctl", "#!/bin/sh\n")):
            self.write(f"usr/local/sbin/{name}", text, 0o755)

    def make_environments_quickly(self, lib: Path) -> None:
        """From now on a release borrows the packages of another environment, whose `lib` is there."""
        python = os.path.realpath("/usr/bin/python3")
        self.write("usr/bin/python3", _PYTHON.format(lib=f"/{lib}", python=python), 0o755)

    def is_broken(self, *versions: str) -> None:
        """Services of these releases don't live."""
        self.write("run/broken", "".join(f"{version}\n" for version in versions))

    def limps(self, version: str) -> None:
        """Services of this release come up, and are started again a moment later."""
        self.write("run/limping", f"{version}\n")

    def does_not_know(self, version: str, word: str) -> None:
        """A release neither takes a configuration with this word nor lives with it."""
        release = f"/{OPT}/releases/{version}"
        self.write(f"{release}/unknown", f"{word}\n")
        self.write(f"{release}/venv/bin/kiosk-recorder", _KNOWS_LESS.format(release=release), 0o755)

    def told(self) -> list[str]:
        """What systemctl was asked."""
        file = self.file("run/told")
        return file.read_text().splitlines() if file.exists() else []

    def release(self, name: str = "current") -> str | None:
        """Which release `current` or `previous` is."""
        link = self.file(OPT / name)
        return link.readlink().name if link.is_symlink() else None

    def _on(self, command: Sequence[str], environment: dict[str, str]) -> Said:
        done = subprocess.run(
            [*self.command, *command],
            env={**_ENVIRONMENT, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
            start_new_session=True,  # of which a cut power ends everybody
        )
        return Said(done.returncode, done.stdout)
