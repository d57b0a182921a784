"""Roll-outs to two hundred kiosks, each with its own connection to a real mosquitto and its own flag desk."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.contract.alerts import Raised
from agent.contract.rollout import Phase
from agent.errors import KioskError
from agent.settings import Device
from fleet import definitions, flagging, rolling, scene
from fleet.flagging import flag_called
from fleet.rolling import PLAN
from tests.contract.bucketing import bucket
from tests.courier.process import ROOT
from tests.fleet.admins import Admin, admin, retained
from tests.fleet.kiosks import FLAG, Kiosks, living
from tests.servers import Broker, mosquitto
from tests.soundcard import eventually

AT_ONCE = tuple(Phase(name=phase.name, soak_s=0) for phase in PLAN)
SWITCH = {"KIOSK_RECORDER_FLAG_OFFLINE_RECORDING": "off"}

INTERNAL = {f"room-{number}" for number in range(8)}
SWITCHED = {"room-0", "room-50", "room-51", "room-52"}
"""Their technicians chose "off" for them."""


def devices(count: int) -> Iterator[Device]:
    for number in range(count):
        groups = ("internal",) if f"room-{number}" in INTERNAL else ()
        yield Device(site="north", id=f"room-{number}", groups=groups)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Everything that is said over it is judged, also by admins."""
    with mosquitto(tmp_path, admins=True) as running:
        yield running


@pytest.fixture
def alice(tmp_path: Path, broker: Broker) -> Admin:
    return admin(tmp_path, "alice", broker)


@pytest.fixture
def kiosks(alice: Admin) -> Iterator[Kiosks]:
    """Two hundred."""
    environs = dict.fromkeys(SWITCHED, SWITCH)
    with living(alice.url, devices(200), (alice.key.public,), environs) as fleet:
        yield fleet


@pytest.fixture
def some(alice: Admin) -> Iterator[Kiosks]:
    """Enough for a tenth of them to be compared with the rest."""
    environs = dict.fromkeys(SWITCHED, SWITCH)
    with living(alice.url, devices(80), (alice.key.public,), environs) as fleet:
        yield fleet


@pytest.fixture
def few(alice: Admin) -> Iterator[Kiosks]:
    """Where two hundred would show no more than ten."""
    with living(alice.url, devices(10), (alice.key.public,)) as fleet:
        yield fleet


def started(alice: Admin, variant: str = "off", phases: tuple[Phase, ...] = AT_ONCE) -> None:
    with alice.control() as control:
        rolling.start(control, flag_called(FLAG), variant, phases, "internal", alice.approval)


def advanced(alice: Admin, kiosks: Kiosks, to: str) -> None:
    """The next step of a variant that does well."""
    kiosks.record(400)
    with alice.control() as control:
        done = rolling.advance(control, alice.approval)
        assert done.taken, done.verdict
        assert done.rollout.current.name == to
        version = done.rollout.flags_version
    kiosks.settle(version)


def first(percent: int) -> set[str]:
    """Who flagd's own buckets say is among the first so many per cent."""
    return {f"north/room-{number}" for number in range(200) if bucket(FLAG, f"room-{number}") < percent}


