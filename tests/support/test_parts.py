"""What goes into a bundle, and that no part keeps another from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.support import parts
from agent.support.parts import Scene, collect
from agent.support.redaction import redact


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A machine of which nothing but its root is known."""
    return Scene(None, "the configuration can't be read\n", {}, 1_800_000_000 * 10**9, tmp_path)


def write(scene: Scene, place: str, text: str = "") -> Path:
    file = scene.root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def link(scene: Scene, place: str, to: str) -> None:
    (scene.root / place).symlink_to(to)


def test_what_nobody_foresaw_is_told_in_its_own_part(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_scene: Scene) -> str:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(parts, "_PARTS", {"a.txt": broken, "b.txt": lambda _scene: "good\n"})
    assert dict(collect(scene)) == {"a.txt": "not available: ZeroDivisionError: by nothing\n", "b.txt": "good\n"}


def test_it_tells_which_release_runs_which_did_and_which_is_on_trial(scene: Scene) -> None:
    assert dict(collect(scene))["releases.txt"] == "none: this kiosk runs from where it lies\n"
    write(scene, "opt/kiosk-recorder/releases/1.2.0/complete")
    link(scene, "opt/kiosk-recorder/current", "releases/1.2.0")
    assert dict(collect(scene))["releases.txt"] == (
        "current: 1.2.0\nprevious: none\non trial: none\n1.2.0 is complete\n"
    )
    write(scene, "opt/kiosk-recorder/releases/1.1.0/complete")
    write(scene, "opt/kiosk-recorder/releases/1.3.0/VERSION")
    link(scene, "opt/kiosk-recorder/previous", "releases/1.1.0")
    write(scene, "opt/kiosk-recorder/trial", "1.2.0\n")
    assert dict(collect(scene))["releases.txt"] == (
        "current: 1.2.0\nprevious: 1.1.0\non trial: 1.2.0\n"
        "1.1.0 is complete\n1.2.0 is complete\n1.3.0 is not complete\n"
    )


def test_it_tells_how_the_installation_went(scene: Scene) -> None:
    assert dict(collect(scene))["log-installation.txt"].endswith("-- /var/tmp/kiosk-recorder.log\nnone\n")
    lines = [f"line {number}\n" for number in range(6000)]
    write(scene, "var/tmp/kiosk-recorder.log", "".join(lines) + "at https://me:CANARY@index/\n")
    told = redact(dict(collect(scene))["log-installation.txt"], [])
    assert told.endswith("line 5999\nat https://***@index/\n")
    assert "line 6\n" not in told


def test_a_link_in_the_log_s_place_leads_nowhere(scene: Scene) -> None:
    secret = write(scene, "secret", "CANARY")
    (scene.root / "var/tmp").mkdir(parents=True)
    link(scene, "var/tmp/kiosk-recorder.log", str(secret))
    told = dict(collect(scene))["log-installation.txt"]
    assert "CANARY" not in told
    assert "not available" in told
