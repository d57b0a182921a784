"""Admins of the fleet, each with keys and a memory of their own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from agent.contract.messages import FLAGS, ROLLOUT
from fleet import keyring
from fleet.broker import Address, Line
from fleet.cli import main
from fleet.control import Control
from fleet.keyring import Key
from fleet.noticeboard import TOPICS, Kind
from fleet.rolling import Approval
from fleet.sightings import Sightings
from tests.servers import Broker


@dataclass(frozen=True, slots=True)
class Admin:
    """Somebody with a key."""

    key: Key
    where: Path
    url: str

    @property
    def approval(self) -> Approval:
        return Approval(self.key, "the committee")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of `kiosk-fleet`, as a person gives it; in this process, which is faster."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.environment),
            mock.patch.object(sys, "argv", ["kiosk-fleet", *words]),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"KIOSK_FLEET_KEYS": str(self.where), "KIOSK_FLEET_BROKER": self.url}

    def said(self, *words: str) -> str:
        """What a command that has to succeed says."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def json(self, *words: str) -> Any:  # noqa: ANN401
        """The JSON document that a command answers with, whatever its exit status."""
        done = self.run(*words, "--json")
        assert done.stdout, (words, done.stderr)
        return json.loads(done.stdout)

    @contextmanager
    def control(self, now_ns: Callable[[], int] | None = None) -> Iterator[Control]:
        """What its commands work with."""
        with Line(Address(self.url)) as line:
            trusted, sightings = keyring.trusted(self.where), Sightings(self.where / "seen.json", self.url)
            yield Control(line, trusted, sightings, now_ns) if now_ns else Control(line, trusted, sightings)


def admin(where: Path, name: str, broker: Broker, trusts: Sequence[Admin] = ()) -> Admin:
    """A new one; all who are named trust each other."""
    found = Admin(keyring.make(where / name, name), where / name, broker.url)
    for other in trusts:
        keyring.trust(found.where, other.key.name, other.key.public)
        keyring.trust(other.where, name, found.key.public)
    return found


def retained(broker: Broker) -> dict[str, bytes]:
    """Both documents as the broker has them, byte for byte."""
    with Line(Address(broker.url)) as line:
        return line.retained(FLAGS, ROLLOUT)


def put(broker: Broker, kind: Kind, payload: bytes) -> None:
    """As somebody does who may write there."""
    command = ["mosquitto_pub", "-V", "5", "-p", str(broker.port), "-q", "1", "-r", "-t", TOPICS[kind]]
    subprocess.run([*command, "-s" if payload else "-n"], input=payload, check=True)
