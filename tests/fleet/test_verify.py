"""`kiosk-fleet verify`: each kind of tampering is found and named, and a clean store raises no alarm."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.contract.custody import Manifest, link
from agent.contract.signed import sign
from agent.courier.targets.s3 import S3Target
from fleet.bucket import Bucket as FleetBucket
from fleet.cli import app
from tests.fleet.room import DEVICE, SITE, Room
from tests.servers import Bucket, bucket, s3_store  # noqa: F401

BELOW = f"{SITE}/{DEVICE}"


@dataclass(slots=True)
class Audit:
    """A store that a test may tamper with, and what the admin has."""

    store: Path
    enrolment: Path
    heads: Path
    public: str

    @property
    def recordings(self) -> list[Path]:
        return sorted(path for path in (self.store / BELOW).rglob("*.flac*") if "custody" not in path.parts)

    @property
    def manifests(self) -> list[Path]:
        return sorted(path for path in (self.store / BELOW / "custody").glob("*.json") if path.name.count(".") == 1)

    def verify(self, *options: str, heads: bool = False) -> dict[str, Any]:
        return verify(self.store, self.enrolment, *(["--heads", str(self.heads)] if heads else []), *options)


def verify(place: Path | str, enrolment: Path, *options: str, status: int | None = None) -> dict[str, Any]:
    answer = CliRunner().invoke(app, ["verify", str(place), "--enrolment", str(enrolment), "--json", *options])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.output
    (told,) = json.loads(answer.stdout)
    assert answer.exit_code == (0 if told["good"] else 1), answer.output
    assert status in (None, answer.exit_code)
    found: dict[str, Any] = told
    return found


def found(told: dict[str, Any]) -> set[str]:
    return set(told["found"])


@pytest.fixture(scope="module", autouse=True)
def _no_power_cut() -> Iterator[None]:
    """Thousands of files are made here, and none needs to be durable."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A store of a day and a half."""
    room = Room(tmp_path_factory.mktemp("days"), length_s=1800)
    heads = room.place / "heads.txt"
    with heads.open("w") as file:
        for _ in range(6):
            room.live(6)
            file.write(room.head_line())
            room.restart()
    room.sign()
    with heads.open("a") as file:
        file.write(room.head_line())
    return room


@pytest.fixture
def audit(days: Room, tmp_path: Path) -> Audit:
    shutil.copytree(days.store, tmp_path / "store")
    shutil.copy(days.place / "heads.txt", tmp_path / "all-heads.txt")
    return Audit(tmp_path / "store", days.enrolment, tmp_path / "all-heads.txt", days.public)


def test_a_clean_store_raises_no_alarm_and_is_told_in_full(audit: Audit) -> None:
    told = audit.verify(heads=True)
    assert told["good"]
    assert told["findings"] == []
    assert told["verified"]["recordings"] == len(audit.recordings) == 72
    assert told["verified"]["seconds"] == 36 * 3600
    assert told["verified"]["by"] == {"read": 72}
    assert told["gaps"] == {"restart": {"count": 6, "seconds": 18.0}}
    assert [epoch["whole"] for epoch in told["epochs"]] == [True]
    assert told["proved_until"] is not None
    assert told["newest_head"]["untold"] == 1  # that the store has the last manifest


def test_thirty_days_with_restarts_evictions_new_recipients_and_a_lost_ledger_raise_no_alarm(tmp_path: Path) -> None:
    room = Room(tmp_path, length_s=1200, sign_every_s=4 * 3600)
    heads = tmp_path / "heads.txt"
    with heads.open("w") as file:
        for day in range(30):
            room.live(10)
            room.restart()
            room.evict(2)
            file.write(room.head_line())
            if day % 7 == 3:
                room.reboot()
            if day == 10:
                room.suffix = ".flac.age"
            if day == 17:
                room.lose_ledger()
            room.live(13)
    told = verify(room.store, room.enrolment, "--heads", str(heads))
    assert told["findings"] == []
    assert told["good"]
    assert len(told["epochs"]) == 2
    # Two were given up between the lost ledger's last manifest and its loss.
    assert told["otherwise"]["evicted"]["count"] == 58
    assert set(told["gaps"]) == {"restart", "power_off"}
    # What the lost ledger knew since its last manifest; what came since the last one of all.
    assert told["unproven_objects"] < 2 * 4 * 3
    assert told["verified"]["recordings"] + told["unproven_objects"] == 30 * 23 * 3
    assert room.ledger.first() > 1


