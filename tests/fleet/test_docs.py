"""The documentation of `kiosk-fleet` names the commands, options, phases and reasons that there are."""

from __future__ import annotations

import re
from inspect import signature
from typing import Any, get_args

import pytest
from typer.main import get_command

from fleet.cli import app
from fleet.gate import LEFT_OUT, Reason
from fleet.options import address
from fleet.rolling import DAY_S, PLAN
from fleet.scene import Standing
from tests.courier.process import ROOT

CLI = (ROOT / "docs" / "CLI.md").read_text()
ROLLOUT = (ROOT / "docs" / "ROLLOUT.md").read_text()
SECTIONS = dict(re.findall(r"^## kiosk-fleet (\S+)\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL))
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def options(command: Any) -> set[str]:  # noqa: ANN401 (a click.Command)
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


EVERYWHERE = {"--help", "--json", "--key"} | {f"--{name.replace('_', '-')}" for name in signature(address).parameters}


def test_every_command_has_its_section() -> None:
    assert set(SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize("name", ["flags", "rollout"])
def test_the_page_and_the_commands_know_the_same_options(name: str) -> None:
    group = COMMANDS[name]
    known = {option for command in group.commands.values() for option in options(command)}
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", SECTIONS[name]))
    assert told - EVERYWHERE == known - EVERYWHERE
    for command in group.commands:
        assert re.search(rf"`(flags )?{command}\b", SECTIONS[name]), command


def test_the_plan_is_documented_by_the_day() -> None:
    rows = re.findall(r"^\| `([\w%]+)` \| (\d+) \|", ROLLOUT, re.MULTILINE)
    days, passed_s = [], 0
    for phase in PLAN:
        days.append((phase.name, str(passed_s // DAY_S)))
        passed_s += phase.soak_s
    assert rows == days
    assert [day for _, day in days] == ["0", "1", "3", "10", "17"]


def test_every_reason_and_everyone_left_out_is_explained() -> None:
    explained = {
        word for row in re.findall(r"^\| (`[^|]*) \|", ROLLOUT, re.MULTILINE) for word in re.findall("`(.*?)`", row)
    }
    assert explained == {*get_args(Reason), *LEFT_OUT, *get_args(Standing), *(phase.name for phase in PLAN)}