def test_a_roll_out_walks_from_nobody_to_everybody_and_each_group_is_within_the_next(
    alice: Admin, kiosks: Kiosks
) -> None:
    internal = {f"north/{device}" for device in INTERNAL}
    switched = {f"north/{device}" for device in SWITCHED}
    told = alice.said("rollout", "start", FLAG, "off", "--soak", "0s")
    assert "phase off" in told
    assert kiosks.having("off") == switched
    seen = [switched]
    wanted = {
        "internal": internal,
        "10%": internal | first(10),
        "50%": internal | first(50),
        "100%": kiosks.names(bool),
    }
    for number, (phase, expected) in enumerate(wanted.items(), 1):
        kiosks.record(400)
        assert phase in alice.said("rollout", "advance", "--approved-by", "Dr. Ruiz") or phase == "100%"
        kiosks.settle(number)
        having = kiosks.having("off")
        assert having == expected | switched
        assert seen[-1] < having, "strictly nested"
        seen.append(having)
        status = alice.json("rollout", "status")
        assert (status["phase"], status["standing"]) == (phase, "settled")
        assert set(status["gate"]["left_out"]["environment"]) == switched
    assert status["state"] == "complete"
    history = alice.json("rollout", "history")
    assert [step["phase"] for step in history] == ["off", "internal", "10%", "50%", "100%"]
    assert [step["approved_by"] for step in history] == ["", *["Dr. Ruiz"] * 4]
    assert {step["by"] for step in history} == {"alice"}
    # Overridden kiosks take no part: seven of the internal group are judged, not eight.
    assert history[1]["figures"]["judged"] == len(internal - switched)
    shown = alice.json("flags", "show")
    assert (shown["version"], shown["signed_by"], shown["behind"]) == (4, "alice", {})
    assert len(shown["kiosks"][FLAG]["off"]) == 200


def test_a_bad_variant_is_stopped_with_the_figures_and_taken_back_within_two_seconds(
    alice: Admin, broker: Broker, kiosks: Kiosks, tell: Callable[[str], None]
) -> None:
    started(alice)
    advanced(alice, kiosks, "internal")
    advanced(alice, kiosks, "10%")
    having = kiosks.having("off")
    kiosks.record(400, failing=having)
    before = retained(broker)
    refused = alice.run("rollout", "advance", "--approved-by", "Dr. Ruiz")
    assert refused.returncode == 1
    judged = len(having - {f"north/{device}" for device in SWITCHED})
    assert f"{judged} kiosks judged" in refused.stdout
    assert f"success: 90 % of {judged * 400} uploads succeeded; more than 95 % must" in refused.stdout
    assert "comparison:" in refused.stdout
    assert retained(broker) == before, "nothing was published"
    assert alice.run("rollout", "status").returncode == 1

    asleep = random.Random(7).sample(sorted(kiosks.all, key=str), 20)
    asleep += [kiosk for kiosk in kiosks.all if str(kiosk) in having][:5]
    for kiosk in asleep:
        kiosk.switch_off()
    begun_s = time.monotonic()
    with alice.control() as control:
        version = rolling.rollback(control, alice.approval).rollout.flags_version + 1
    kiosks.settle(version)
    awake = [kiosk for kiosk in kiosks.all if kiosk.on]
    took = [kiosk.changed_at_s[-1][2] - begun_s for kiosk in awake]
    tell(
        f"roll-back: from the command to the last of {len(awake)} connected kiosks {max(took):.2f} s, "
        f"half of them after {sorted(took)[len(took) // 2]:.2f} s"
    )
    assert max(took) <= 2.0
    switched = {f"north/{device}" for device in SWITCHED}
    assert kiosks.having("off") <= switched
    assert {str(kiosk) for kiosk in asleep if kiosk.variant == "off"} - switched, "they missed it"
    for kiosk in set(asleep):
        kiosk.switch_on()
    kiosks.settle(version)
    assert kiosks.having("off") == switched
    assert alice.json("rollout", "status")["state"] == "rolled_back"


