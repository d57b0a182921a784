from __future__ import annotations

import tomllib

import pytest

from agent import config
from agent.settings import Settings
from tests.cli.kiosk import Kiosk
from tests.keys import PUBLIC
from tests.servers import Broker, Bucket, S3Store, free_ports


def test_what_is_shown_reads_back_as_the_same(kiosk: Kiosk) -> None:
    kiosk.configure(
        capture='pcm = "hw:CARD=KioskMic"', rest='[upload]\ntarget = "s3://bucket"\nhours = ["20:00-06:00"]'
    )
    shown = kiosk.run("config", "show")
    assert shown.status == 0
    assert tomllib.loads(shown.out)["capture"]["pcm"] == "hw:CARD=KioskMic"
    assert config.parse(shown.out, "shown") == config.load(kiosk.config, {})


def test_json_tells_each_key_with_its_default(kiosk: Kiosk) -> None:
    document = kiosk.run("config", "show", "--json").json()
    assert document["capture"]["rate"] == {"value": 8000, "default": 16000, "overridden": True}


def test_the_schema_is_that_of_the_settings(kiosk: Kiosk) -> None:
    schema = kiosk.run("config", "schema", config=False).json()
    assert set(schema["properties"]) == set(Settings.__slots__)


def test_a_check_says_what_a_clinic_should_not_leave(kiosk: Kiosk) -> None:
    answer = kiosk.run("config", "check")
    assert answer.status == 0
    assert answer.out.startswith(f"{kiosk.config}: good\n")
    keys = [line.split()[1] for line in answer.out.splitlines()[1:]]
    assert keys == ["capture.pcm", "seal.recipients", "upload.target", "mqtt.url"]
    kiosk.configure(
        capture='pcm = "hw:CARD=KioskMic"',
        rest=f'[seal]\nrecipients = ["{PUBLIC}"]\n[upload]\ntarget = "s3://bucket"\n[mqtt]\nurl = "mqtts://broker"',
    )
    assert kiosk.run("config", "check").out == f"{kiosk.config}: good\n"


def test_a_check_for_programs_lists_mistakes_with_key_line_and_hint(kiosk: Kiosk) -> None:
    kiosk.configure(spool='cap = "8GB ish"')
    answer = kiosk.run("config", "check", "--json")
    assert answer.status == 2
    (mistake,) = answer.json()["mistakes"]
    assert (mistake["key"], mistake["line"]) == ("spool.cap", 11)
    assert mistake["cause"] == '"8GB ish" isn\'t a size'
    assert "such as" in mistake["hint"]


def test_a_check_shows_what_the_environment_takes_out_of_the_fleets_hands(kiosk: Kiosk) -> None:
    answer = kiosk.run("config", "check", KIOSK_RECORDER_FLAG_OFFLINE_RECORDING="off")
    assert answer.status == 0
    assert "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING=off: here offline_recording is off" in answer.out
    assert "FLAG" not in kiosk.run("config", "check", KIOSK_RECORDER_FLAG_OFFLINE_RECORDING="").out


def online(kiosk: Kiosk, upload: str = "", mqtt: str = "") -> None:
    kiosk.configure(rest=f"[upload]\n{upload}\n[mqtt]\n{mqtt}")


def test_a_store_and_a_broker_that_answer(kiosk: Kiosk, bucket: Bucket, broker: Broker) -> None:
    online(
        kiosk,
        f'target = "s3://{bucket.name}/clinic"\nendpoint_url = "{bucket.store.url}"',
        f'url = "{broker.url}"',
    )
    answer = kiosk.run("config", "check", "--online")
    assert (answer.status, answer.err) == (0, "")
    subjects = [line.split(":")[0] for line in answer.out.splitlines() if ": good: " in line]
    assert subjects == ["store", "broker"]
    assert len(bucket.keys()) == 1
    found = kiosk.run("config", "check", "--online", "--json").json()["online"]
    assert [(finding["subject"], finding["good"]) for finding in found] == [("store", True), ("broker", True)]


def test_a_bucket_that_is_not_there(kiosk: Kiosk, bucket: Bucket) -> None:
    online(kiosk, f'target = "s3://no-such-bucket"\nendpoint_url = "{bucket.store.url}"')
    answer = kiosk.run("config", "check", "--online")
    assert answer.status == 2
    assert "store: wrong: " in answer.out
    assert "no-such-bucket" in answer.out
    assert "\n  → " in answer.out
    (finding,) = kiosk.run("config", "check", "--online", "--json").json()["online"]
    assert (finding["good"], finding["needs_person"]) == (False, True)
    assert finding["hint"]


def test_credentials_that_are_wrong(kiosk: Kiosk, bucket: Bucket) -> None:
    online(kiosk, f'target = "s3://{bucket.name}"\nendpoint_url = "{bucket.store.url}"')
    answer = kiosk.run("config", "check", "--online", AWS_SECRET_ACCESS_KEY="wrong")
    assert answer.status == 2
    assert "store: wrong: " in answer.out
    assert "\n  → " in answer.out
    assert bucket.keys() == []


def test_a_store_that_does_not_answer_does_not_stop_recording(kiosk: Kiosk, s3_store: S3Store) -> None:
    kiosk.environment |= s3_store.kiosk.environment
    online(kiosk, f'target = "s3://bucket"\nendpoint_url = "http://127.0.0.1:{free_ports(1)[0]}"')
    answer = kiosk.run("config", "check", "--online")
    assert answer.status == 1
    assert "recording isn't affected" in answer.out


def test_a_broker_that_does_not_answer_does_not_stop_recording(kiosk: Kiosk) -> None:
    online(kiosk, mqtt=f'url = "mqtt://127.0.0.1:{free_ports(1)[0]}"')
    answer = kiosk.run("config", "check", "--online")
    assert (answer.status, answer.err) == (1, "")
    assert "broker: wrong: " in answer.out
    assert "recording isn't affected" in answer.out


def test_without_online_nobody_is_asked(kiosk: Kiosk) -> None:
    online(kiosk, mqtt=f'url = "mqtt://127.0.0.1:{free_ports(1)[0]}"')
    assert kiosk.run("config", "check").status == 0
    assert kiosk.run("config", "check", "--json").json()["online"] is None


@pytest.mark.parametrize("variable", ["KIOSK_RECORDER_FLAG_OFFLINE_RECORDING", "KIOSK_RECORDER_FLAG_OFLINE_RECORDING"])
@pytest.mark.parametrize("command", [["config", "check"], ["record"], ["courier"]], ids=" ".join)
def test_a_flag_in_the_environment_that_can_not_be_obeyed_is_said_before_anything_is_done(
    kiosk: Kiosk, variable: str, command: list[str]
) -> None:
    kiosk.environment[variable] = "maybe"
    answer = kiosk.run(*command)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.count("\n") == 2, answer.err
    assert f"read environment {variable}: " in answer.err
    assert "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING" in answer.err
    assert not kiosk.spool.exists()


def test_a_check_for_programs_names_the_variable(kiosk: Kiosk) -> None:
    variable = "KIOSK_RECORDER_FLAG_OFFLINE_RECORDING"
    kiosk.environment[variable] = "maybe"
    answer = kiosk.run("config", "check", "--json")
    assert answer.status == 2
    (mistake,) = answer.json()["mistakes"]
    assert mistake["key"] == variable
    assert '"maybe" is no variant of offline_recording' in mistake["cause"]
    assert 'use "on" or "off"' in mistake["hint"]
    kiosk.environment[variable] = "off"
    assert kiosk.run("config", "check").status == 0
