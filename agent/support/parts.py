"""What goes into a bundle, a file each. Nothing is copied from the spool; of a recording only its name is told."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agent import config
from agent.checkup.software import versions
from agent.commands import hardware, status, timeline
from agent.commands.kiosk import Kiosk, open_ledger, process_of
from agent.commands.times import iso
from agent.contract.flags import VARIABLE_PREFIX
from agent.errors import KioskError
from agent.spool import files_below
from agent.units import NS_PER_S
from hw.alsa import microphones
from hw.kernel import told

_DAY_NS: Final = 86_400 * NS_PER_S
_LOG_LINES: Final = 5000
_PATIENCE_S: Final = 30

_OF_INSTALLATION: Final = ("kiosk-first-boot.service", "kiosk-spool-grow.service", "kiosk-trial.service")
_FIRST_LOG: Final = "var/tmp/kiosk-recorder.log"
"""Where a stock system's first start writes how the installation went (image/cloud-init)."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is looked at."""

    kiosk: Kiosk | None
    """None when the configuration can't be read."""
    trouble: str
    """Why not."""
    environment: Mapping[str, str]
    """That of the services."""
    now_ns: int
    """Wall time."""
    root: Path


def collect(scene: Scene) -> Iterator[tuple[str, str]]:
    """Names and texts. What can't be had says why in its own place, and keeps nothing else from being told."""
    for name, part in _PARTS.items():
        try:
            text = part(scene)
        except (KioskError, OSError, subprocess.SubprocessError) as error:
            text = f"not available: {error}\n"
        except Exception as error:  # noqa: BLE001 (told)
            text = f"not available: {type(error).__name__}: {error}\n"
        yield name, text


def _about(scene: Scene) -> str:
    about: dict[str, Any] = {"versions": versions(scene.root)}
    if scene.kiosk is not None:
        device = scene.kiosk.settings.device
        about |= {"site": device.site, "device": device.id, "time": iso(scene.now_ns, scene.kiosk.zone)}
    return _json(about)


def _configuration(scene: Scene) -> str:
    return scene.trouble if scene.kiosk is None else config.as_toml(scene.kiosk.settings)


def _environment(scene: Scene) -> str:
    """Names, and the values of feature flags alone."""
    lines = [
        f"{name}={value}" if name.startswith(VARIABLE_PREFIX) else f"{name} is set"
        for name, value in sorted(scene.environment.items())
    ]
    return "\n".join(lines) + "\n" if lines else "empty\n"


def _status(scene: Scene) -> str:
    return _json(status.document(_known(scene)))


def _hardware(scene: Scene) -> str:
    directory = scene.root if scene.kiosk is None else scene.kiosk.settings.spool.path
    return _json(hardware.document(hardware.look(directory, scene.root)))


def _ledger(scene: Scene) -> str:
    kiosk = _known(scene)
    with open_ledger(kiosk) as ledger:
        number, digest = ledger.head()
        gaps: dict[str, dict[str, float]] = {}
        for gap in ledger.gaps():
            sums = gaps.setdefault(gap.reason, {"count": 0, "seconds": 0.0})
            sums["count"] += 1
            if gap.previous_boot is None:
                sums["seconds"] += (gap.end_ns - gap.begin_ns) / NS_PER_S
        last = ledger.last_acknowledged_ns()
        return _json(
            {
                "epoch": ledger.epoch(),
                "entries": number,
                "head": digest.hex(),
                "here": {state: asdict(tally) for state, tally in ledger.tally().items()},
                "counters": ledger.counters(),
                "gaps": gaps,
                "boots": [asdict(boot) for boot in ledger.boots()[-20:]],
                "last_upload": None if last is None else iso(last, kiosk.zone),
            }
        )


def _timeline(scene: Scene) -> str:
    return _json(timeline.document(_known(scene), since_ns=scene.now_ns - _DAY_NS, until_ns=None))


def _spool(scene: Scene) -> str:
    """Names, sizes and times of files."""
    layout = _known(scene).layout
    lines = []
    for directory in (layout.open, layout.sealed, layout.quarantine, layout.state):
        for entry in sorted(files_below(directory), key=lambda each: each.name):
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            owner = f"{found.st_uid}:{found.st_gid} {found.st_mode & 0o7777:o}"
            relative = Path(entry.path).relative_to(layout.root)
            lines.append(f"{found.st_size:12} {int(found.st_mtime)} {owner} {relative}")
    return "\n".join(lines) + "\n"


