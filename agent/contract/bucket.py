"""What lies in a bucket, for whoever may read it: a kiosk never does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import KioskError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class Found:
    """One object of a listing."""

    key: str
    size: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object, whole, and what is said about it there (`kr-…`)."""

    content: bytes
    metadata: Mapping[str, str]


class Bucket:
    """The bucket of an address `s3://bucket/…`. Credentials come by boto3's own chain. Raises KioskError."""

    def __init__(self, url: str, endpoint_url: str = "", region: str = "") -> None:
        """Connects to nothing yet."""
        self.name, _, self.below = url.removeprefix(SCHEME).partition("/")
        self._endpoint_url = endpoint_url
        self._region = region
        self._client: S3Client | None = None

    def objects(self, prefix: str) -> Iterator[Found]:
        """Everything below `prefix`, in the order of its keys."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            for page in self._connected().get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for each in page.get("Contents", []):
                    yield Found(each["Key"], each["Size"])
        except (BotoCoreError, ClientError) as error:
            raise self._refused("list", prefix, error) from error

    def fetch(self, key: str) -> Fetched:
        """One object."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._connected().get_object(Bucket=self.name, Key=key)
            return Fetched(answer["Body"].read(), answer["Metadata"])
        except (BotoCoreError, ClientError) as error:
            raise self._refused("fetch", key, error) from error

    def place(self, key: str) -> str:
        """Where an object is, for a person."""
        return f"{SCHEME}{self.name}/{key}"

    def _connected(self) -> S3Client:
        if self._client is None:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError

            config = Config(
                retries={"mode": "standard", "total_max_attempts": 4},
                connect_timeout=5,
                read_timeout=60,
                s3={"addressing_style": "path" if self._endpoint_url else "auto"},
            )
            try:
                self._client = boto3.client(
                    "s3", endpoint_url=self._endpoint_url or None, region_name=self._region or None, config=config
                )
            except (BotoCoreError, ValueError) as error:
                raise self._refused("reach", "", error) from error
        return self._client

    def _refused(self, what: str, key: str, error: Exception) -> KioskError:
        hint = "these credentials must be allowed to ListBucket and GetObject; a kiosk's own aren't"
        return KioskError(what, place=self.place(key), cause=str(error), hint=hint)
