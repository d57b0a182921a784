"""A bucket. The only importer of boto3's core in `fleet/`."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from agent.errors import KioskError
from agent.units import NS_PER_S
from fleet.store import Found

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BLOCK: Final = 1 << 18
CONNECTIONS: Final = 16
_REMOVING: Final = "these credentials need s3:ListBucketVersions and s3:DeleteObjectVersion; a locked object waits"
_READING: Final = "look at --endpoint-url and at the credentials: they need s3:ListBucket and s3:GetObject here"


class Bucket:
    """One bucket and prefix, with the credentials of boto3's own chain. It needs s3:ListBucket and s3:GetObject."""

    def __init__(self, name: str, prefix: str, *, endpoint_url: str = "", region: str = "") -> None:
        """Connects to nothing yet. Raises KioskError for what can't be an address."""
        self.prefix = prefix.strip("/")
        self._name = name
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 5},
            max_pool_connections=CONNECTIONS,
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        )
        try:
            created = Session().create_client(
                "s3", region_name=region or None, endpoint_url=endpoint_url or None, config=config
            )
        except (BotoCoreError, ValueError) as error:
            raise KioskError(
                "open store", place=f"s3://{name}", cause=str(error), hint="look at --endpoint-url and --region"
            ) from error
        self._client = cast("S3Client", created)

    def walk(self, prefix: str) -> Iterator[Found]:
        with self._told(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield Found(entry["Key"], entry["Size"], round(entry["LastModified"].timestamp() * NS_PER_S))

    def below(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix, Delimiter="/")
        with self._told(prefix):
            named = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
        return [name.removeprefix(prefix).rstrip("/") for name in named]

    def read(self, key: str, most: int) -> bytes:
        with self._told(key):
            return self._client.get_object(Bucket=self._name, Key=key)["Body"].read(most)

    def sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._told(key):
            try:
                body = self._client.get_object(Bucket=self._name, Key=key)["Body"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                    return ""
                raise
            for block in body.iter_chunks(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    def attested(self, key: str) -> str | None:
        with self._told(key):
            answer = self._client.head_object(Bucket=self._name, Key=key, ChecksumMode="ENABLED")
        told = answer.get("ChecksumSHA256", "")
        try:
            digest = base64.b64decode(told, validate=True)
        except binascii.Error:
            return None
        # A checksum of checksums, of an object that came in parts, is another thing.
        return digest.hex() if len(digest) == hashlib.sha256().digest_size else None

    def remove(self, key: str) -> None:
        with self._told(
            key, "remove object", "these credentials need s3:ListBucketVersions and s3:DeleteObjectVersion"
        ):
            versions = self._versions(key)
            for version in versions:
                self._client.delete_object(Bucket=self._name, Key=key, VersionId=version)
            if not versions:
                self._client.delete_object(Bucket=self._name, Key=key)

    def _versions(self, key: str) -> list[str]:
        """Of an object in a bucket that keeps old ones: a plain removal would only hide it. Marks of removal count."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._name, Prefix=key)
        return [
            each["VersionId"]
            for page in pages
            for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if each["Key"] == key and each["VersionId"] != "null"
        ]

    @contextmanager
    def _told(self, key: str, operation: str = "read store", hint: str = _READING) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise KioskError(
                operation,
                place=f"s3://{self._name}/{key}",
                cause=str(error),
                hint=hint,
            ) from error