def _disks(scene: Scene) -> str:
    lines = []
    places = {scene.root, Path("/run"), *([] if scene.kiosk is None else [scene.kiosk.layout.root])}
    for place in sorted(places):
        try:
            room = os.statvfs(place)
        except OSError as error:
            lines.append(f"{place}: {error.strerror}")
            continue
        size, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        lines.append(f"{place}: {free} of {size} bytes free, {room.f_favail} of {room.f_files} inodes")
    mounts = told(scene.root / "proc/self/mountinfo") or "not available"
    return "\n".join([*lines, "", mounts]) + "\n"


def _processes(scene: Scene) -> str:
    kiosk = _known(scene)
    text = ""
    for role in ("recorder", "courier"):
        pid = process_of(kiosk.layout, role)
        text += f"{role}: {'not running' if pid is None else pid}\n"
        if pid is not None:
            for name in ("status", "limits", "io"):
                text += f"-- {name}\n{told(scene.root / f'proc/{pid}/{name}') or 'not available'}\n"
    return text


def _sound(scene: Scene) -> str:
    found = "".join(f"{each.pcm}  {each.card}, {each.device}\n" for each in microphones()) or "no microphone found\n"
    files = ("cards", "pcm", "version")
    return found + "".join(
        f"-- {name}\n{told(scene.root / 'proc/asound' / name) or 'not available'}\n" for name in files
    )


def _journal(*arguments: str) -> Callable[[Scene], str]:
    def read(_scene: Scene) -> str:
        if shutil.which("journalctl") is None:
            return "no journal here: there is no journalctl\n"
        command = ["journalctl", "--no-pager", "-o", "short-iso", "-n", str(_LOG_LINES), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S, check=False
        )
        return done.stdout + done.stderr

    return read


def _installation(scene: Scene) -> str:
    """What installed this kiosk, took in its configuration and judged its release."""
    said = _journal(*(f"--unit={unit}" for unit in _OF_INSTALLATION))(scene)
    return f"{said}-- /{_FIRST_LOG}\n{_end_of_log(scene.root / _FIRST_LOG)}"


def _end_of_log(file: Path) -> str:
    try:
        # Anybody may have put something into that directory: a link could lead root to what nobody should read.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "none\n"
    except OSError as error:
        return f"not available: {error.strerror}\n"
    with os.fdopen(descriptor, errors="replace") as log:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "not available: it is no file\n"
        return "".join(deque(log, _LOG_LINES))


def _releases(scene: Scene) -> str:
    """Which release runs, which did before it, which is still being judged, and which are here."""
    place = scene.root / "opt/kiosk-recorder"
    if not place.is_dir():
        return "none: this kiosk runs from where it lies\n"
    current, previous = ((place / name) for name in ("current", "previous"))
    lines = [f"{link.name}: {link.readlink().name if link.is_symlink() else 'none'}" for link in (current, previous)]
    lines.append(f"on trial: {(told(place / 'trial') or 'none').strip()}")
    lines += [
        f"{release.name} is {'complete' if (release / 'complete').exists() else 'not complete'}"
        for release in sorted((place / "releases").iterdir())
    ]
    return "\n".join(lines) + "\n"


def _known(scene: Scene) -> Kiosk:
    """Raises KioskError when nobody knows where the kiosk's files are."""
    if scene.kiosk is None:
        raise KioskError("look", cause="the configuration can't be read: see configuration.toml")
    return scene.kiosk


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


_PARTS: Final[dict[str, Callable[[Scene], str]]] = {
    "about.json": _about,
    "configuration.toml": _configuration,
    "disks.txt": _disks,
    "environment.txt": _environment,
    "hardware.json": _hardware,
    "ledger.json": _ledger,
    "log-courier.txt": _journal("-u", "kiosk-courier.service"),
    "log-installation.txt": _installation,
    "log-kernel.txt": _journal("-k", "-p", "warning"),
    "log-recorder.txt": _journal("-u", "kiosk-recorder.service"),
    "processes.txt": _processes,
    "releases.txt": _releases,
    "sound.txt": _sound,
    "spool.txt": _spool,
    "status.json": _status,
    "timeline.json": _timeline,
}
"""By name, and so in the order in which they are in the bundle."""
