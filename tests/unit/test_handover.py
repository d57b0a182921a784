"""Settings on their way into the lean processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from agent import config
from agent.errors import KioskError
from agent.handover import hand_over, take_over

ROOT = Path(__file__).parents[2]
TEXT = """
[device]
site = "north"
id = "room-12"
[spool]
cap = "20MB"
[upload]
hours = ["20:00-06:00"]
"""
READ = config.parse(TEXT, "config.toml")


def test_settings_arrive_as_they_were() -> None:
    assert take_over(hand_over(READ)) == READ


def test_they_survive_exec_into_a_process_without_the_validator() -> None:
    lean = (
        "import sys; from agent.handover import take_over; settings = take_over(int(sys.argv[1]))\n"
        "loaded = {'pydantic', 'pydantic_core', 'typer', 'rich', 'tomllib'} & set(sys.modules)\n"
        "print(settings.device.id, settings.spool.cap, settings.upload.hours[0], sorted(loaded))"
    )
    front = (
        "import os, sys; from agent import config; from agent.handover import hand_over\n"
        "settings = config.parse(sys.argv[1], 'config.toml')\n"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[2], str(hand_over(settings))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", front, TEXT, lean], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("room-12 20MB 20:00-06:00 []\n", "")


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps("something else"), b"\x80\x05cnowhere\nx\n."])
def test_anything_else_is_refused_with_the_way_out(content: bytes) -> None:
    descriptor = os.memfd_create("test")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    with pytest.raises(KioskError, match="no settings are there"):
        take_over(descriptor)


def test_a_descriptor_that_isnt_open_is_refused_likewise() -> None:
    with pytest.raises(KioskError, match="no settings are there"):
        take_over(987654)