def test_errors_critical_alerts_and_silence_of_those_who_have_it_stop_a_roll_out(alice: Admin, some: Kiosks) -> None:
    started(alice)
    advanced(alice, some, "internal")
    advanced(alice, some, "10%")
    having = some.having("off") - {f"north/{device}" for device in SWITCHED}

    def objections() -> set[str]:
        with alice.control() as control:
            board, pictures = control.fleet()
            verdict = scene.assess(scene.look(board), pictures, control.now_ns())
        return {each.reason for each in verdict.objections}

    some.record(400)
    assert objections() == set()
    affected = next(kiosk for kiosk in some.all if str(kiosk) in having)
    affected.alarm(queue_length=Raised("critical", since_ns=0, text="30 recordings wait", value=30, threshold=20))
    some.look()
    assert objections() == {"critical"}
    affected.alarm()
    some.look()
    assert objections() == set()
    # A handful of kiosks that fall silent is nothing; a third of those who have it, and nobody else, is.
    gone = [kiosk for kiosk in some.all if str(kiosk) in having][: len(having) // 3]
    for kiosk in gone:
        kiosk.switch_off()
    some.look()
    assert objections() == {"comparison"}
    for kiosk in gone:
        kiosk.switch_on()
    some.record(400, damaged=having)
    assert objections() == {"errors", "comparison"}


def test_a_kiosk_that_was_installed_anew_counts_from_nothing(alice: Admin, few: Kiosks) -> None:
    started(alice)
    advanced(alice, few, "internal")
    few.record(400)
    anew = few.all[0]
    anew.counted.epoch, anew.counted.attempts, anew.counted.failures = "ba9876543210", 100, 100
    anew.counted.segments = anew.counted.errors = 0
    few.look()
    with alice.control() as control:
        board, pictures = control.fleet()
        figures = scene.assess(scene.look(board), pictures, control.now_ns()).figures
    assert (figures.attempts, figures.failures, figures.segments) == (7 * 400 + 100, 100, 7 * 400)


def test_a_step_waits_for_its_time_and_for_data(alice: Admin, few: Kiosks) -> None:
    started(alice, phases=PLAN)
    with alice.control() as control:
        early = rolling.advance(control, alice.approval)
    assert not early.taken
    assert early.verdict is not None
    assert {each.reason for each in early.verdict.objections} == {"soak", "data"}
    few.record(400)
    a_day_later_ns = time.time_ns() + 86_401 * 10**9
    with alice.control(lambda: a_day_later_ns) as control:
        assert rolling.advance(control, alice.approval).rollout.current.name == "internal"


def test_everybody_at_once_has_to_be_meant(alice: Admin, broker: Broker, few: Kiosks) -> None:
    start = ("rollout", "start", FLAG, "off", "--full")
    assert "--approved-by" in alice.run(*start).stderr
    refused = alice.run(*start, "--approved-by", "Dr. Ruiz")
    assert (refused.returncode, "warning" in refused.stderr, "--yes" in refused.stderr) == (2, True, True)
    assert retained(broker) == {}
    assert "everybody has it" in alice.said(*start, "--approved-by", "Dr. Ruiz", "--yes")
    few.settle(1)
    assert len(few.having("off")) == 10
    alice.said("rollout", "rollback")
    few.settle(2)
    assert few.having("off") == set()
    started(alice)
    assert "everybody has it" in alice.said("rollout", "advance", "--full", "--yes", "--approved-by", "Dr. Ruiz")
    few.settle(3)
    assert [step["action"] for step in alice.json("rollout", "history")] == ["full", "rollback", "start", "full"]


def killed(alice: Admin, after: int, *words: str) -> None:
    command = [sys.executable, "-m", "tests.fleet.killed_admin", str(after), *words]
    done = subprocess.run(command, cwd=ROOT, env=alice.environment, check=False, capture_output=True)
    assert done.returncode == -9, done.stderr


def test_a_step_that_was_killed_halfway_is_named_and_finished_by_the_next_one(
    alice: Admin, broker: Broker, few: Kiosks
) -> None:
    started(alice)
    few.record(400)
    killed(alice, 1, "rollout", "advance", "--approved-by", "Dr. Ruiz")
    status = alice.run("rollout", "status")
    assert status.returncode == 1
    assert "a step was interrupted" in status.stderr
    assert few.having("off") == set()
    assert "finished" in alice.run("rollout", "advance", "--approved-by", "Dr. Ruiz").stderr
    few.settle(1)
    assert len(few.having("off")) == len(INTERNAL)
    assert alice.json("rollout", "status")["standing"] == "settled"

    killed(alice, 1, "rollout", "rollback")
    few.settle(2)
    assert few.having("off") == set(), "kiosks come first"
    status = alice.run("rollout", "status")
    assert (status.returncode, "a roll-back was interrupted" in status.stderr) == (1, True)
    before = retained(broker)
    after = alice.run("rollout", "advance", "--approved-by", "Dr. Ruiz")
    assert (after.returncode, "roll-back was finished" in after.stderr) == (1, True)
    assert alice.json("rollout", "status")["state"] == "rolled_back"
    now = retained(broker)
    assert [topic for topic in now if now[topic] != before[topic]] == ["kiosk/v1/_fleet/rollout"]


def test_a_step_that_was_killed_halfway_can_be_taken_back(alice: Admin, few: Kiosks) -> None:
    started(alice)
    few.record(400)
    killed(alice, 1, "rollout", "advance", "--approved-by", "Dr. Ruiz")
    assert "rolled back" in alice.said("rollout", "rollback")
    status = alice.json("rollout", "status")
    assert (status["state"], status["standing"]) == ("rolled_back", "settled")
    assert few.having("off") == set()
    started(alice)


def test_of_two_admins_at_once_the_first_wins_and_the_other_is_told(
    tmp_path: Path, alice: Admin, broker: Broker
) -> None:
    bob = admin(tmp_path, "bob", broker, [alice])
    keys = (alice.key.public, bob.key.public)
    with living(alice.url, devices(10), keys) as few, alice.control() as hers, bob.control() as his:
        her_board, his_board = hers.board(), his.board()
        flag = flag_called(FLAG)
        flagging.publish(hers, her_board, None, {FLAG: definitions.for_all(flag, "off")}, "hers", alice.key)
        theirs = retained(broker)
        with pytest.raises(KioskError, match="alice was faster: version 1"):
            flagging.publish(his, his_board, None, {FLAG: definitions.for_all(flag, "on")}, "his", bob.key)
        assert retained(broker) == theirs
        few.settle(1)
        assert len(few.having("off")) == 10
        # A roll-back doesn't give way: it is done anew, on top.
        flagging.set_flag(his, flag, "on", None, bob.key)
        started(alice)
        few.settle(2)
        advanced(alice, few, "internal")
        board = hers.board()
        found = scene.look(board)
        flagging.set_flag(his, flag, "on", ("device", "room-9"), bob.key, force=True)
        with pytest.raises(KioskError, match="bob was faster"):
            rolling._back(hers, found, alice.approval)  # noqa: SLF001 (what it does when it is overtaken)
        assert rolling.rollback(hers, alice.approval).rollout.rolled_back
        eventually(lambda: few.having("off") == set(), "it is taken back all the same")


def test_what_others_put_there_is_refused_and_says_why(
    tmp_path: Path, alice: Admin, broker: Broker, few: Kiosks
) -> None:
    started(alice)
    started_as = retained(broker)["kiosk/v1/_fleet/rollout"]
    advanced(alice, few, "internal")
    good = retained(broker)["kiosk/v1/_fleet/rollout"]
    mallory = admin(tmp_path, "mallory", broker)
    with mallory.control() as control:
        with pytest.raises(KioskError, match="wrong_key"):
            control.board().rollout()
        rolling.start(control, flag_called(FLAG), "off", AT_ONCE, "internal", mallory.approval, force=True)
    status = alice.run("rollout", "status")
    assert status.returncode == 2
    assert "wrong_key" in status.stderr
    assert "keys trust" in status.stderr
    assert "rollout start … --force" in status.stderr
    for payload, told in {
        started_as: "version 1 is older than 2",
        good[:-1]: "malformed",
        good.replace(b"internal", b"external"): "bad_signature",
        good + b" " * (4 * 2**20): "too much",
        b"": "has none any more; version 2 was there.*\n.*rollout start … --force",
    }.items():
        # What isn't an envelope at all is against the contract, and so against the witness: the test's own doing.
        with alice.control() as control:
            board = control.board()
            board._retained["kiosk/v1/_fleet/rollout"] = payload  # noqa: SLF001 (as if the broker had it)
            with pytest.raises(KioskError, match=told):
                board.rollout()
    assert alice.run("flags", "set", FLAG, "off").returncode == 2
    assert alice.run("flags", "set", FLAG, "on", "--force").returncode == 0
    eventually(lambda: few.having("off") == set(), "by force the flag is set all the same")
