"""Lays each picture where the textfile collector of Prometheus' node_exporter finds it."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agent.contract.exposition import exposition
from agent.courier.alarms import Raised
from agent.courier.monitor import Picture
from agent.errors import KioskError
from agent.settings import Device

log = logging.getLogger(__name__)


class TextFile:
    """Belongs to the monitor's thread. A file that can't be written is told once, and again when it could be."""

    def __init__(self, path: Path, device: Device) -> None:
        self._path = path
        self._labels = {"site": device.site, "device": device.id}
        self._told = ""

    def write(self, picture: Picture, raised: Mapping[str, Raised]) -> None:
        """Replace the file as a whole: whoever reads never sees half of it. Not durable, by intent."""
        alerts = {name: alert.severity for name, alert in raised.items()}
        text = exposition(picture.values, alerts, wall_ns=picture.wall_ns, labels=self._labels)
        # The collector reads what ends in .prom; the name is new each time, so that nobody can have laid a link there.
        fresh = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            _write_new(fresh, text)
            fresh.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            self._tell(error)
        else:
            self._told = ""

    def _tell(self, error: OSError) -> None:
        cause = error.strerror or str(error)
        if cause != self._told:
            hint = "make the directory, and let the courier's user write there; or leave `export.textfile` empty"
            log.warning("%s", KioskError("write metrics", place=str(self._path), cause=cause, hint=hint))
        self._told = cause


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
