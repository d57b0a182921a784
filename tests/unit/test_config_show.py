"""The configuration for reading: in force, as a schema, as examples."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from agent import config
from agent.config.keys import known_keys
from agent.settings import Device, Settings, Upload

ROOT = Path(__file__).parents[2]
MINIMAL = '[device]\nsite = "north"\nid = "room-12"\n'
CANARY = "hunter2"


def test_showing_masks_what_an_address_carries() -> None:
    secretive = Settings(
        device=Device(site="north", id="room-12"),
        upload=Upload(target="s3://bucket", endpoint_url=f"https://kiosk:{CANARY}@s3.example.org/?x={CANARY}"),
    )
    shown = config.as_toml(secretive) + json.dumps(config.as_json(secretive)) + repr(config.rows(secretive))
    assert CANARY not in shown
    assert 'endpoint_url = "https://***@s3.example.org/?***"' in shown


def test_showing_marks_what_differs_from_the_default() -> None:
    read = config.parse(MINIMAL + '[spool]\ncap = "1GiB"\nkeep_free = "1GiB"', "config.toml")
    lines = config.as_toml(read).splitlines()
    assert 'site = "north"  # required' in lines
    assert 'cap = "1GiB"  # default: "8GiB"' in lines
    assert 'keep_free = "1GiB"  # default' in lines
    assert config.as_json(read)["spool"]["cap"] == {"value": "1GiB", "default": "8GiB", "overridden": True}
    assert [row.key for row in config.rows(read) if row.section == "log"] == ["level"]


def test_the_schema_describes_every_key_and_refuses_others() -> None:
    schema = config.schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["device"]
    for section, keys in known_keys().items():
        outer, _, inner = section.partition(".")
        definition = schema["$defs"][schema["properties"][outer]["$ref"].rpartition("/")[2]]
        definition = definition["properties"][inner] if inner else definition
        assert definition["additionalProperties"] is False
        assert list(definition["properties"]) == list(keys)
        assert all(key["description"] for key in definition["properties"].values())
        assert all("null" not in json.dumps(key) for key in definition["properties"].values())
    capture = schema["$defs"]["Capture"]["properties"]
    assert (capture["rate"]["minimum"], capture["mode"]["enum"]) == (8000, ["continuous", "scheduled", "voice"])
    assert schema["$defs"]["Spool"]["properties"]["cap"]["default"] == "8GiB"
    assert json.loads(json.dumps(schema)) == schema


class TestTheExamples:
    text = (ROOT / "config.example.toml").read_text()

    def test_the_configuration_is_the_one_generated_from_the_settings(self) -> None:
        assert self.text == config.example(), "write agent.config.example() into config.example.toml again"

    def test_it_reads_as_the_defaults_with_and_without_its_hashes(self) -> None:
        expected = Settings(device=Device(site="north", id="room-12"))
        assert config.parse(self.text, "config.example.toml") == expected
        assert config.parse(self.uncommented(), "config.example.toml") == expected

    def test_it_names_every_key(self) -> None:
        named = tomllib.loads(self.uncommented())
        alerts = {f"alerts.{name}": keys for name, keys in named.pop("alerts").items()}
        assert {section: list(keys) for section, keys in (named | alerts).items()} == {
            section: list(keys) for section, keys in known_keys().items()
        }

    def test_the_environment_assigns_one_variable_a_line_and_names_the_configuration(self) -> None:
        lines = (ROOT / "environment.example").read_text().splitlines()
        assigned = [line.removeprefix("#") for line in lines if line and not line.startswith("# ")]
        assert all(re.fullmatch(r"[A-Z_]+=\S*", line) for line in assigned)
        assert f"{config.PATH_VARIABLE}={config.DEFAULT_PATH}" in assigned

    def uncommented(self) -> str:
        return re.sub(r"^#(?=\w)", "", self.text, flags=re.MULTILINE)