def _delete(audit: Audit) -> str:
    audit.recordings[7].unlink()
    return "missing"


def _truncate(audit: Audit) -> str:
    path = audit.recordings[7]
    path.write_bytes(path.read_bytes()[:-1])
    return "altered"


def _replace(audit: Audit) -> str:
    path = audit.recordings[7]
    path.write_bytes(bytes(path.stat().st_size))
    return "altered"


def _swap(audit: Audit) -> str:
    by_size: dict[int, Path] = {}
    for path in audit.recordings:
        other = by_size.setdefault(path.stat().st_size, path)
        if other is not path:
            one, two = path.read_bytes(), other.read_bytes()
            path.write_bytes(two)
            other.write_bytes(one)
            return "reordered"
    pytest.fail("no two of a size")


def _add(audit: Audit) -> str:
    path = audit.recordings[7]
    shutil.copy2(path, path.with_name(path.name.replace("_0000", "_9000")))
    return "added"


def _add_a_stranger(audit: Audit) -> str:
    (audit.store / BELOW / "notes.txt").write_text("hello")
    return "added"


def _duplicate(audit: Audit) -> str:
    path = audit.recordings[7]
    shutil.copy2(path, path.with_name("20200101T000000Z" + path.name[16:]))
    return "duplicated"


def _replay_an_old_manifest(audit: Audit) -> str:
    shutil.copy2(audit.manifests[3], audit.manifests[9])
    return "replayed"


def _drop_a_manifest(audit: Audit) -> str:
    audit.manifests[9].unlink()
    return "missing"


def _edit_a_gap_reason(audit: Audit) -> str:
    path = next(path for path in audit.manifests if b"restart" in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b"restart", b"stalled"))
    return "altered"


def _reseal(seed: bytes, path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(json.loads(path.read_bytes())["signed"])
    change(document)
    path.write_bytes(sign("manifest", document, seed))


def _forge_with_another_key(audit: Audit) -> str:
    _reseal(bytes(32), audit.manifests[4], lambda _: None)
    return "forged"


def _strip_a_signature(audit: Audit) -> str:
    path = audit.manifests[4]
    path.write_text(json.dumps({"signed": json.loads(path.read_bytes())["signed"]}))
    return "unsigned"


def _tear_a_manifest(audit: Audit) -> str:
    path = audit.manifests[4]
    path.write_bytes(path.read_bytes()[:500])
    return "altered"


TAMPERING = [
    _delete,
    _truncate,
    _replace,
    _swap,
    _add,
    _add_a_stranger,
    _duplicate,
    _replay_an_old_manifest,
    _drop_a_manifest,
    _edit_a_gap_reason,
    _forge_with_another_key,
    _strip_a_signature,
    _tear_a_manifest,
]

ALSO = {"missing"}
"""Entries that only a manifest told which doesn't count."""


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__.strip("_"))
def test_tampering_is_found_and_named(audit: Audit, tamper: Callable[[Audit], str]) -> None:
    expected = tamper(audit)
    told = audit.verify()
    assert expected in found(told), told["findings"][:5]
    assert found(told) <= {expected, *ALSO}


def test_what_was_edited_and_still_reads_well_is_told_by_its_signature(audit: Audit) -> None:
    _edit_a_gap_reason(audit)
    first = audit.verify()["findings"][0]
    assert (first["kind"], first["text"]) == ("altered", "its signature is not that of its key")


def test_a_whole_epoch_that_is_gone_is_missing_where_a_later_one_promised_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(tmp_path)
    room.live(3)
    lost = room.ledger.epoch()
    room.live(0.5)
    with monkeypatch.context() as offline:
        offline.setattr("agent.courier.papers.Papers.bring", lambda *_: None)
        room.sign()
    reached = room.ledger.head()[0]
    room.lose_ledger()
    room.live(2)
    assert verify(room.store, room.enrolment)["good"]
    for path in (room.store / BELOW / "custody").glob(f"{lost}-*"):
        path.unlink()
    told = verify(room.store, room.enrolment)
    texts = [finding["text"] for finding in told["findings"] if finding["kind"] == "missing"]
    assert f"entries 1 to {reached} of epoch {lost}: the journal says that the store had them" in texts


