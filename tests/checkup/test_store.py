"""Real stores with credentials that may do what they should, less, and more."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from agent.checkup import clock as clock_area
from agent.checkup import store
from agent.checkup.visit import Visit
from agent.settings import Upload
from hw.clock import Clock, SystemClock
from tests.checkup.kiosk import SAMPLE, found, kiosk, verdicts, visit
from tests.servers import Bucket, free_ports

PREFIX = "rooms/north/room-1"

GOOD: Final = {
    "upload": "green",
    "overwriting": "green",
    "GET": "green",
    "HEAD": "green",
    "other kiosks": "green",
    "DELETE": "green",
}


def forbid(bucket: Bucket, *statements: Mapping[str, Any]) -> None:
    """Take from everybody what these statements name."""
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Principal": "*", **each} for each in statements],
    }
    with contextlib.closing(bucket.store.client()) as client:
        client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps(document))


def deleting(bucket: Bucket) -> dict[str, Any]:
    return {"Action": ["s3:DeleteObject"], "Resource": [f"arn:aws:s3:::{bucket.name}/*"]}


def putting_elsewhere(bucket: Bucket, allowed: str = f"{PREFIX}/*") -> dict[str, Any]:
    return {"Action": ["s3:PutObject"], "NotResource": [f"arn:aws:s3:::{bucket.name}/{allowed}"]}


def tight(bucket: Bucket) -> None:
    """What docs/CHECK.md tells an admin to allow."""
    forbid(bucket, deleting(bucket), putting_elsewhere(bucket))


def uploading(bucket: Bucket, root: Path, clock: Clock | None = None) -> Visit:
    upload = Upload(target=f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url, region="us-east-1")
    return visit(kiosk(root, upload=upload), clock, sample=SAMPLE)


def red(findings: Mapping[str, Any]) -> Sequence[str]:
    return [subject for subject, finding in findings.items() if finding.verdict == "red"]


def test_credentials_that_may_only_put_their_own_are_good(bucket: Bucket, tmp_path: Path) -> None:
    tight(bucket)
    checked = uploading(bucket, tmp_path)
    assert verdicts(found(store.look, checked)) == GOOD
    (key,) = bucket.keys()
    assert key.startswith(f"{PREFIX}/_check/")
    assert bucket.get(key)[0] == SAMPLE.flac
    assert checked.store_ahead_s is not None
    assert abs(checked.store_ahead_s) < 60


def test_credentials_that_may_delete_are_red(bucket: Bucket, tmp_path: Path) -> None:
    forbid(bucket, putting_elsewhere(bucket))
    findings = found(store.look, uploading(bucket, tmp_path))
    assert red(findings) == ["DELETE"]
    assert "whoever takes this kiosk can delete" in findings["DELETE"].text
    assert bucket.keys() == []


def test_credentials_that_may_read_are_red(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tight(bucket)
    for name, value in bucket.store.admin.environment.items():
        monkeypatch.setenv(name, value)
    assert red(found(store.look, uploading(bucket, tmp_path))) == ["GET", "HEAD"]


@pytest.mark.parametrize("allowed", ["rooms/north/*", f"{PREFIX}*", "rooms/*/room-1/*"])
def test_credentials_that_may_write_elsewhere_are_red(bucket: Bucket, tmp_path: Path, allowed: str) -> None:
    forbid(bucket, deleting(bucket), putting_elsewhere(bucket, allowed))
    findings = found(store.look, uploading(bucket, tmp_path))
    assert red(findings) == ["other kiosks"]
    assert "end the policy's resource in `/north/room-1/*`" in findings["other kiosks"].way_out


def test_credentials_that_may_not_put_are_red_and_nothing_else_is_claimed(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.store.visitor.environment.items():
        monkeypatch.setenv(name, value)
    findings = found(store.look, uploading(bucket, tmp_path))
    assert verdicts(findings) == {"upload": "red", "permissions": "grey"}
    assert "PutObject" in findings["upload"].way_out


def test_missing_credentials_say_where_they_are_looked_for(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    finding = found(store.look, uploading(bucket, tmp_path))["upload"]
    assert finding.verdict == "red"
    assert "credentials" in finding.text
    assert "AWS_PROFILE" in finding.way_out


def test_a_bucket_that_does_not_exist_is_red(bucket: Bucket, tmp_path: Path) -> None:
    finding = found(store.look, uploading(Bucket(bucket.store, "no-such-bucket"), tmp_path))["upload"]
    assert "NoSuchBucket" in finding.text
    assert "make the bucket" in finding.way_out


@pytest.mark.usefixtures("bucket")
def test_a_wrong_endpoint_is_red(tmp_path: Path) -> None:
    upload = Upload(target="s3://bucket", endpoint_url=f"http://127.0.0.1:{free_ports(1)[0]}", region="us-east-1")
    finding = found(store.look, visit(kiosk(tmp_path, upload=upload)))["upload"]
    assert finding.verdict == "red"
    assert "check the network" in finding.way_out


def test_tls_where_none_is_spoken_is_red(bucket: Bucket, tmp_path: Path) -> None:
    upload = Upload(
        target=f"s3://{bucket.name}", endpoint_url=bucket.store.url.replace("http", "https"), region="us-east-1"
    )
    finding = found(store.look, visit(kiosk(tmp_path, upload=upload)))["upload"]
    assert finding.verdict == "red"
    assert "SSL" in finding.text


def test_a_recording_of_the_spool_is_not_uploaded_by_the_check(bucket: Bucket, tmp_path: Path) -> None:
    tight(bucket)
    checked = uploading(bucket, tmp_path)
    checked.sample, checked.kept = None, SAMPLE
    assert verdicts(found(store.look, checked)) == GOOD
    ((key, content),) = bucket.contents().items()
    assert key.endswith(".txt")
    assert content == b"north/room-1 tries what it may do here\n"


def test_no_target_is_yellow(tmp_path: Path) -> None:
    assert verdicts(found(store.look, visit(kiosk(tmp_path)))) == {"upload": "yellow"}


def test_a_directory_takes_it_and_is_left_as_it_was(tmp_path: Path) -> None:
    disk = Path("/dev/shm") / f"check-{tmp_path.name}-{tmp_path.stat().st_ino}"  # noqa: S108 (another file system)
    disk.mkdir()
    try:
        findings = found(store.look, visit(kiosk(tmp_path, upload=Upload(target=f"file://{disk}")), sample=SAMPLE))
        assert verdicts(findings) == {"upload": "green", "overwriting": "green", "permissions": "yellow"}
        assert [path for path in disk.rglob("*") if path.is_file()] == []
    finally:
        for path in sorted(disk.rglob("*"), reverse=True):
            path.rmdir()
        disk.rmdir()


def test_a_directory_on_the_same_card_is_red(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "kiosk").mkdir()
    checked = visit(kiosk(tmp_path, upload=Upload(target=f"file://{tmp_path}/disk")))
    assert red(found(store.look, checked)) == ["disk"]


def test_a_directory_that_is_not_there_is_red(tmp_path: Path) -> None:
    checked = visit(kiosk(tmp_path, upload=Upload(target=f"file://{tmp_path}/disk")))
    assert "is the disk connected and mounted?" in found(store.look, checked)["upload"].way_out


class Skewed(SystemClock):
    """A clock that is an hour late."""

    def wall_ns(self) -> int:
        return super().wall_ns() - 3600 * 10**9


def test_the_store_tells_that_this_clock_is_wrong(bucket: Bucket, tmp_path: Path) -> None:
    tight(bucket)
    checked = uploading(bucket, tmp_path, clock=Skewed())
    found(store.look, checked)
    finding = found(clock_area.look, checked)["store's clock"]
    assert finding.verdict == "red"
    assert finding.facts["store_ahead_s"] == pytest.approx(3600, abs=60)
