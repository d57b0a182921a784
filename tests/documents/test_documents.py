"""The documents for people are true: what they tell a reader to type works, where they send them is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from agent.contract.alerts import NAMES
from tests.documents.page import PAGES, ROOT, Command, anchors, commands, links, text
from tests.documents.scene import Scene, scene
from tests.servers import S3Store, mosquitto, s3_store  # noqa: F401

NOT_RUN: Final = {
    r"\S*/install\.sh": "changes this machine; tests/install runs it on layers over it",
    r"install -D": "writes into this machine's /etc; tests/install types it on a layer over it",
    r"(systemctl|journalctl|timedatectl)": "needs a systemd that runs",
    r"alsamixer": "needs a sound card and a person",
    r"age-keygen": "is of a package that tests don't need; pyrage makes the scene's keys",
    r"printf .*broker\.example": "writes down a broker that isn't here",
    r"kiosk-fleet (command|rollout|flags)$": "names a group of commands",
    r"kiosk-fleet rollout advance": "takes a day; tests/fleet turns the clock",
}
"""Commands that only have to exist, with their options, and why."""

FINDS_SOMETHING: Final = {
    r"kiosk-recorder (status|check)": "this machine's clock may be wrong, and its kiosk isn't installed",
    r"kiosk-recorder mics": "this machine may have no microphone but the simulated one",
    r"kiosk-fleet rollout status": "two minutes of one kiosk are too little data",
    r"kiosk-fleet command .* --key mallory": "is to be refused",
    r"kiosk-fleet verify": "the scene's kiosk has no key, or signed too little yet",
}
"""Commands that may end with 1, "found something wrong", and why."""

_ALL: Final = [each for page in PAGES for each in commands(page)]
COMMANDS: Final = [each for index, each in enumerate(_ALL) if each.line not in {one.line for one in _ALL[:index]}]
"""Each once, where it stands first: a later one may need what an earlier one made."""


def matching(table: dict[str, str], command: Command) -> str | None:
    """The reason of the first row that fits."""
    return next((reason for pattern, reason in table.items() if re.match(pattern, command.line)), None)


RUN: Final = [each for each in COMMANDS if not matching(NOT_RUN, each)]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, s3_store: S3Store) -> Iterator[Scene]:  # noqa: F811 (pytest's way)
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(tmp_path_factory.mktemp("broker")))
        yield stack.enter_context(scene(tmp_path_factory.mktemp("scene"), s3_store, broker))


@pytest.mark.parametrize("command", RUN, ids=lambda each: f"{each.page}: {each.line}")
def test_what_a_reader_is_told_to_type_works(room: Scene, command: Command) -> None:
    answer = room.type(command.line)
    good = {0}
    if matching(FINDS_SOMETHING, command):
        good.add(1)
    if " -W " in command.line:
        # mosquitto_sub's own word for: the time is up. It ends with 0 when something new comes before.
        good.add(27)
    assert answer.status in good, answer.said
    if command.line.endswith("--key mallory"):
        assert "refused (wrong_key)" in answer.said


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if matching(NOT_RUN, each)], ids=lambda each: f"{each.page}: {each.line}"
)
def test_what_can_not_be_run_here_has_the_options_it_is_given(room: Scene, command: Command) -> None:
    words = command.words
    options = {word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-zA-Z]", word)}
    verbs = [word for word in words[1:3] if re.fullmatch(r"[a-z][a-z-]+", word)]
    if words[:2] == ["./install.sh", "try"]:
        words = ["kiosk-recorder", *words[1:]]
    if words[0].endswith("/install.sh"):
        known = subprocess.run([ROOT / "install.sh", "--help"], capture_output=True, text=True, check=True).stdout
    elif words[0].startswith("kiosk-"):
        asked = room.type(f"{words[0]} {' '.join(verbs)} --help")
        assert asked.status == 0, asked.said
        known, verbs = asked.said, []
    elif words[0] in {"printf", "alsamixer", "age-keygen"}:
        return
    else:
        asked = room.type(f"{words[0]} --help")
        assert asked.status == 0, asked.said
        known = asked.said
        verbs = verbs if words[0] in {"systemctl", "timedatectl"} else []
        verbs = [verb for verb in verbs if not verb.startswith("kiosk")]
    for word in (*options, *verbs):
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", known), f"{word} of {command.line}"


def test_units_that_readers_look_at_are_those_that_are_installed() -> None:
    units = {path.stem for path in (ROOT / "image" / "system").glob("*.service")}
    named = {word.removesuffix(".service") for each in COMMANDS if each.words[0] in {"systemctl", "journalctl"}
             for word in each.words if word.startswith("kiosk-")}  # fmt: skip
    assert named
    assert named <= units


def test_each_alert_is_a_symptom_with_a_command_that_shows_it() -> None:
    section = text("TROUBLESHOOTING").partition("## By alert\n")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in re.findall(r"^\| (`.*) \|$", section, re.MULTILINE)]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(told) == sorted(NAMES)
    lines = {each.line for each in commands("TROUBLESHOOTING")}
    for row in rows:
        shown = row[2].strip("`").removeprefix("sudo ")
        assert shown in lines, row


@pytest.mark.parametrize(
    "page", sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]), ids=lambda page: page.name
)
def test_each_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {link}"
        if heading and target.suffix == ".md":
            assert heading in anchors(target), f"{page.name}: {link}"