def test_a_dropped_last_manifest_is_found_by_the_heads(audit: Audit) -> None:
    audit.manifests[-1].unlink()
    assert audit.verify()["good"]
    told = audit.verify(heads=True)
    assert found(told) == {"missing"}
    assert "that the store had them" in told["findings"][0]["text"]


def test_who_has_the_device_key_cant_rewrite_what_was_said_over_mqtt(audit: Audit, days: Room) -> None:
    """Root on the kiosk signs another past, from a manifest to the end, link by link: only the heads tell."""
    past = _OtherPast(days)
    for path in audit.manifests:
        past.rewrite(path)
    assert "muted" in audit.verify()["gaps"]
    assert found(audit.verify(heads=True)) == {"rewritten"}


def test_a_manifest_that_was_signed_anew_doesnt_fit_the_next_one(audit: Audit, days: Room) -> None:
    past = _OtherPast(days)
    next(path for path in audit.manifests if past.rewrite(path))
    told = audit.verify()
    assert found(told) == {"rewritten"}
    assert "doesn't follow from what was told before" in told["findings"][0]["text"]


class _OtherPast:
    """Changes gaps and signs anew by the device's own key, link by link from the first gap on."""

    def __init__(self, days: Room) -> None:
        self._seed = base64.b64decode(days.key.read_bytes())
        self._digest: bytes | None = None

    def rewrite(self, path: Path) -> bool:
        """Whether a manifest is another one now."""
        begun = self._digest is not None or b"restart" in path.read_bytes()
        if begun:
            _reseal(self._seed, path, self._relink)
        return begun

    def _relink(self, document: dict[str, Any]) -> None:
        digest = self._digest or bytes.fromhex(document["before"])
        document["before"] = digest.hex()
        for entry in document["entries"]:
            if entry[5] == "gap":
                entry[6]["reason"] = "muted"
            digest = link(digest, entry)
        document["after"] = digest.hex()
        self._digest = digest


def test_entries_that_dont_follow_are_found_though_the_key_is_right(audit: Audit, days: Room) -> None:
    seed = base64.b64decode(days.key.read_bytes())

    def change(document: dict[str, Any]) -> None:
        document["entries"][0][6]["run"] = "f" * 12

    path = audit.manifests[5]
    _reseal(seed, path, change)
    assert "rewritten" in found(audit.verify())
    Manifest.read(json.loads(json.loads(path.read_bytes())["signed"]))


def test_a_head_by_another_key_is_found(audit: Audit, days: Room, tmp_path: Path) -> None:
    other = Room(tmp_path / "other", seed=2)
    heads = tmp_path / "heads.txt"
    heads.write_text(days.head_line(other.head()))
    assert found(audit.verify("--heads", str(heads))) == {"forged"}


def test_lines_that_cant_be_read_end_no_audit(audit: Audit) -> None:
    line = audit.heads.read_text().splitlines()[0]
    with audit.heads.open("ab") as file:
        for bad in (b"hello", b"\xff\xfe", line[:60].encode(), b'kiosk/v1/a/b/telemetry {"ts": "\\ud800"}'):
            file.write(bad + b"\n")
    audit.manifests[-1].unlink()
    answer = CliRunner().invoke(
        app, ["verify", str(audit.store), "--enrolment", str(audit.enrolment), "--heads", str(audit.heads)]
    )
    assert answer.exit_code == 1, answer.output
    assert "4 lines can't be read and don't count" in answer.stderr
    assert "that the store had them" in answer.output
    audit.heads.write_text("hello\n")
    answer = CliRunner().invoke(
        app, ["verify", str(audit.store), "--enrolment", str(audit.enrolment), "--heads", str(audit.heads)]
    )
    assert answer.exit_code != 0
    assert "there is no head in it" in str(answer.exception)


