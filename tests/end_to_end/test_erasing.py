"""What a room wants erased is gone from the kiosk and, once an admin has said so, from the store: all of it real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.show import as_toml
from agent.contract import seeds
from agent.contract.commands import compose
from agent.contract.custody import Enrolment
from agent.contract.signed import public_key, sign
from agent.ledger import Ledger
from agent.mailbox import Mailbox
from agent.settings import Capture, Commands, Custody, Device, Settings, Spool, Upload
from agent.units import Duration, Size
from hw.clock import SystemClock
from tests.choices import write_variants
from tests.end_to_end.kiosk import ROOT, Kiosk, stop
from tests.servers import Bucket
from tests.soundcard import RATE, Soundcard, eventually, numbered

SEED = bytes(range(32))


@pytest.fixture
def kiosk(tmp_path: Path, bucket: Bucket) -> Iterator[Kiosk]:
    seeds.make(tmp_path / "device.key")
    settings = Settings(
        device=Device(site="north", id="room-1"),
        capture=Capture(pcm="simroom", rate=RATE),
        spool=Spool(path=tmp_path / "kiosk", segment_seconds=2, keep_free=Size(0)),
        upload=Upload(target=f"s3://{bucket.name}/clinic", endpoint_url=bucket.store.url),
        commands=Commands(admin_keys=(public_key(SEED),)),
        custody=Custody(key=tmp_path / "device.key", manifest_every=Duration(10)),
    )
    with Kiosk(settings, beside=tmp_path) as kiosk:
        clock = SystemClock()
        kiosk.layout.create()
        with Ledger(kiosk.layout.ledger, clock, create=True) as ledger:
            ledger.begin_boot(clock.wall_ns() - clock.monotonic_ns(), "server")
        yield kiosk


def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def erase(kiosk: Kiosk, *arguments: str) -> dict[str, Any]:
    file = kiosk.runtime.parent / "room.toml"
    file.write_text(as_toml(kiosk.settings))
    told = run(
        "agent.cli", "erase", "--config", str(file), "--yes", "--json", *arguments, RUNTIME_DIRECTORY=str(kiosk.runtime)
    )
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def audio(kiosk: Kiosk) -> set[str]:
    return {path.name.partition(".")[0] for path in kiosk.layout.spool.rglob("*.flac")}


def everything_is_told(kiosk: Kiosk) -> bool:
    """Whether the store has every recording, and manifests of all that the recorder did."""
    with kiosk.ledger() as ledger:
        last = ledger.last_manifest()
        if last is None or "pending" in ledger.tally():
            return False
        return {entry.kind for entry in ledger.entries(last.body["last"])} <= {"manifest", "tombstone"}


@pytest.mark.timeout(240)
def test_what_a_person_erases_goes_from_kiosk_and_store(
    kiosk: Kiosk, bucket: Bucket, soundcard: Soundcard, tmp_path: Path
) -> None:
    recorder = kiosk.record(soundcard(numbered(60_000 * 5)))
    courier = kiosk.upload()
    eventually(lambda: sum(s.state == "acknowledged" for s in kiosk.segments()) >= 2, "recordings are in the store", 60)
    told = erase(kiosk, "--last", "1h", "--reason", "asked by the patient")
    erased = {s.name: s for s in kiosk.segments() if s.state == "erased"}
    assert set(told["recordings"]) == {str(name) for name in erased}
    assert not audio(kiosk) & set(told["recordings"])
    keys = {s.key for s in erased.values() if s.key is not None}
    assert len(keys) >= 2
    tombstone = f"clinic/north/room-1/custody/erase-{told['id']}.json"
    eventually(lambda: tombstone in bucket.contents(), "the tombstone is in the store", 60)
    count = len(kiosk.segments())
    eventually(lambda: len(kiosk.segments()) > count, "recording goes on", 30)
    stop(recorder)
    eventually(lambda: everything_is_told(kiosk), "manifests tell all that the journal does", 60)
    stop(courier)
    enrolment = tmp_path / "room-1.json"
    key = public_key(seeds.load(tmp_path / "device.key", ""))
    enrolment.write_text(Enrolment("north", "room-1", key, "2026-03-01T08:00:00Z").text())
    place = [f"s3://{bucket.name}/clinic", "--endpoint-url", bucket.store.url]
    admin = bucket.store.admin.environment
    trusted = ["--enrolment", str(enrolment), "--json"]
    verify = ["verify", *place, *trusted, "--read"]
    before = run("fleet.cli", *verify, **admin)
    assert before.returncode == 1, before.stderr
    (found,) = json.loads(before.stdout)
    assert found["found"] == {"erased": len(keys)}
    assert {finding["place"] for finding in found["findings"]} == keys
    applied = run("fleet.cli", "erase-apply", *place, *trusted, "--yes", **admin)
    assert applied.returncode == 0, applied.stderr
    assert {grave["key"] for grave in json.loads(applied.stdout)} == keys
    assert not keys & bucket.contents().keys()
    after = run("fleet.cli", *verify, **admin)
    assert after.returncode == 0, after.stdout
    (found,) = json.loads(after.stdout)
    assert (found["good"], found["findings"], found["unproven_objects"]) == (True, [], 0)
    assert found["otherwise"]["erased"]["count"] == len(erased)
    kept = sum(segment.state == "acknowledged" for segment in kiosk.segments())
    assert found["verified"]["recordings"] == kept
    assert kiosk.found_wrong() == []
    kinds = [entry.kind for entry in Ledger(kiosk.layout.ledger, SystemClock(), read_only=True).entries()]
    assert (kinds.count("erasure"), kinds.count("tombstone")) == (1, 1)


def test_an_admin_erases_by_command_what_is_on_the_card_and_in_memory(kiosk: Kiosk, soundcard: Soundcard) -> None:
    recorder = kiosk.record(soundcard(numbered(60_000 * 5)))
    eventually(lambda: len(kiosk.segments()) >= 2, "recordings are on the card", 30)
    write_variants(kiosk.runtime, kiosk.layout.state, {"offline_recording": "off"})
    memory = kiosk.runtime / "direct" / "spool" / "sealed"
    eventually(lambda: len(list(memory.glob("*.flac"))) >= 2, "recordings are in memory", 30)
    before = {path.name.partition(".")[0] for path in memory.glob("*.flac")} | audio(kiosk)
    mailbox, found = Mailbox(kiosk.runtime), list[dict[str, Any]]()
    made = compose("erase", {"last": "1h"}, site="north", device="room-1", now_ns=time.time_ns(), lifetime_s=300)
    mailbox.hand_over(made["id"], sign("command", made, SEED))

    def answered() -> bool:
        answer = mailbox.answer(made["id"])
        found.extend([] if answer is None else [answer])
        return bool(found)

    eventually(answered, "an answer", 40)
    assert found[0]["ok"], found[0]
    eventually(lambda: not {path.name.partition(".")[0] for path in memory.glob("*")} & before, "memory is rid of it")
    stop(recorder)
    assert not audio(kiosk) & before
    assert {s.state for s in kiosk.segments() if str(s.name) in before} == {"erased"}
    assert kiosk.found_wrong() == []


def test_without_a_recorder_it_is_done_at_once(kiosk: Kiosk, soundcard: Soundcard) -> None:
    recorder = kiosk.record(soundcard(numbered(60_000 * 5)))
    eventually(lambda: len(kiosk.segments()) >= 2, "recordings are on the card", 30)
    stop(recorder)
    told = erase(kiosk, "--from", "today")
    assert len(told["recordings"]) == len(kiosk.segments())
    assert audio(kiosk) == set()
    assert kiosk.found_wrong() == []
