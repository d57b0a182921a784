"""The walk through the areas, and in whose stead it looks."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.checkup import areas
from agent.checkup.finding import Finding, Section, exit_status
from agent.checkup.report import Head, as_html, as_text, document, summary
from agent.checkup.stead import in_stead_of
from agent.checkup.visit import Visit
from agent.errors import KioskError
from tests.checkup.kiosk import SAMPLE, kiosk, visit
from tests.cli.kiosk import ROOT

SOMEBODY = "nobody"
"""A user that every machine has, and that may nothing."""


@pytest.fixture
def checked(tmp_path: Path) -> Visit:
    return visit(kiosk(tmp_path))


def test_what_stops_an_area_is_its_finding(checked: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_visit: Visit) -> Iterator[Finding]:
        yield Finding("one", "green", "good")
        raise KioskError("look", place="there", cause="it is dark", hint="make light")

    def broken(_visit: Visit) -> Iterator[Finding]:
        if checked.seconds:
            raise OSError(5, "Input/output error")
        yield Finding("two", "green", "good")

    def unforeseen(_visit: Visit) -> Iterator[Finding]:
        yield Finding("three", "green", "good")
        raise subprocess.TimeoutExpired("systemctl", 10)

    monkeypatch.setattr(areas, "AREAS", {"first": stopped, "second": broken, "third": unforeseen})
    first, second, third = areas.walk(checked, ["first", "second", "third"])
    assert first.findings[1] == Finding("first", "red", "look there: it is dark", "make light")
    assert (second.findings[0].verdict, second.findings[0].text) == ("red", "[Errno 5] Input/output error")
    assert [finding.verdict for finding in third.findings] == ["green", "red"]
    assert third.findings[1].text == "TimeoutExpired: Command 'systemctl' timed out after 10 seconds"


def test_whoever_looks_in_a_service_s_stead_and_gives_no_answer_stops_its_own_area_alone(
    checked: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(user: str, _look: object, _visit: Visit) -> list[Finding]:
        raise KioskError("check", place=f"as {user}", cause="nothing was said", hint="report it")

    def good(_visit: Visit) -> Iterator[Finding]:
        yield Finding("two", "green", "good")

    monkeypatch.setattr(areas, "in_stead_of", silent)
    monkeypatch.setattr(areas, "AREAS", {"store": good, "clock": good})
    store, clock = areas.walk(checked, ["store", "clock"])
    assert store.findings == (Finding("store", "red", "check as kiosk-courier: nothing was said", "report it"),)
    assert clock.findings[0].verdict == "green"


def test_areas_are_chosen_by_name_and_kept_in_order() -> None:
    assert areas.chosen([], []) == list(areas.AREAS)
    assert areas.chosen(["store", "microphone"], []) == ["microphone", "store"]
    assert "store" not in areas.chosen([], ["store"])
    with pytest.raises(KioskError, match="did you mean broker"):
        areas.chosen([], ["brocker"])


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to look in somebody's stead")


forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
"""So are the workers in which these tests run; the check isn't."""


@forks
@needs_root
def test_what_only_root_may_read_is_not_readable_in_a_service_s_stead(checked: Visit, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("sesame")
    secret.chmod(0o600)

    def look(visit: Visit) -> list[Finding]:
        visit.sample = SAMPLE
        visit.store_ahead_s = 7.0
        try:
            return [Finding("file", "red", secret.read_text())]
        except PermissionError:
            return [Finding("file", "green", f"refused to {os.geteuid()}")]

    (finding,) = in_stead_of(SOMEBODY, look, checked)
    assert finding.verdict == "green"
    assert finding.text != "refused to 0"
    # What one area leaves for the next comes back.
    assert (checked.sample, checked.store_ahead_s) == (SAMPLE, 7.0)
    assert os.geteuid() == 0


@forks
@needs_root
def test_a_fault_in_a_service_s_stead_is_told(checked: Visit) -> None:
    def look(_visit: Visit) -> list[Finding]:
        raise ZeroDivisionError("by nothing")

    with pytest.raises(KioskError, match="ZeroDivisionError: by nothing"):
        in_stead_of(SOMEBODY, look, checked)

    def vanish(_visit: Visit) -> list[Finding]:
        os._exit(3)

    with pytest.raises(KioskError, match="nothing was said"):
        in_stead_of(SOMEBODY, vanish, checked)


def test_without_the_service_s_user_it_looks_as_who_it_is(checked: Visit) -> None:
    def look(_visit: Visit) -> list[Finding]:
        return [Finding("user", "green", str(os.getpid()))]

    assert in_stead_of("no-such-user-here", look, checked)[0].text == str(os.getpid())


def section(*verdicts: str) -> Section:
    return Section("area", tuple(Finding(f"line {n}", verdict, "<text>") for n, verdict in enumerate(verdicts)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdicts", "status", "told"),
    [
        (("green", "grey"), 0, "1 green, 1 grey: good"),
        (("green", "yellow"), 0, "1 yellow, 1 green: works, but look at it"),
        (("green", "yellow", "red"), 1, "1 red, 1 yellow, 1 green: don't leave it like this"),
        (("grey",), 0, "1 grey: couldn't be told here"),
    ],
)
def test_the_worst_counts(verdicts: tuple[str, ...], status: int, told: str) -> None:
    assert exit_status([section(*verdicts)]) == status
    assert summary([section(*verdicts)], lambda text, _style: text) == told


def test_a_page_shows_text_as_text() -> None:
    head = Head("north/<b>", "2026-03-01T08:00:00.000+01:00", "none", {"kiosk-recorder": "0"})
    page = as_html([section("red")], head)
    assert "<text>" not in page
    assert "&lt;text&gt;" in page
    assert "north/&lt;b&gt;" in page
    # Whoever opens it fetches nothing from anywhere.
    assert not re.search(r"(src|href)=|url\(|@import", page)
    assert "[ red  ] line 0: <text>" in as_text([section("red")], head)
    assert document([section("red")], head)["good"] is False


def subjects(source: str) -> Iterator[str]:
    """What a module calls the lines that it finds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Finding", "of_error"):
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)


def test_every_line_is_explained_to_the_technician() -> None:
    page = (ROOT / "docs" / "CHECK.md").read_text()
    for name in areas.AREAS:
        part = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        explained = {
            word.strip() for row in re.findall(r"^\| ([^|`]+) \|", part, re.MULTILINE) for word in row.split(",")
        }
        source = (ROOT / "agent" / "checkup" / f"{name}.py").read_text()
        told = set(subjects(source)) | {"store": {"GET", "HEAD", "DELETE"}, "software": {"recorder", "courier"}}.get(
            name, set()
        )
        told |= {"broker": {"hearing others"}, "recording": {"sealing"}, "machine": {"button and light"}}.get(
            name, set()
        )
        assert explained - {"line"} == told, name
