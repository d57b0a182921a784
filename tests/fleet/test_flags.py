"""`kiosk-fleet flags`, by the commands an admin uses, on a real mosquitto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contract.messages import FLAGS
from agent.settings import Device
from tests.fleet.admins import Admin, admin, retained
from tests.fleet.kiosks import FLAG, Kiosks, living
from tests.servers import Broker, mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with mosquitto(tmp_path, admins=True) as running:
        yield running


@pytest.fixture
def alice(tmp_path: Path, broker: Broker) -> Admin:
    return admin(tmp_path, "alice", broker)


@pytest.fixture
def kiosks(alice: Admin) -> Iterator[Kiosks]:
    """Two sites of two rooms; the first room of each is internal."""
    rooms = [
        Device(site=site, id=f"{site}-{number}", groups=("internal",) if number == 1 else ())
        for site in ("north", "south")
        for number in (1, 2)
    ]
    environs = {"south-2": {"KIOSK_RECORDER_FLAG_OFFLINE_RECORDING": "off"}}
    with living(alice.url, rooms, (alice.key.public,), environs) as fleet:
        yield fleet


def test_a_variant_is_chosen_for_all_for_some_and_taken_back(alice: Admin, kiosks: Kiosks) -> None:
    switched = "south/south-2"
    steps = [
        (("off", "--group", "internal"), {"north/north-1", "south/south-1"}),
        (("off", "--device", "north-2"), {"north/north-1", "south/south-1", "north/north-2"}),
        (("on", "--site", "north"), {"south/south-1"}),
        (("default", "--group", "internal"), set[str]()),
        (("off",), {"north/north-1", "north/north-2", "south/south-1"}),
        (("default",), set[str]()),
    ]
    for version, (words, expected) in enumerate(steps, 1):
        assert f"version {version}: " in alice.said("flags", "set", FLAG, *words)
        kiosks.settle(version)
        assert kiosks.having("off") == expected | {switched}, words
    history = alice.said("flags", "history").splitlines()
    assert [line.split()[2:5] for line in history] == [["UTC", str(version), "alice"] for version in range(1, 7)]
    assert history[1].endswith("offline_recording off for device north-2")
    shown = alice.run("flags", "show")
    assert "signed by alice" in shown.stdout
    assert "off      1 kiosk (1 by their environment)" in shown.stdout


def test_an_exception_for_nobody_is_made_with_a_note(alice: Admin, kiosks: Kiosks) -> None:
    kiosks.settle(None)
    for words, note in {
        ("--group", "interal"): "no kiosk of group interal yet; did you mean internal?",
        ("--site", "west"): "no kiosk of site west yet\n",
        ("--device", "north-3"): "no kiosk of device north-3 yet; did you mean north-2?",
    }.items():
        made = alice.run("flags", "set", FLAG, "off", *words)
        assert (made.returncode, note in made.stderr) == (0, True), made.stderr
    assert "note" not in alice.run("flags", "set", FLAG, "off", "--group", "internal").stderr


def test_who_lags_behind_is_named(alice: Admin, kiosks: Kiosks) -> None:
    deaf = kiosks.all[0]
    deaf.switch_off()
    assert json.loads(alice.said("flags", "show", "--json"))["kiosks"][FLAG]["silent"] == [str(deaf)]
    deaf._keys = ()  # noqa: SLF001 (its configuration lists nobody)
    deaf.switch_on()
    alice.said("flags", "set", FLAG, "off")
    for kiosk in kiosks.all[1:]:
        assert kiosk.on
    kiosks.look()
    shown = alice.run("flags", "show")
    assert shown.returncode == 1
    assert "north/north-1  no document counts there" in shown.stdout


def test_a_file_has_to_be_made_from_what_is_in_force(alice: Admin, broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    file.write_text(alice.said("flags", "show", "--document"))
    document = json.loads(file.read_text())
    assert document == {"metadata": {}, "flags": {}}
    alice.said("flags", "set", FLAG, "off")
    before = retained(broker)
    refused = alice.run("flags", "set", str(file))
    assert refused.returncode == 2
    assert "it was made from none, in force is version 1" in refused.stderr
    assert retained(broker) == before
    file.write_text(alice.said("flags", "show", "--document"))
    document = json.loads(file.read_text())
    document["flags"][FLAG]["defaultVariant"] = "on"
    file.write_text(json.dumps(document))
    assert alice.said("flags", "set", str(file)) == "version 2: from flags.json\n"
    assert json.loads(json.loads(retained(broker)[FLAGS])["signed"])["flags"][FLAG]["defaultVariant"] == "on"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "it isn't JSON"),
        ('{\n  "flags": {},\n}', "it isn't JSON, from line 3, column 1 on"),
        ("[]", "object"),
        ('{"flags": []}', "flags"),
        ('{"flags": {"offline_recording": {"state": "ON"}}}', "use one of: ENABLED, DISABLED"),
        ("[" * 300_000, "it isn't JSON"),
    ],
)
def test_a_file_that_kiosks_would_refuse_is_refused_here(alice: Admin, tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "flags.json"
    file.write_text(content)
    for words in (("validate", str(file)), ("set", str(file))):
        refused = alice.run("flags", *words)
        assert refused.returncode == 2
        assert told in refused.stderr
        assert str(file) in refused.stderr


def test_a_good_file_is_called_good(alice: Admin, tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    file.write_text('{"flags": {"of_tomorrow": {}}}')
    good = alice.run("flags", "validate", str(file))
    assert (good.returncode, "good" in good.stdout, "of_tomorrow" in good.stderr) == (0, True, True)
    assert alice.json("flags", "validate", str(file))["good"]
    assert alice.run("flags", "validate", str(tmp_path / "none")).returncode == 2


def test_slips_of_the_pen_are_told_with_the_way_out(alice: Admin, broker: Broker) -> None:
    alice.said("flags", "set", FLAG, "off")
    alice.said("flags", "set", FLAG, "default")
    before = retained(broker)
    for words, told in {
        ("ofline_recording", "off"): "did you mean offline_recording?",
        ("ofline_recording",): "say the variant, too",
        (FLAG, "of"): "one of on, off, default",
        (FLAG, "off", "--site", "North"): "no site can be called so",
        (FLAG, "off", "--site", "a", "--group", "b"): "exclude each other",
        ("flags.json", "--site", "a"): "says for itself",
        (FLAG, "default"): "it is so already",
    }.items():
        refused = alice.run("flags", "set", *words)
        assert (refused.returncode, told in refused.stderr) == (2, True), refused.stderr
    assert retained(broker) == before


def test_a_flag_that_is_rolled_out_is_set_by_force_alone(alice: Admin, kiosks: Kiosks) -> None:
    alice.said("rollout", "start", FLAG, "off")
    refused = alice.run("flags", "set", FLAG, "off", "--group", "internal")
    assert refused.returncode == 2
    assert "a roll-out of off is under way, in phase off" in refused.stderr
    assert "under way" in alice.run("rollout", "start", FLAG, "off").stderr
    alice.said("flags", "set", FLAG, "off", "--group", "internal", "--force")
    status = alice.run("rollout", "status")
    assert (status.returncode, "somebody set the flag by hand" in status.stderr) == (1, True)
    refused = alice.run("rollout", "advance", "--approved-by", "Dr. Ruiz")
    assert (refused.returncode, "set the flag by hand" in refused.stderr) == (2, True)
    alice.said("rollout", "rollback")
    kiosks.settle(2)
    assert kiosks.having("off") == {"south/south-2"}


def test_a_broker_that_lost_its_memory_is_noticed_and_a_higher_version_published(alice: Admin, kiosks: Kiosks) -> None:
    for variant in ("off", "on", "off"):
        alice.said("flags", "set", FLAG, variant)
    kiosks.settle(3)
    (alice.where / "seen.json").write_text(json.dumps({alice.url: {"flags": 9}}))
    assert "version 3 is older than 9" in alice.run("flags", "show").stderr
    assert "version 10" in alice.said("flags", "set", FLAG, "on", "--force")
    kiosks.settle(10)
