"""The shipped policy of the bucket, in a real store, before a real upload and a kiosk that was taken."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from hw.clock import SystemClock
from tests.courier.kiosk import Kiosk
from tests.courier.process import courier
from tests.servers import Bucket, Key, S3Store, seaweedfs
from tests.soundcard import eventually

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS = Path(__file__).parents[2] / "fleet" / "access"
KIOSK = Key("room-12", "room-12-secret")
OWN, OTHERS = "rooms/north/room-12/recording.flac", "rooms/north/room-13/recording.flac"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """A store in which room-12 has no right but what a policy gives it."""
    with seaweedfs(tmp_path_factory.mktemp("store"), nobodies=[KIOSK]) as running:
        yield running


@pytest.fixture(scope="module")
def admin(store: S3Store) -> Iterator[S3Client]:
    with contextlib.closing(store.client()) as client:
        yield client


@pytest.fixture(scope="module")
def bucket(store: S3Store, admin: S3Client) -> Bucket:
    """A bucket as docs/SECURITY.md has it made, with another kiosk's recording in it."""
    name = "clinic-rooms"
    admin.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    lock: Any = json.loads((ACCESS / "object-lock.json").read_text())
    admin.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)
    policy = (ACCESS / "bucket-policy.json").read_text().replace("BUCKET/PREFIX/SITE", f"{name}/rooms/north")
    admin.put_bucket_policy(Bucket=name, Policy=policy)
    admin.put_object(Bucket=name, Key=OTHERS, Body=b"another's")
    return Bucket(store, name)


@pytest.fixture(scope="module")
def rogue(store: S3Store) -> Iterator[S3Client]:
    """Whoever has room-12's credentials."""
    session = boto3.session.Session(KIOSK.access, KIOSK.secret, region_name="us-east-1")
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    with contextlib.closing(session.client("s3", endpoint_url=store.url, config=config)) as client:
        yield client


def test_a_kiosk_uploads_with_no_more_than_that(bucket: Bucket, tmp_path: Path) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", SystemClock())
    kiosk.record(2)
    settings = kiosk.settings(f"s3://{bucket.name}/rooms", endpoint_url=bucket.store.url)
    with courier(settings, KIOSK.environment) as process:
        eventually(lambda: kiosk.states() == ["acknowledged"] * 2, f"both are uploaded: {process.log}", 40)
        assert process.end() == 0
    keys = bucket.keys()
    assert len([key for key in keys if key.startswith("rooms/north/room-12/")]) >= 2


ATTACKS: dict[str, Callable[[S3Client, str], object]] = {
    "put below another's prefix": lambda s3, name: s3.put_object(Bucket=name, Key=OTHERS + "2", Body=b"x"),
    "put over another's": lambda s3, name: s3.put_object(Bucket=name, Key=OTHERS, Body=b"x"),
    "put below its own name within another's prefix": lambda s3, name: s3.put_object(
        Bucket=name, Key="rooms/north/room-13/room-12/x", Body=b"x"
    ),
    "put at another site": lambda s3, name: s3.put_object(Bucket=name, Key="rooms/south/room-12/x", Body=b"x"),
    "put outside": lambda s3, name: s3.put_object(Bucket=name, Key="x", Body=b"x"),
    "put below the prefix of all": lambda s3, name: s3.put_object(Bucket=name, Key="rooms/x", Body=b"x"),
    "get its own": lambda s3, name: s3.get_object(Bucket=name, Key=OWN),
    "get another's": lambda s3, name: s3.get_object(Bucket=name, Key=OTHERS),
    "head its own": lambda s3, name: s3.head_object(Bucket=name, Key=OWN),
    "head another's": lambda s3, name: s3.head_object(Bucket=name, Key=OTHERS),
    "delete its own": lambda s3, name: s3.delete_object(Bucket=name, Key=OWN),
    "delete another's": lambda s3, name: s3.delete_object(Bucket=name, Key=OTHERS),
    "list": lambda s3, name: s3.list_objects_v2(Bucket=name),
    "list versions": lambda s3, name: s3.list_object_versions(Bucket=name),
    "copy another's to its own": lambda s3, name: s3.copy_object(Bucket=name, Key=OWN, CopySource=f"{name}/{OTHERS}"),
    "make its own public": lambda s3, name: s3.put_object_acl(Bucket=name, Key=OWN, ACL="public-read"),
    "shorten the lock": lambda s3, name: s3.put_object_retention(
        Bucket=name, Key=OWN, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": "2020-01-01T00:00:00Z"}
    ),
    "change the policy": lambda s3, name: s3.put_bucket_policy(Bucket=name, Policy="{}"),
    "take the lock away": lambda s3, name: s3.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_taken_kiosk_may_put_below_its_own_prefix_and_nothing_else(
    bucket: Bucket, admin: S3Client, rogue: S3Client, attack: str
) -> None:
    admin.put_object(Bucket=bucket.name, Key=OWN, Body=b"its own")
    with pytest.raises(ClientError) as refusal:
        ATTACKS[attack](rogue, bucket.name)
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert bucket.get(OTHERS)[0] == b"another's"


def test_what_a_taken_kiosk_writes_over_its_own_recording_is_kept_below_it(
    bucket: Bucket, admin: S3Client, rogue: S3Client
) -> None:
    key = "rooms/north/room-12/overwritten.flac"
    first = admin.put_object(Bucket=bucket.name, Key=key, Body=b"the truth")["VersionId"]
    rogue.put_object(Bucket=bucket.name, Key=key, Body=b"a lie")
    assert admin.get_object(Bucket=bucket.name, Key=key, VersionId=first)["Body"].read() == b"the truth"
    with pytest.raises(ClientError, match="AccessDenied"):
        admin.delete_object(Bucket=bucket.name, Key=key, VersionId=first)


def test_without_credentials_nobody_does_anything(bucket: Bucket) -> None:
    config = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    client = boto3.session.Session(region_name="us-east-1").client("s3", endpoint_url=bucket.store.url, config=config)
    with contextlib.closing(client) as stranger:
        for key in (OWN, "rooms/north//x", "rooms/north/anonymous/x"):
            with pytest.raises(ClientError, match="AccessDenied"):
                stranger.put_object(Bucket=bucket.name, Key=key, Body=b"x")
        with pytest.raises(ClientError, match="AccessDenied"):
            stranger.get_object(Bucket=bucket.name, Key=OTHERS)
