from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agent.contract import documentation
from agent.contract.documentation import BLOCKS, main, outdated
from agent.contract.messages import TELEMETRY_EXPIRES_S, Topics
from agent.contract.metrics import METRICS
from agent.contract.schemas import SCHEMAS, schema

DOCUMENT = (Path(__file__).parents[2] / "docs" / "MQTT.md").read_text()


def test_documents_and_schemas_are_what_the_code_makes_of_them() -> None:
    assert outdated() == [], "run python -m agent.contract.documentation"


def test_what_the_code_has_left_behind_is_named_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "MQTT.md").write_text(
        "".join(f"a\n<!-- {name}: x -->\nstale words\n<!-- end of {name} -->\n" for name in BLOCKS)
    )
    stranger = tmp_path / "schemas" / "gone.json"
    stranger.parent.mkdir()
    stranger.touch()
    monkeypatch.setattr(documentation, "DOCS", tmp_path)
    assert main(["--check"]) == 1
    assert main([]) == 0
    told = capsys.readouterr().out
    assert str(stranger) in told
    assert str(tmp_path / "MQTT.md") in told
    assert not stranger.exists()
    assert "stale words" not in (tmp_path / "MQTT.md").read_text()
    assert main(["--check"]) == 0


def test_a_block_without_a_place_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MQTT.md").write_text("nothing")
    monkeypatch.setattr(documentation, "DOCS", tmp_path)
    with pytest.raises(ValueError, match="no place"):
        outdated()


def test_every_metric_says_what_it_is_to_people_and_to_those_who_write_rules() -> None:
    for metric in METRICS:
        assert metric.description, metric.name
        assert metric.definition, metric.name
        assert metric.label, metric.name
    labels = [metric.label for metric in METRICS]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


def test_the_topics_are_documented() -> None:
    topics = Topics("north", "room-1")
    assert topics.base == "kiosk/v1/north/room-1"
    for topic in (topics.status, topics.birth, topics.telemetry):
        assert f"| `{topic.removeprefix(topics.base + '/')}` |" in DOCUMENT
    assert f"expires after {TELEMETRY_EXPIRES_S} s" in DOCUMENT
