"""`kiosk-recorder support-bundle`: what somebody far away needs to see, in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from agent.commands import kiosk
from agent.commands.environment import act_as_services
from agent.config import locate
from agent.contract.keys import utc
from agent.errors import EXIT_GOOD, KioskError
from agent.support.bundle import packed
from agent.support.parts import Scene, collect
from agent.support.redaction import redact, secrets_of
from agent.terminal import say, say_json
from agent.units import NS_PER_S, human_bytes
from hw.clock import SystemClock

_SUFFIX = ".tar.gz"


def bundle(config: Path | None, out: Path | None, environment: Path, *, as_json: bool) -> int:
    """Write it and tell what is in it. Raises KioskError; then no file was made or replaced."""
    services = act_as_services(environment)
    found, trouble = _find(config)
    now_ns = SystemClock().wall_ns()
    out = out or Path(f"{_name(found)}-{utc(now_ns):%Y%m%dT%H%M%SZ}{_SUFFIX}")
    if not out.name.endswith(_SUFFIX):
        raise _refusal(out, "isn't named as an archive", f"end its name in {_SUFFIX}")
    if out.exists():
        raise _refusal(out, "exists already", "name another one")
    scene = Scene(found, trouble, services, now_ns, Path("/"))
    secrets = secrets_of(_text_of(config), services, os.environ)
    texts = {name: redact(text, secrets) for name, text in collect(scene)}
    folder = out.name.removesuffix(_SUFFIX)
    _write(out, packed(texts, folder, now_ns // NS_PER_S))
    _tell(out, folder, texts, as_json=as_json)
    return EXIT_GOOD


def _find(config: Path | None) -> tuple[kiosk.Kiosk | None, str]:
    """The kiosk, or why it isn't known: a kiosk with a broken configuration needs help more than others."""
    try:
        return kiosk.find(config), ""
    except KioskError as error:
        return None, f"{error}\n"


def _text_of(config: Path | None) -> str:
    """What can't be read here can't get into the bundle."""
    try:
        return locate(config, os.environ).read_text(errors="replace")
    except OSError:
        return ""


def _name(found: kiosk.Kiosk | None) -> str:
    return f"support-{found.settings.device.site}-{found.settings.device.id}" if found else "support"


def _write(out: Path, content: bytes) -> None:
    """For its owner alone: it has no secrets, but it tells a lot."""
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise _refusal(out, error.strerror or str(error), "name a place that can be written") from error


def _tell(out: Path, folder: str, texts: Mapping[str, str], *, as_json: bool) -> None:
    sizes = {name: len(texts[name].encode(errors="replace")) for name in sorted(texts)}
    if as_json:
        files = [{"name": f"{folder}/{name}", "bytes": size} for name, size in sizes.items()]
        say_json({"file": str(out), "bytes": out.stat().st_size, "files": files})
        return
    for name, size in sizes.items():
        say(f"{human_bytes(size):>9}  {folder}/{name}")
    say(
        f"{out}: {human_bytes(out.stat().st_size)}; no audio, no keys, no passwords: look through it before you send it"
    )


def _refusal(file: Path, cause: str, hint: str) -> KioskError:
    return KioskError("write bundle", place=str(file), cause=cause, hint=hint)
