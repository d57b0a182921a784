"""What every command has in common: help, versions, errors, pipes, colours."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from agent import __version__
from agent.cli import app
from tests.cli.kiosk import PROGRAM, ROOT, Kiosk

COMMANDS = [
    *((command.name,) for command in app.registered_commands),
    *(("config", command.name) for command in app.registered_groups[0].typer_instance.registered_commands),  # type: ignore[union-attr]
]


def named(command: tuple[str | None, ...]) -> list[str]:
    assert None not in command
    return [str(word) for word in command]


@pytest.mark.parametrize("command", [command for command in COMMANDS if None not in command], ids=str)
def test_help_of_every_command_has_an_example_that_names_it(kiosk: Kiosk, command: tuple[str, ...]) -> None:
    answer = kiosk.run(*command, "--help", config=False)
    assert answer.status == 0
    assert f"Example: kiosk-recorder {' '.join(command)}" in answer.out


def test_every_option_of_every_example_exists(kiosk: Kiosk) -> None:
    examples = [command.epilog for command in app.registered_commands]
    for example in examples:
        words = str(example).removeprefix("Example: kiosk-recorder ").split()
        offered = kiosk.run(words[0], "--help", config=False).out
        assert all(f"{option} " in offered for option in words if option.startswith("--")), example


def test_the_version_is_the_packages(kiosk: Kiosk) -> None:
    assert kiosk.run("--version", config=False).out == f"kiosk-recorder {__version__}\n"


def test_an_unknown_command_exits_2(kiosk: Kiosk) -> None:
    answer = kiosk.run("recrod", config=False)
    assert (answer.status, answer.out) == (2, "")
    assert "No such command 'recrod'" in answer.err


def test_what_help_and_record_load_is_little(kiosk: Kiosk) -> None:
    program = "import sys, agent.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()
    assert {"rich", "pydantic", "numpy", "soundfile", "sqlite3", "boto3"} & set(loaded) == set()
    assert kiosk.run("--help", config=False).status == 0


def test_an_error_says_what_where_why_and_the_way_out(kiosk: Kiosk) -> None:
    answer = kiosk.run("list")
    assert answer.status == 2
    assert answer.out == ""
    assert answer.err == (
        f"open ledger {kiosk.spool}/state/ledger.db: it does not exist\n"
        "  → the recorder makes it: is it running, and is `spool.path` right?\n"
    )


def test_a_fault_of_the_program_shows_its_traceback_only_on_demand(kiosk: Kiosk) -> None:
    kiosk.recorded(1)
    kiosk.environment["PYTHONPATH"] = f"{kiosk.root}:{ROOT}"
    (kiosk.root / "sitecustomize.py").write_text("import agent.ledger as l\nl.Ledger.boots = lambda self: 1 / 0\n")
    short = kiosk.run("list")
    assert short.status == 2
    assert short.err.splitlines() == [
        "unexpected: ZeroDivisionError: division by zero",
        "  → this is a fault of the program: run it again with --debug and report what it prints",
    ]
    for whole in (kiosk.run("--debug", "list"), kiosk.run("list", KIOSK_RECORDER_DEBUG="1")):
        assert whole.status == 2
        assert "Traceback" in whole.err
        assert "sitecustomize.py" in whole.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(kiosk: Kiosk, unbuffered: str) -> None:
    kiosk.recorded(1)
    command = [*PROGRAM, "list", "--config", str(kiosk.config)]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            command,
            stdout=writer,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def seen(kiosk: Kiosk, *arguments: str, **environment: str) -> str:
    """What a command shows on a terminal."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments, "--config", str(kiosk.config)],
        stdout=end,
        stderr=end,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", **environment},
    )
    os.close(end)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(terminal)
    process.wait()
    return shown.decode()


def test_colours_are_for_terminals_and_for_those_who_want_them(kiosk: Kiosk) -> None:
    kiosk.recorded(1)
    assert "\033[" in seen(kiosk, "list")
    assert "\033[" not in seen(kiosk, "list", NO_COLOR="1")
    assert "\033[" not in seen(kiosk, "list", TERM="dumb")
    assert "\033[" not in kiosk.run("list").out


def test_a_terminal_and_a_pipe_are_told_the_same(kiosk: Kiosk) -> None:
    kiosk.recorded(5)
    for command in ("list", "timeline", "verify"):
        shown = re.sub(r"\033\[[0-9;?]*[a-zA-Z]|\r", "", seen(kiosk, command))
        assert kiosk.run(command).out in shown