def test_an_erased_recording_is_told_until_it_is_gone(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.live(3)
    segment = next(room.ledger.segments())
    path = room.store / room.key_of(segment)
    room.erase(segment)
    # The tombstone alone suffices, and so does the journal.
    for _ in range(2):
        told = verify(room.store, room.enrolment)
        assert found(told) == {"erased"}
        assert told["findings"][0]["place"] == room.key_of(segment)
        room.live(1)
        for stone in (room.store / BELOW / "custody").glob("erase-*"):
            stone.unlink()
    path.unlink()
    told = verify(room.store, room.enrolment)
    assert told["good"]
    assert told["otherwise"]["erased"]["count"] == 1


def test_a_device_that_nobody_enrolled_is_not_passed_over(audit: Audit) -> None:
    shutil.copytree(audit.store / BELOW, audit.store / SITE / "room-13")
    answer = CliRunner().invoke(app, ["verify", str(audit.store), "--enrolment", str(audit.enrolment)])
    assert answer.exit_code == 1
    assert "north/room-13 is in the store and not enrolled" in answer.output
    assert audit.verify("--device", f"{SITE}/{DEVICE}")["good"]


def test_measuring_alone_says_so_and_finds_what_it_can(audit: Audit) -> None:
    _replace(audit)
    told = audit.verify("--fast")
    assert told["good"]
    assert set(told["verified"]["by"]) == {"measured"}
    _delete(audit)
    _truncate(audit)
    assert found(audit.verify("--fast")) == {"missing", "altered"}


def test_what_a_person_reads(audit: Audit) -> None:
    _delete(audit)
    answer = CliRunner().invoke(
        app, ["verify", f"file://{audit.store}", "--enrolment", str(audit.enrolment), "--heads", str(audit.heads)]
    )
    assert answer.exit_code == 1
    for words in ("north/room-12: not as it should be", "the proof reaches to 20", "restart: 18 s in 6", "1 missing"):
        assert words in answer.output
    for bad in (["--enrolment", str(audit.heads)], ["--enrolment", str(audit.enrolment), "--device", "north/x"]):
        assert CliRunner().invoke(app, ["verify", str(audit.store), *bad]).exit_code != 0


@pytest.mark.parametrize("tamper", ["nothing", "delete", "replace", "replace and claim", "last manifest", "meanwhile"])
def test_in_a_bucket_the_stores_own_digest_proves_the_content(
    bucket: Bucket,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tamper: str,
) -> None:
    for name, value in bucket.store.admin.environment.items():
        monkeypatch.setenv(name, value)
    client = bucket.store.client()
    target = S3Target(bucket.name, "rooms", endpoint_url=bucket.store.url)

    def put(key: str, content: bytes) -> None:
        client.put_object(Bucket=bucket.name, Key=key, Body=content, ChecksumAlgorithm="SHA256")

    room = Room(tmp_path, target=target, put=put)
    room.live(3)
    (tmp_path / "heads.txt").write_text(room.head_line())
    keys = bucket.keys()
    victim = sorted(key for key in keys if key.endswith(".flac"))[4]
    size = len(bucket.get(victim)[0])
    if tamper == "delete":
        client.delete_object(Bucket=bucket.name, Key=victim)
    elif tamper == "replace":
        client.put_object(Bucket=bucket.name, Key=victim, Body=bytes(size))
    elif tamper == "replace and claim":
        put(victim, bytes(size))
    elif tamper == "last manifest":
        client.delete_object(Bucket=bucket.name, Key=max(key for key in keys if "custody" in key))
    elif tamper == "meanwhile":
        attested = FleetBucket.attested

        def vanishing(store: FleetBucket, key: str) -> str | None:
            client.delete_object(Bucket=bucket.name, Key=victim)
            return attested(store, key)

        monkeypatch.setattr(FleetBucket, "attested", vanishing)
    told = verify(
        f"s3://{bucket.name}/rooms",
        room.enrolment,
        "--heads",
        str(tmp_path / "heads.txt"),
        "--endpoint-url",
        bucket.store.url,
    )
    client.close()
    wrong = {
        "nothing": set(),
        "delete": {"missing"},
        "replace": {"altered"},
        "replace and claim": {"altered"},
        "last manifest": {"missing"},
        "meanwhile": {"missing"},
    }
    assert found(told) == wrong[tamper]
    assert told["verified"]["by"]["attested"] >= 11
