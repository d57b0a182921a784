"""docs/CLI.md names the commands, options and findings that there are."""

from __future__ import annotations

import inspect
import re

import pytest

from agent import inspection
from agent.cli import app
from agent.commands import verify
from tests.cli.kiosk import ROOT, Kiosk

PAGE = (ROOT / "docs" / "CLI.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
EVERYWHERE = {"--config", "--json", "--help"}


def test_every_command_has_its_section() -> None:
    commands = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    assert set(SECTIONS) == {*commands, *(group.name for group in app.registered_groups)}


@pytest.mark.parametrize("command", SECTIONS)
def test_the_page_and_the_command_know_the_same_options(kiosk: Kiosk, command: str) -> None:
    help_of = [[command], ["config", "check"]] if command == "config" else [[command]]
    offered = "".join(kiosk.run(*words, "--help", config=False).out.split("Example:")[0] for words in help_of)
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", SECTIONS[command]))
    known = set(re.findall(r"--[a-z][a-z-]+", offered))
    # -o is told by its short name.
    assert told - EVERYWHERE == known - EVERYWHERE - {"--out"}


def test_every_kind_of_finding_is_explained() -> None:
    source = inspect.getsource(inspection) + inspect.getsource(verify)
    kinds = set(re.findall(r'Finding\("([a-z]+)"', source))
    explained = {
        word for row in re.findall(r"^\| (`.*?`) \|", SECTIONS["verify"], re.MULTILINE) for word in row.split("`")
    }
    assert kinds == explained - {"", ", "}
