"""Tombstones carried out in a real store: what they name goes, for ever, and nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.contract import seeds
from agent.contract.custody import Enrolment, Tombstone, custody_prefix
from agent.contract.keys import Recording
from agent.contract.signed import public_key, sign
from agent.errors import KioskError
from fleet.store import Folder
from tests.end_to_end.kiosk import ROOT
from tests.servers import Bucket, bucket, s3_store  # noqa: F401

RUN = "0123456789ab"
ID = "cd" * 16


def key(seq: int, device: str = "room-12") -> str:
    recording = Recording(
        run=RUN,
        seq=seq,
        start_ns=1_790_000_000 * 10**9 + seq * 60 * 10**9,
        frames=960_000,
        rate=16000,
        channels=1,
        boot="b" * 32,
        clock="synchronised",
        truncated=False,
        sha256=f"{seq:064x}",
        suffix=".flac",
    )
    return recording.key("clinic", "north", device)


def apply(place: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleet.cli", "erase-apply", place, *options],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


class Shelf:
    """A bucket with recordings of two kiosks, and a device that signs."""

    def __init__(self, shop: Bucket, place: Path) -> None:
        self.bucket = shop
        self.seed_file = place / "device.key"
        seeds.make(self.seed_file)
        self.seed = seeds.load(self.seed_file, "")
        self.enrolment = place / "room-12.json"
        self.enrolment.write_text(Enrolment("north", "room-12", public_key(self.seed), "2026-03-01T08:00:00Z").text())
        for seq in range(4):
            self.put(key(seq), b"sound")
            self.put(key(seq, "room-13"), b"sound")

    def put(self, key: str, content: bytes) -> None:
        with closing(self.bucket.store.client()) as client:
            client.put_object(Bucket=self.bucket.name, Key=key, Body=content)

    def bury(
        self,
        *segments: tuple[str, int, str | None],
        device: str = "room-12",
        seed: bytes | None = None,
    ) -> None:
        tombstone = Tombstone("north", "room-12", ID, "2026-03-01T08:00:00Z", "asked by the patient", list(segments))
        payload = sign("tombstone", tombstone.document(), seed or self.seed)
        self.put(custody_prefix("clinic", "north", device) + tombstone.name, payload)

    def apply(self, *options: str) -> subprocess.CompletedProcess[str]:
        trusted = [] if {"--enrolment", "--unsigned"} & {*options} else ["--enrolment", str(self.enrolment)]
        return apply(self.place, *self.address, *trusted, *options, **self.bucket.store.admin.environment)

    @property
    def address(self) -> list[str]:
        return ["--endpoint-url", self.bucket.store.url]

    @property
    def place(self) -> str:
        return f"s3://{self.bucket.name}/clinic"

    def there(self) -> set[str]:
        return {each for each in self.bucket.contents() if "/custody/" not in each}


@pytest.fixture
def shelf(bucket: Bucket, tmp_path: Path) -> Shelf:  # noqa: F811
    return Shelf(bucket, tmp_path)


def test_what_a_tombstone_names_goes_and_nothing_else(shelf: Shelf) -> None:
    before = shelf.there()
    shelf.bury((RUN, 1, key(1)), (RUN, 2, key(2)), (RUN, 9, key(9)), (RUN, 8, None))
    dry = shelf.apply("--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert [grave["fate"] for grave in json.loads(dry.stdout)] == ["present", "present", "absent"]
    assert shelf.there() == before
    unasked = shelf.apply()
    assert (unasked.returncode, "nothing was done" in unasked.stderr) == (2, True)
    assert shelf.there() == before
    done = shelf.apply("--yes", "--enrolment", str(shelf.enrolment))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("removed") == 2
    assert shelf.there() == before - {key(1), key(2)}
    again = shelf.apply("--yes", "--json")
    assert [grave["fate"] for grave in json.loads(again.stdout)] == ["absent"] * 3
    assert again.returncode == 0


def test_what_is_not_its_own_recording_is_refused_and_named(shelf: Shelf) -> None:
    before = shelf.there()
    manifest = custody_prefix("clinic", "north", "room-12") + f"{'a' * 12}-000000001-000000009.json"
    shelf.put(manifest, b"{}")
    strange = [key(1, "room-13"), key(2), manifest, key(3).replace("clinic", "clinic/../clinic")]
    shelf.bury(*((RUN, 1, each) for each in strange))
    found = shelf.apply("--yes", "--json")
    assert found.returncode == 1
    graves = json.loads(found.stdout)
    assert [grave["fate"] for grave in graves] == ["refused"] * 4
    assert [grave["key"] for grave in graves] == strange
    assert shelf.there() == before
    assert manifest in shelf.bucket.contents()


def test_in_a_directory_no_key_leads_to_another_devices_recording(tmp_path: Path) -> None:
    root = tmp_path / "store"
    theirs = root / key(1, "room-13").removeprefix("clinic/")
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"sound")
    device = root / "north" / "room-12"
    ways = [
        f"north/room-12/../room-13/2026/09/21/{theirs.name}",
        f"north/room-12/2026/09/../../../room-13/2026/09/21/{theirs.name}",
        f"north/room-12/2026/09/21/./{theirs.name}",
        f"north/room-12//2026/09/21/{theirs.name}",
    ]
    stone = Tombstone("north", "room-12", ID, "2026-03-01T08:00:00Z", "", [(RUN, 1, way) for way in ways])
    (device / "custody").mkdir(parents=True)
    (device / "custody" / stone.name).write_bytes(sign("tombstone", stone.document(), bytes(32)))
    assert theirs.relative_to(root).parent == Path("north/room-13/2026/09/21")
    found = apply(str(root), "--unsigned", "--yes", "--json")
    assert found.returncode == 1, found.stderr
    assert [(grave["fate"], grave["key"]) for grave in json.loads(found.stdout)] == [("refused", way) for way in ways]
    assert theirs.exists()


@pytest.mark.parametrize("way", ["north/../x", "../x", "./x", "north//x", "/x"])
def test_a_directory_gives_away_nothing_beside_it(tmp_path: Path, way: str) -> None:
    (tmp_path / "store" / "north").mkdir(parents=True)
    (tmp_path / "store" / "x").write_bytes(b"sound")
    (tmp_path / "x").write_bytes(b"sound")
    folder = Folder(tmp_path / "store")
    reach: list[Callable[[str], object]] = [
        folder.remove,
        folder.sha256,
        lambda key: folder.read(key, 1),
        lambda key: folder.below(f"{key}/"),
        lambda key: list(folder.walk(f"{key}/")),
    ]
    for touch in reach:
        with pytest.raises(KioskError, match="no object is called so"):
            touch(way)
    assert (tmp_path / "x").exists()


def test_another_devices_tombstone_and_a_forged_one_count_for_nothing(shelf: Shelf) -> None:
    before = shelf.there()
    shelf.bury((RUN, 1, key(1)), device="room-13")
    shelf.bury((RUN, 2, key(2)), seed=bytes(range(32)))
    shelf.put(custody_prefix("clinic", "north", "room-12") + f"erase-{'e' * 16}.json", b"garbage")
    found = shelf.apply("--yes", "--json")
    assert found.returncode == 1
    assert [grave["fate"] for grave in json.loads(found.stdout)] == ["refused"] * 3
    assert shelf.there() == before
    heeded = shelf.apply("--yes", "--json", "--unsigned")
    assert sorted(grave["fate"] for grave in json.loads(heeded.stdout)) == ["refused", "refused", "removed"]
    assert shelf.there() == before - {key(2)}


def test_in_a_bucket_that_keeps_old_versions_all_of_them_go(shelf: Shelf) -> None:
    """Those from before it did, too, and those that lie hidden behind a mark of removal."""
    with closing(shelf.bucket.store.client()) as client:
        client.put_bucket_versioning(Bucket=shelf.bucket.name, VersioningConfiguration={"Status": "Enabled"})
        client.put_object(Bucket=shelf.bucket.name, Key=key(1), Body=b"second")
        client.put_object(Bucket=shelf.bucket.name, Key=key(7), Body=b"first")
        client.put_object(Bucket=shelf.bucket.name, Key=key(7), Body=b"second")
        client.delete_object(Bucket=shelf.bucket.name, Key=key(7))
        client.delete_object(Bucket=shelf.bucket.name, Key=key(2))
        shelf.bury(*((RUN, seq, key(seq)) for seq in (1, 2, 3, 7)))
        done = shelf.apply("--yes", "--json")
        assert [grave["fate"] for grave in json.loads(done.stdout)] == ["removed"] * 4
        left = client.list_object_versions(Bucket=shelf.bucket.name, Prefix="clinic/north/room-12/2026")
    assert {each["Key"] for each in left["Versions"]} == {key(0)}
    assert "DeleteMarkers" not in left


def test_what_a_lock_protects_waits_unless_one_may_and_means_to_go_round_it(shelf: Shelf) -> None:
    shelf.bucket = Bucket(shelf.bucket.store, f"{shelf.bucket.name}-locked")
    with closing(shelf.bucket.store.client()) as client:
        client.create_bucket(Bucket=shelf.bucket.name, ObjectLockEnabledForBucket=True)
        lock = json.loads((ROOT / "fleet" / "access" / "object-lock.json").read_text())
        client.put_object_lock_configuration(Bucket=shelf.bucket.name, ObjectLockConfiguration=lock)
    shelf.put(key(1), b"sound")
    shelf.put(key(2), b"sound")
    shelf.bury((RUN, 1, key(1)))
    refused = shelf.apply("--yes", "--json")
    (grave,) = json.loads(refused.stdout)
    assert (refused.returncode, grave["fate"], "--bypass-governance" in grave["why"]) == (1, "refused", True)
    assert shelf.there() == {key(1), key(2)}
    done = shelf.apply("--yes", "--bypass-governance")
    assert done.returncode == 0, done.stdout
    assert shelf.there() == {key(2)}


def test_copies_go_too_whatever_key_the_tombstone_knows(shelf: Shelf) -> None:
    """After a lost ledger a recording may be uploaded again, and the kiosk knows one of its keys or none."""
    again = [key(seq).replace("/20260921T", "/20260920T").replace("/09/21/", "/09/20/") for seq in (1, 2)]
    for each in again:
        shelf.put(each, b"sound")
    before = shelf.there()
    shelf.bury((RUN, 1, key(1)), (RUN, 2, None), (RUN, 8, None))
    done = shelf.apply("--yes", "--json")
    gone = {key(1), key(2), *again}
    assert {grave["key"] for grave in json.loads(done.stdout)} == gone
    assert before >= gone
    assert shelf.there() == before - gone


@pytest.mark.parametrize("both", [False, True])
def test_whose_tombstones_count_must_be_said(tmp_path: Path, *, both: bool) -> None:
    found = apply(str(tmp_path), "--yes", *(["--unsigned", "--enrolment", str(tmp_path)] if both else []))
    assert (found.returncode, found.stdout) == (2, "")
    assert "whose tombstones count?\n  → give the kiosks' --enrolment; or --unsigned" in found.stderr


def test_a_place_that_is_none_is_told_of(tmp_path: Path) -> None:
    found = apply(str(tmp_path / "none"), "--unsigned")
    assert (found.returncode, "no such directory" in found.stderr) == (2, True)
