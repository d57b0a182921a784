"""A bucket as an auditor sees it, and as who erases does."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from typing import Any, Final

from agent.contract import bucket
from agent.contract.bucket import Found, Missing

_BLOCK: Final = 1 << 18
_REMOVING: Final = (
    "these credentials need s3:ListBucketVersions and s3:DeleteObjectVersion; what is locked "
    "waits, or takes --bypass-governance"
)


class Bucket:
    """One bucket and prefix, with the credentials of boto3's own chain. It needs s3:ListBucket and s3:GetObject."""

    def __init__(self, name: str, prefix: str, *, endpoint_url: str = "", region: str = "") -> None:
        """Connects to nothing yet. Raises KioskError for what can't be an address."""
        self.prefix = prefix.strip("/")
        self._bucket = bucket.Bucket(name, endpoint_url, region)
        # Made before threads ask for it.
        self._client = self._bucket.client

    def walk(self, prefix: str) -> Iterator[Found]:
        return self._bucket.objects(prefix)

    def below(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket.name, Prefix=prefix, Delimiter="/"
        )
        with self._bucket.told(prefix):
            named = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
        return [name.removeprefix(prefix).rstrip("/") for name in named]

    def read(self, key: str, most: int) -> bytes:
        with self._bucket.told(key):
            return self._client.get_object(Bucket=self._bucket.name, Key=key)["Body"].read(most)

    def sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        try:
            with self._bucket.told(key):
                body = self._client.get_object(Bucket=self._bucket.name, Key=key)["Body"]
                for block in body.iter_chunks(_BLOCK):
                    digest.update(block)
        except Missing:
            return ""
        return digest.hexdigest()

    def attested(self, key: str) -> str | None:
        try:
            with self._bucket.told(key):
                answer = self._client.head_object(Bucket=self._bucket.name, Key=key, ChecksumMode="ENABLED")
        except Missing:
            return ""
        told = answer.get("ChecksumSHA256", "")
        try:
            digest = base64.b64decode(told, validate=True)
        except binascii.Error:
            return None
        # A checksum of checksums, of an object that came in parts, is another thing.
        return digest.hex() if len(digest) == hashlib.sha256().digest_size else None

    def everything(self, prefix: str) -> Iterator[str]:
        last = ""
        with self._bucket.told(prefix, "read store", _REMOVING):
            for page in self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket.name, Prefix=prefix
            ):
                for each in page.get("Versions", []):
                    if each["Key"] != last:
                        last = each["Key"]
                        yield last

    def remove(self, key: str, *, bypass_governance: bool = False) -> None:
        # Not at all where it isn't meant: a store may refuse the mere word.
        how: dict[str, Any] = {"BypassGovernanceRetention": True} if bypass_governance else {}
        with self._bucket.told(key, "remove object", _REMOVING):
            for version in self._versions(key):
                self._client.delete_object(Bucket=self._bucket.name, Key=key, VersionId=version, **how)

    def _versions(self, key: str) -> list[str]:
        """All of an object, marks of removal too. "null" is what lay there before the bucket kept versions.

        By its version alone a thing is removed: a plain removal would only hide it.
        """
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket.name, Prefix=key)
        return [
            each["VersionId"]
            for page in pages
            for each in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if each["Key"] == key
        ]
